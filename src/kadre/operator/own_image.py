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
    """The image of this process's pod in `namespace`; `kadre:latest` where it runs in none, or may not look.

    Raises KadreError where the cluster does not answer.
    """
    name = os.environ.get("POD_NAME") or socket.gethostname()
    try:
        pod = await client.get(kinds.POD, namespace, name)
    except ApiError as error:
        if not (error.missing or error.forbidden):
            raise KadreError(f"the cluster cannot be worked with: {error}") from error
        log.warning("agents run in the image %s: --agent-image names none, and our own is not known", ELSEWHERE)
        return ELSEWHERE
    containers = pod["spec"]["containers"]
    image: str = next((each for each in containers if each["name"] == CONTAINER), containers[0])["image"]
    return image
