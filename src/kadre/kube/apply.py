"""Puts objects into the cluster, and only where something differs: an object that is as it should be is not written.

Of each object only two digests are remembered: of what was wanted, and of what the cluster then had. While both are the
same there is nothing to do, and nothing is read; where one differs the object is read and compared field by field. One
that nobody has told us of is made unread, in a way that fails where something of its name is there after all.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

from kadre.kube import compare, hands
from kadre.kube.client import Client
from kadre.kube.errors import ApiError
from kadre.kube.kinds import DEPLOYMENT, Key, Kind, Object, shared

APPLIED = "kagent.dev/applied"
"""Annotation: the digest of what was applied last."""
ROUNDS = 3
"""In which what people add while we write is taken away; later additions are seen as every change is."""
SCALED = "kadre-replicas"
"""Field manager of a number of pods that an autoscaler has not set yet."""


class Seen(NamedTuple):
    """What is kept of an object that is ours: never the object."""

    uid: str
    owner: str
    """Uid of its controlling owner; empty where it has none."""
    digest: bytes
    more: Any = None
    """What else its user wants to know of it."""


class Place(NamedTuple):
    """Where an object is."""

    kind: Kind
    key: Key


class Settled(NamedTuple):
    """What is kept of an object that was found, or made, to be right."""

    wanted: bytes
    """Digest of what it was to be."""
    digest: bytes
    """Digest of what the cluster had then."""
    uid: str
    owner: str


class NameTaken(Exception):
    """An object of that name is there, and it belongs to somebody else."""

    def __init__(self, place: Place) -> None:
        super().__init__(f"{place.kind.kind} {place.key} is there already and belongs to somebody else")
        self.place = place


def _noted(manifest: Object, wanted: bytes) -> Object:
    """The manifest with its own digest: what is no longer wanted cannot be told by looking for what is."""
    metadata = manifest["metadata"]
    annotations = {**(metadata.get("annotations") or {}), APPLIED: wanted.hex()}
    return {**manifest, "metadata": {**metadata, "annotations": annotations}}


def _applied(obj: Object) -> str | None:
    annotations = obj["metadata"].get("annotations") or {}
    digest: str | None = annotations.get(APPLIED)
    return digest


def seen(obj: Object) -> Seen:
    """What is kept of an object. Uids are kept once: those of owners are many times there."""
    return Seen(shared(obj["metadata"]["uid"]), shared(owner_of(obj)), compare.digest(obj))


def owner_of(obj: Object) -> str:
    """Uid of the object's controlling owner, or the empty string."""
    references = obj["metadata"].get("ownerReferences") or ()
    return next((reference["uid"] for reference in references if reference.get("controller")), "")


