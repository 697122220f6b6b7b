"""Writes what is said of an object, where it says something new."""

from __future__ import annotations

from kadre.kube.client import Client
from kadre.kube.errors import ApiError
from kadre.kube.kinds import Kind, Object
from kadre.operator.cluster import Declared, Ref, our_kinds


class Reporter:
    """The status of our objects, under one field manager."""

    def __init__(self, client: Client) -> None:
        self.writes = 0
        self._client = client
        self._kinds = {(kind.group, kind.kind): kind for kind in our_kinds()}

    async def report(self, ref: Ref, declared: Declared, status: Object) -> None:
        """Have the object's status be this. Nothing where it is gone, or another of the same name by now."""
        if status == declared.status:
            return
        kind: Kind = self._kinds[ref.group, ref.kind]
        obj = {
            "apiVersion": kind.api_version,
            "kind": kind.kind,
            "metadata": {"name": ref.name, "namespace": ref.namespace, "uid": declared.uid},
            "status": status,
        }
        self.writes += 1
        try:
            await self._client.apply(kind, obj, "status")
        except ApiError as error:
            if not (error.missing or error.conflict):
                raise
