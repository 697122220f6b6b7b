"""The image this controller runs in, which agents run in too where nobody names another."""

from __future__ import annotations

import logging
import os
import socket

from kadre.base.errors import KadreError
from kadre.kube import kinds
from kadre.kube.client import Client
from kadre.kube.errors import ApiError

log = logging.getLogger(__name__)

CONTAINER = "controller"
"""The container that is ours, where a pod has others besides."""
ELSEWHERE = "kadre:latest"


async def find(client: Client, namespace: str) -> str:
    """The image of this process's pod in `namespace`; `kadre:latest` where it runs in none.

    Raises KadreError where it runs in one and cannot look: in another image every agent would be rolled.
    """
    told = os.environ.get("POD_NAME", "")
    name = told or socket.gethostname()
    try:
        pod = await client.get(kinds.POD, namespace, name)
    except ApiError as error:
        if error.forbidden or (error.missing and told):
            raise KadreError(
                f"agents run in this controller's own image, and which that is cannot be known: {error}; name it with "
                f"--agent-image, or let the controller get the pod {name} in namespace {namespace}"
            ) from error
        if not error.missing:
            raise KadreError(f"the cluster cannot be worked with: {error}") from error
        log.warning("agents run in the image %s: --agent-image names none, and our own is not known", ELSEWHERE)
        return ELSEWHERE
    containers = pod["spec"]["containers"]
    image: str = next((each for each in containers if each["name"] == CONTAINER), containers[0])["image"]
    return image
