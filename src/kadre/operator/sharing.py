"""Copies of the installation's Secrets in the namespaces it shares them with, under the same names.

A copy belongs to a Role that the chart makes beside it, one a Secret and namespace: where a namespace is no longer
shared with, a Secret no longer wanted, or the release uninstalled, that Role goes, and Kubernetes takes the copy after
it. The controller needs no right to delete what it no longer knows of.
"""

from __future__ import annotations

import logging

from kadre.kube import kinds
from kadre.kube.client import Client
from kadre.kube.errors import ApiError
from kadre.kube.kinds import Key, Object
from kadre.kube.outcome import DONE, After, Outcome, Stop
from kadre.operator.children.common import MANAGED_BY, MANAGER, Settings
from kadre.operator.cluster import Ref
from kadre.operator.reporter import Reporter
from kadre.operator.status import News

log = logging.getLogger(__name__)

COPIED_FROM = "kagent.dev/copied-from"
"""Label of a copy: the namespace of the Secret it is a copy of."""
ROLE = "kadre-share-{}"
"""Name of the Role that gives the controller its rights to the copy of a Secret, and that owns it."""
CLOSED_SECONDS = 60.0
"""Between two tries where we may not, or where there is no such namespace; and between two looks for the Role of a
copy, of which nobody tells."""


class Sharing:
    """Keeps the copies."""

    def __init__(self, client: Client, reporter: Reporter, settings: Settings) -> None:
        self._client = client
        self._reporter = reporter
        self._home = settings.home
        self._names = settings.shared
        self._namespaces = frozenset(settings.share_with) - {settings.home}

    def copies(self, changed: Ref) -> list[Ref]:
        """The copies that a change of that object may concern."""
        if (changed.group, changed.kind) != (kinds.SECRET.group, kinds.SECRET.kind) or changed.name not in self._names:
            return []
        if changed.namespace == self._home:
            return [changed._replace(namespace=namespace) for namespace in sorted(self._namespaces)]
        return [changed] if changed.namespace in self._namespaces else []

    async def reconcile(self, ref: Ref) -> Outcome:
        """Have the copy be as its original, and be gone where that is gone. Raises ApiError."""
        try:
            return await self._shared(ref)
        except ApiError as error:
            if not (error.forbidden or error.missing):
                raise
            log.warning("the Secret %s is not shared with %s: %s", ref.name, ref.namespace, error)
            return After(CLOSED_SECONDS)

    async def _shared(self, ref: Ref) -> Outcome:
        original = await self._client.find(kinds.SECRET, Key(self._home, ref.name))
        there = await self._client.find(kinds.SECRET, Key(ref.namespace, ref.name))
        if there is not None and (there["metadata"].get("labels") or {}).get(COPIED_FROM) != self._home:
            if original is None:
                return DONE  # nothing is to be copied: a namespace may well have a Secret of its own
            message = f"it is not a copy of that in {self._home}, and is left as it is: the agents here use this one"
            await self._reporter.tell(
                kinds.SECRET, ref, there["metadata"]["uid"], News("NameTaken", message, good=False)
            )
            log.warning("the Secret %s/%s is somebody else's: no copy is put there", ref.namespace, ref.name)
            return Stop("NameTaken")
        if original is None:
            if there is not None:
                await self._client.delete(kinds.SECRET, ref.namespace, ref.name, uid=there["metadata"]["uid"])
            return DONE
        role = await self._client.find(kinds.ROLE, Key(ref.namespace, ROLE.format(ref.name)))
        await self._put(there, self._copy(ref, original, role))
        return DONE if role is not None else After(CLOSED_SECONDS)

    async def _put(self, there: Object | None, wanted: Object) -> None:
        if there is None:
            await self._client.create(kinds.SECRET, wanted)
        elif not _same(there, wanted):
            wanted["metadata"]["resourceVersion"] = there["metadata"]["resourceVersion"]
            await self._client.replace(kinds.SECRET, wanted)

    def _copy(self, ref: Ref, original: Object, role: Object | None) -> Object:
        metadata: Object = {
            "name": ref.name,
            "namespace": ref.namespace,
            "labels": {MANAGED_BY: MANAGER, COPIED_FROM: self._home},
        }
        if role is not None:
            owner = {"apiVersion": kinds.ROLE.api_version, "kind": kinds.ROLE.kind}
            metadata["ownerReferences"] = [{**owner, **{key: role["metadata"][key] for key in ("name", "uid")}}]
        # Opaque, whatever the original is: some types cannot be changed into others, and nobody looks at a copy's.
        return {"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "data": original.get("data") or {}}


def _same(there: Object, wanted: Object) -> bool:
    """Whether a copy is as it should be."""
    owned = there["metadata"].get("ownerReferences") == wanted["metadata"].get("ownerReferences")
    return bool(owned and (there.get("data") or {}) == wanted["data"])
