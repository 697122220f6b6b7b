"""Lets the routes of agents lead to the gateway's Service, which is in another namespace than most of them."""

from __future__ import annotations

from collections.abc import Collection

from kadre.kube import kinds
from kadre.kube.client import Client
from kadre.kube.errors import ApiError
from kadre.kube.kinds import Key, Object
from kadre.kube.owner import Owner
from kadre.operator.children.common import MANAGED_BY, MANAGER

_LABELS = {MANAGED_BY: MANAGER}


class Granting:
    """Keeps the ReferenceGrant, named as the Service is."""

    def __init__(self, client: Client, service: Key) -> None:
        self._client = client
        self._service = service

    async def keep(self, namespaces: Collection[str], owner: Owner | None) -> None:
        """Let routes of these namespaces lead there, and of no other. Raises ApiError."""
        kind = kinds.REFERENCE_GRANT
        others = sorted({*namespaces} - {self._service.namespace})
        there = await self._client.find(kind, self._service)
        if there is not None and not _LABELS.items() <= (there["metadata"].get("labels") or {}).items():
            raise ApiError(0, "NameTaken", "it is somebody else's; delete it: routes of agents lead nowhere")
        if not others:
            if there is not None:
                await self._client.delete(kind, *self._service, uid=there["metadata"]["uid"])
            return
        routes = [{"group": kind.group, "kind": kinds.HTTP_ROUTE.kind, "namespace": namespace} for namespace in others]
        spec = {"from": routes, "to": [{"group": "", "kind": "Service", "name": self._service.name}]}
        if there is not None and there.get("spec") == spec:
            return
        metadata: Object = {"name": self._service.name, "namespace": self._service.namespace, "labels": _LABELS}
        made: Object = {"apiVersion": kind.api_version, "kind": kind.kind, "metadata": metadata, "spec": spec}
        if there is None:
            metadata["ownerReferences"] = list(await owner.references(self._service.namespace)) if owner else []
            await self._client.create(kind, made)
        else:
            metadata |= {key: there["metadata"].get(key) for key in ("resourceVersion", "ownerReferences")}
            await self._client.replace(kind, made)
