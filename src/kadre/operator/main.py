"""The controller's process: connect, follow, act while it leads, until told to end."""

from __future__ import annotations

import asyncio
import logging
import os
import secrets
import signal
import socket
from contextlib import AsyncExitStack
from dataclasses import dataclass, field, replace

from kadre.api.registry import KINDS
from kadre.base import collector
from kadre.base.errors import KadreError
from kadre.base.tasks import first_of
from kadre.kube import access, leader
from kadre.kube.client import ALL, Client
from kadre.kube.errors import ApiError
from kadre.kube.kinds import Key
from kadre.kube.leader import Leader
from kadre.kube.owner import Owner
from kadre.operator import health, own_image, webhook
from kadre.operator.children.common import MANAGER, Settings
from kadre.operator.controller import Operator

log = logging.getLogger(__name__)

COLLECT = 2_000
"""The collector's threshold: what thousands of agents leave in cycles must not wait for long."""
LOCK = "kadre-controller"
"""The record by which replicas agree on who acts."""


@dataclass(frozen=True, slots=True)
class Options:
    """What the process is told."""

    leader_elect: bool = False
    deployment: str = ""
    """The Deployment that the process is a pod of; empty: of none that is known."""
    namespaces: tuple[str, ...] = ()
    """Those that it is confined to; none: the whole cluster."""
    metrics_address: str = ":8080"
    health_address: str = ":8081"
    agents: Settings = field(default_factory=Settings)
    webhook: webhook.Options = field(default_factory=webhook.Options)


async def run(options: Options) -> int:
    """Reconcile until told to end; the exit code. Raises KadreError where there is no cluster to work with."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    try:
        found = access.found()
    except LookupError as error:
        raise KadreError(str(error)) from error
    async with AsyncExitStack() as stack:
        client = await stack.enter_async_context(Client(found, MANAGER))
        image = options.agents.image or await own_image.find(client, found.namespace)
        agents = replace(options.agents, home=found.namespace, image=image)
        operator = Operator(client, agents, namespaces=options.namespaces or ALL)
        owner = Owner(client, Key(found.namespace, options.deployment))
        asking = None
        if options.webhook.on:
            asking = await webhook.serve(stack, client, operator.cluster, options.webhook, owner)
        if operator.publisher is not None:
            operator.publisher.owner = owner
        figures = health.Figures(operator, asking)
        await health.serve(stack, figures, options.metrics_address, options.health_address)
        for kind in KINDS.values():
            kind.model_rebuild()  # else it is completed when the first object of it is read, by the first who waits
        collector.settle(COLLECT)
        log.info("reconciling the cluster at %s", found.server)
        act = _lead(operator, client, found.namespace, owner) if options.leader_elect else operator.act()
        following, acting = asyncio.ensure_future(operator.follow()), asyncio.ensure_future(act)
        await first_of(_ended(following), _ended(acting), stop.wait())
        for task in (following, acting):
            if task.done():
                task.result()  # neither ends by itself but by a failure, which ends the process
            task.cancel()
        await asyncio.gather(following, acting, return_exceptions=True)
    return 0


async def _ended(task: asyncio.Future[None]) -> None:
    await asyncio.wait([task])


async def _lead(operator: Operator, client: Client, namespace: str, owner: Owner) -> None:
    try:
        lock = await leader.lock(client, Key(namespace, LOCK), owner=owner)
        await Leader(lock, _identity()).lead(operator.act)
    except ApiError as error:
        raise KadreError(f"the cluster cannot be worked with: {error}") from error
    # One that has lost the lead ends: what it knows may be old, and Kubernetes starts it anew.
    raise KadreError("this replica no longer leads")


def _identity() -> str:
    return f"{os.environ.get('POD_NAME') or socket.gethostname()}_{secrets.token_hex(4)}"
