"""Puts the definitions of our kinds into a cluster, and stops where somebody else's are, or another controller acts."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextlib import aclosing, suppress
from http import HTTPStatus

from kadre.api.crd import OURS
from kadre.base.clock import Clock, SystemClock
from kadre.base.errors import KadreError
from kadre.base.retry import Backoff
from kadre.kube import access, kinds
from kadre.kube.access import Access
from kadre.kube.client import Client, Scope
from kadre.kube.errors import ApiError
from kadre.kube.kinds import Kind, Object
from kadre.kube.leader import HOLDS, holder
from kadre.operator.children.common import MANAGER
from kadre.operator.main import LOCK

SERVED_SECONDS = 60.0
"""In which an API server serves a kind that it has accepted: a second or two."""
PATIENCE = 60.0
"""Seconds for which an API server is waited for that is away or busy: longer than it takes to start anew."""
DOUBT = 10.0
"""Seconds for which one that says no is asked again: as it starts it knows of no rights, and of no accounts."""
AGAIN = Backoff(attempts=1_000_000, first=0.5, limit=8.0)
BRIEF = 0.5
"""Seconds between two watches: a server that ends them at once would be asked without a pause."""


async def apply_crds(
    definitions: Sequence[Object], found: Access | None = None, *, sole: str = "", clock: Clock | None = None
) -> list[str]:
    """Apply them and wait until they are served; their names. Raises KadreError, before anything is changed.

    `found`: the cluster; None: the one we are in, else that of the kubeconfig's current context. `sole`: the namespace
    of the controller they are for, which is to be the only one.
    """
    try:
        found = found or access.found()
    except LookupError as error:
        raise KadreError(str(error)) from error
    async with Client(found, MANAGER) as client:
        try:
            await _patiently(lambda: _apply(client, definitions, sole), clock or SystemClock())
        except ApiError as error:
            raise KadreError(f"the definitions could not be applied: {error}") from error
        except TimeoutError as error:
            raise KadreError("the API server does not serve what it was given; see kubectl describe crd") from error
    return [definition["metadata"]["name"] for definition in definitions]


async def _patiently(work: Callable[[], Awaitable[None]], clock: Clock) -> None:
    """Do it again where the API server is away, busy or not quite there for a moment. Raises what it raises."""
    attempt, began, doubted = 0, clock.monotonic(), None
    while True:
        attempt += 1
        try:
            return await work()
        except ApiError as error:
            now = clock.monotonic()
            doubted = (now if doubted is None else doubted) if _says_no(error) else None
            if now - began >= _patience(error) or (doubted is not None and now - doubted >= DOUBT):
                raise
            asked = min(error.retry_after or 0.0, AGAIN.limit)
        await clock.sleep(max(asked, AGAIN.delay(attempt) or AGAIN.limit))


def _says_no(error: ApiError) -> bool:
    return error.status in {HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN}


def _patience(error: ApiError) -> float:
    """Seconds from the beginning in which that may pass."""
    away = error.status in {0, HTTPStatus.TOO_MANY_REQUESTS} or error.status >= HTTPStatus.INTERNAL_SERVER_ERROR
    return PATIENCE if away or error.expired or _says_no(error) else 0.0


async def _apply(client: Client, definitions: Sequence[Object], sole: str) -> None:
    await _refuse_foreign(client, definitions)
    if sole and (other := await another_controller(client, sole)):
        raise KadreError(
            f"a controller is at work in namespace {other}, and two would both run every agent: uninstall that "
            f"one (helm list -n {other}), or have each see namespaces of its own (the chart's watchNamespaces)"
        )
    for definition in definitions:
        await client.apply(kinds.CRD, definition)
    await asyncio.wait_for(_served(client, {made["metadata"]["name"] for made in definitions}), SERVED_SECONDS)


async def another_controller(client: Client, home: str, seconds: float = HOLDS + 1) -> str:
    """The namespace of a controller that acts elsewhere than in `home`, or the empty string. Raises ApiError.

    Leads are looked for where they are kept: in a Lease, and by a controller that may not use those in a ConfigMap.
    A lead that nobody gives back is that of a controller which ended by force, or of one at work: which of the two is
    seen in the `seconds` for which it holds without being renewed.
    """
    found = await asyncio.gather(*[_leader(client, kind, home, seconds) for kind in (kinds.LEASE, kinds.CONFIG_MAP)])
    return next(filter(None, found), "")


async def _leader(client: Client, kind: Kind, home: str, seconds: float) -> str:
    scope = Scope(name=LOCK)
    try:
        page = await client.list(kind, scope)
    except ApiError as error:
        if error.forbidden and kind is kinds.CONFIG_MAP:  # a role from before these were looked at
            return ""
        raise
    if not any(_leads(lock, home) for lock in page.items):
        return ""
    with suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            while True:
                async with aclosing(client.watch(kind, page.version, scope)) as events:
                    async for event in events:
                        if event.type in {"ADDED", "MODIFIED"} and _leads(event.object, home):
                            namespace: str = event.object["metadata"]["namespace"]
                            return namespace
                await asyncio.sleep(BRIEF)  # the server has ended it: what comes is told from the same point again
    return ""


def _leads(lock: Object, home: str) -> bool:
    """Whether that says that some controller elsewhere leads."""
    return lock["metadata"]["namespace"] != home and bool(holder(lock))


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
    """Wait until they are."""
    while True:
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
        await asyncio.sleep(BRIEF)  # the server has ended it


def _is_served(definition: Object) -> bool:
    conditions = definition.get("status", {}).get("conditions") or ()
    return any(each["type"] == "Established" and each["status"] == "True" for each in conditions)
