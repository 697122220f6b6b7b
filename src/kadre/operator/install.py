"""Puts the definitions of our kinds into a cluster, and takes none that somebody else has made."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import aclosing

from kadre.api.crd import OURS
from kadre.base.errors import KadreError
from kadre.kube import access, kinds
from kadre.kube.access import Access
from kadre.kube.client import Client
from kadre.kube.errors import ApiError
from kadre.kube.kinds import Object
from kadre.operator.children.common import MANAGER

SERVED_SECONDS = 60.0
"""In which an API server serves a kind that it has accepted: a second or two."""


async def apply_crds(definitions: Sequence[Object], found: Access | None = None) -> list[str]:
    """Apply them and wait until they are served; their names. Raises KadreError, before anything is changed.

    `found`: the cluster; None: the one we are in, else that of the kubeconfig's current context.
    """
    try:
        found = found or access.found()
    except LookupError as error:
        raise KadreError(str(error)) from error
    async with Client(found, MANAGER) as client:
        try:
            await _refuse_foreign(client, definitions)
            for definition in definitions:
                await client.apply(kinds.CRD, definition)
            await asyncio.wait_for(_served(client, {made["metadata"]["name"] for made in definitions}), SERVED_SECONDS)
        except ApiError as error:
            raise KadreError(f"the definitions could not be applied: {error}") from error
        except TimeoutError as error:
            raise KadreError("the API server does not serve what it was given; see kubectl describe crd") from error
    return [definition["metadata"]["name"] for definition in definitions]


async def _refuse_foreign(client: Client, definitions: Sequence[Object]) -> None:
    there = {each["metadata"]["name"]: each for each in (await client.list(kinds.CRD)).items}
    foreign = []
    for definition in definitions:
        name = definition["metadata"]["name"]
        ours = definition["metadata"]["labels"]
        if name in there and not ours.items() <= (there[name]["metadata"].get("labels") or {}).items():
            foreign.append(name)
    if foreign:
        label = ",".join(f"{key}={value}" for key, value in OURS.items())
        raise KadreError(
            f"somebody else's definitions are in this cluster: {', '.join(foreign)}; uninstall what they belong to, or "
            f"hand them over: kubectl label crd {' '.join(foreign)} {label} --overwrite"
        )


async def _served(client: Client, names: set[str]) -> None:
    page = await client.list(kinds.CRD)
    waiting = names - {each["metadata"]["name"] for each in page.items if _is_served(each)}
    if not waiting:
        return
    async with aclosing(client.watch(kinds.CRD, page.version)) as events:
        async for event in events:
            if event.type != "BOOKMARK" and _is_served(event.object):
                waiting.discard(event.object["metadata"]["name"])
            if not waiting:
                return


def _is_served(definition: Object) -> bool:
    conditions = definition.get("status", {}).get("conditions") or ()
    return any(each["type"] == "Established" and each["status"] == "True" for each in conditions)
