"""Keeps the roots of objects that serve several agents, and takes all of them away."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from kadre.kube import compare, kinds
from kadre.kube.apply import Applier, NameTaken, Place
from kadre.kube.client import Client
from kadre.kube.kinds import Key, Kind, Object
from kadre.operator.children.rooted import Member
from kadre.operator.owned import Owned
from kadre.operator.rights import Rights


class Roots:
    """The roots of one sort, by where they are. `is_root`: whether an object is one."""

    def __init__(
        self, client: Client, owned: Owned, applier: Applier, rights: Rights, is_root: Callable[[Object], bool]
    ) -> None:
        self._client = client
        self._owned = owned
        self._applier = applier
        self._rights = rights
        self._is_root = is_root
        self._places: dict[str, Key] = {}
        """By the uid of each."""
        self._kept: dict[Key, tuple[frozenset[Member], bytes]] = {}
        """Of one that is as it is to be: for whom, and what the cluster had then."""

    def place(self, uid: str) -> Key | None:
        """Where the root of that uid is."""
        return self._places.get(uid)

    async def keep(self, place: Key, manifest: Object, members: frozenset[Member]) -> str:
        """Have the root belong to all these; its uid. Raises ApiError, NameTaken."""
        live, known = self._owned.live(kinds.CONFIG_MAP).get(place), self._kept.get(place)
        if live is not None and known == (members, live.digest):
            return live.uid
        there = await self._client.find(kinds.CONFIG_MAP, place)
        if there is not None and not self._is_root(there):
            raise NameTaken(Place(kinds.CONFIG_MAP, place))
        if there is not None and not _belongs(there, members):
            there = await self._client.apply(kinds.CONFIG_MAP, manifest)
        elif there is None:
            there = await self._client.apply_new(kinds.CONFIG_MAP, manifest)
        uid: str = there["metadata"]["uid"]
        self._places[uid] = place
        self._kept[place] = (members, compare.digest(there))
        return uid

    async def remove(self, place: Key, these: Sequence[Kind], also: Sequence[str] = ()) -> None:
        """Delete the root and what belongs to it. Kubernetes would do so, too: the root is nobody's who is there.

        `these`: kinds of what has the root's name; `also`: the names of other ConfigMaps.
        """
        root = self._owned.live(kinds.CONFIG_MAP).get(place)
        if root is not None and root.more.root:
            for kind in these:
                if self._rights.may(kind, "delete", namespace=place.namespace):
                    await self._applier.remove(Place(kind, place), root.uid)
            for name in also:
                await self._applier.remove(Place(kinds.CONFIG_MAP, Key(place.namespace, name)), root.uid)
            await self._client.delete(kinds.CONFIG_MAP, place.namespace, place.name, uid=root.uid)
        self._kept.pop(place, None)
        self._places = {uid: other for uid, other in self._places.items() if other != place}


def _belongs(there: Object, members: frozenset[Member]) -> bool:
    owners = there["metadata"].get("ownerReferences") or ()
    return {each["uid"] for each in owners} == {member.uid for member in members}
