"""Whose the objects are that a controller makes for itself: its Deployment's, with which Kubernetes takes them away.

A release that is uninstalled takes the controller's rights away before its pods have ended, so that the controller
cannot clear up itself; and one replica of several that ends must leave what the others share. Whoever collects the
objects of an owner that is gone has neither problem, needs no rights of ours, and works in one namespace as in all.
"""

from __future__ import annotations

import logging
from http import HTTPStatus

from kadre.kube import kinds
from kadre.kube.client import Client
from kadre.kube.errors import ApiError
from kadre.kube.kinds import Key, Object

log = logging.getLogger(__name__)

Owners = tuple[Object, ...]
"""The references of one object to its owners."""


class Owner:
    """The Deployment that this process is a pod of. An empty name: there is none."""

    def __init__(self, client: Client, deployment: Key) -> None:
        self._client = client
        self._deployment = deployment

    async def references(self, namespace: str) -> Owners:
        """For an object that is made in that namespace. Raises ApiError, `missing` where the Deployment has gone.

        What would be made then has nobody to take it away. Whoever may not see the Deployment makes objects of nobody.
        """
        if not self._deployment.name or namespace != self._deployment.namespace:
            return ()
        try:
            found = await self._client.find(kinds.DEPLOYMENT, self._deployment)
        except ApiError as error:
            if not error.forbidden:
                raise
            log.info("what is made in %s outlives the Deployment %s: %s", namespace, self._deployment, error)
            return ()
        if found is None or found["metadata"].get("deletionTimestamp"):
            gone = f"the Deployment {self._deployment} is gone, and this controller makes nothing more"
            raise ApiError(HTTPStatus.NOT_FOUND, "NotFound", f"{gone}: --deployment names the one that it is a pod of")
        kind = {"apiVersion": kinds.DEPLOYMENT.api_version, "kind": kinds.DEPLOYMENT.kind}
        return ({**kind, **{key: found["metadata"][key] for key in ("name", "uid")}},)