class Applier:
    """Applies objects. `live`: what the cluster has of a kind, as the informers see it."""

    def __init__(self, client: Client, live: Callable[[Kind], Mapping[Key, Seen]]) -> None:
        self.writes = 0
        self._client = client
        self._live = live
        self._settled: dict[Place, Settled] = {}
        self._under_way: dict[Place, str] = {}
        """What is being looked at or written, and its owner."""
        self._corrected: set[Place] = set()

    def is_settled(self, place: Place) -> bool:
        """Whether the object still is as it was when it was found, or made, to be right.

        One that was made and has not been seen yet is on its way: of one that has gone again we would be told, by
        `forget` or `lost`.
        """
        known, live = self._settled.get(place), self._live(place.kind).get(place.key)
        return known is not None and (live is None or (known.uid, known.digest) == (live.uid, live.digest))

    async def ensure(self, place: Place, manifest: Object, owner: str, once: Object | None = None) -> Object | None:
        """Have the object that belongs there be so; what it is where that had to be looked up or written.

        `owner`: uid of its owner; `once`: fields of its spec that only a new object is given.

        Raises ApiError, NameTaken.
        """
        wanted = compare.digest(manifest)
        manifest = _noted(manifest, wanted)
        known = self._settled.get(place)
        if known is not None and known.wanted == wanted and self.is_settled(place):
            return None
        self._under_way[place] = owner
        try:
            new = known is None and place.key not in self._live(place.kind)
            made = await self._make(place.kind, manifest, once or {}) if new else None
            found = made or await self._have(place, manifest, owner)
            if place in self._under_way:  # else it has gone again before we knew that it was made
                self._settled[place] = Settled(wanted, compare.digest(found), shared(found["metadata"]["uid"]), owner)
        finally:
            self._under_way.pop(place, None)
        return found

    def was_corrected(self, place: Place) -> bool:
        """Whether somebody had changed what we had applied there, and it was put back; only the first one who asks."""
        corrected = place in self._corrected
        self._corrected.discard(place)
        return corrected

    async def _have(self, place: Place, manifest: Object, owner: str, rounds: int = ROUNDS) -> Object:
        there = await self._client.find(*place)
        if there is not None:
            if owner_of(there) != owner:
                raise NameTaken(place)
            taken = hands.taken_over(there, manifest, self._client.manager)
            if taken is None and compare.covers(there, manifest):
                return there
            if taken is not None:
                await self._take_over(place, there, taken)
            await self._hand_over(place.kind, there, manifest)
            if _applied(there) == _applied(manifest):
                self._corrected.add(place)
        self.writes += 1
        made = await self._client.apply(place.kind, manifest)
        # What somebody added between the look and the writing is in it, and would pass for right.
        added = hands.taken_over(made, manifest, self._client.manager) is not None
        return await self._have(place, manifest, owner, rounds - 1) if added and rounds else made

    async def _take_over(self, place: Place, there: Object, fields: list[Object]) -> None:
        """Have an object's fields belong to whom `fields` says. Raises ApiError: where it has changed since, too."""
        self.writes += 1
        metadata = {"resourceVersion": there["metadata"]["resourceVersion"], "managedFields": fields}
        await self._client.merge(place.kind, place.key, {"metadata": metadata})

    async def _make(self, kind: Kind, manifest: Object, once: Object) -> Object | None:
        """Make the object; None where something of that name is there, which nobody has told us of."""
        try:
            begun = {**manifest, "spec": {**manifest["spec"], **once}} if once else manifest
            made = await self._client.apply_new(kind, begun)
        except ApiError as error:
            if error.conflict:
                return None
            raise
        self.writes += 1
        return made

    async def _hand_over(self, kind: Kind, there: Object, manifest: Object) -> None:
        """Leave the number of pods to whoever scales them from now on: dropping our word for it would make it 1."""
        number = there.get("spec", {}).get("replicas")
        if kind is not DEPLOYMENT or number is None or "replicas" in manifest["spec"]:
            return
        await self._scale(there, number)

    async def wake(self, key: Key, owner: str, number: int) -> None:
        """Give that owner's Deployment so many pods if it is to have none: no autoscaler does. Raises ApiError."""
        there = await self._client.find(DEPLOYMENT, key)
        if there is not None and owner_of(there) == owner and there["spec"].get("replicas") == 0:
            self.writes += 1
            await self._scale(there, number)

    async def _scale(self, there: Object, number: int) -> None:
        """Set the number of a Deployment's pods, as it is somebody else's to change."""
        metadata = {key: there["metadata"][key] for key in ("name", "namespace")}
        what = {"apiVersion": DEPLOYMENT.api_version, "kind": DEPLOYMENT.kind}
        await self._client.apply(
            DEPLOYMENT, {**what, "metadata": metadata, "spec": {"replicas": number}}, manager=SCALED
        )

    async def remove(self, place: Place, owner: str) -> None:
        """Delete the object if it is that owner's. Raises ApiError."""
        known = self._settled.pop(place, None)
        found = self._live(place.kind).get(place.key) or known  # what was made just now may not have been seen yet
        if found is not None and found.owner == owner:
            self.writes += 1
            await self._client.delete(place.kind, *place.key, uid=found.uid)

    def forget(self, places: Iterable[Place]) -> None:
        """These have gone, or are nobody's concern any more."""
        for place in places:
            self._settled.pop(place, None)
            self._under_way.pop(place, None)
            self._corrected.discard(place)

    def lost(self, kind: Kind) -> set[str]:
        """Forget what should be there of a kind and is not, now that all there are have been listed; its owners.

        It was made and has gone again while nobody told us of either, or is younger than the list.
        """
        live = self._live(kind)
        missing = {place: known.owner for place, known in self._settled.items() if place.kind == kind}
        missing |= {place: owner for place, owner in self._under_way.items() if place.kind == kind}
        missing = {place: owner for place, owner in missing.items() if place.key not in live}
        self.forget(missing)
        return set(missing.values())
