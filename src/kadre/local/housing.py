"""What a process that serves agents in a cluster's pod is made of, and how it begins to serve and ends."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from kadre.base import collector
from kadre.base.addresses import Policy
from kadre.base.clock import Clock, SystemClock
from kadre.base.errors import ModelError
from kadre.base.tasks import Tasks
from kadre.engine import http_client
from kadre.engine.afar import Afar
from kadre.engine.agent import HostedAgent
from kadre.engine.host import Host
from kadre.engine.models.port import Startable
from kadre.engine.secrets import SecretReader
from kadre.engine.tools.mcp import McpPool
from kadre.local import serving
from kadre.local.hosting import Assembly, Installed, Journals
from kadre.local.logs import Logging
from kadre.local.mounted import MountedSecrets
from kadre.plan.types import PostgresPlan, SecretRef
from kadre.server import app
from kadre.server.identity import Verifier
from kadre.server.metrics import Metrics

log = logging.getLogger(__name__)

JOURNAL_KEY = "url"
METRICS_FIELD = "spec.observability.metrics.port"
"""Of an agent: where it says on which port its pods serve metrics."""
LINGER = 3.0
"""Seconds a pod that is told to end goes on taking messages: what sends them hears of its end that much later."""
WARMED = 8
"""Agents whose models and tools are started at once."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HouseSettings:
    """What every such process is told."""

    host: str = "0.0.0.0"  # noqa: S104 - a pod is reached from outside or not at all
    port: int = 8080
    metrics_port: int = 0
    """Where metrics are served besides; 0: nowhere."""
    data_dir: Path = Path("/var/lib/kadre")
    """Where conversations are kept that no server keeps: they go with the pod."""
    journal: Path | None = None
    """Folder whose file `url` holds the address of the journal for an agent that names no memory of its own."""
    gateway_keys: Path | None = None
    """Folder with the public keys of the gateway, whose word on who is calling is believed; None: nobody's is."""
    gateway_url: str = ""
    """Where the gateway is, through which agents are asked that are not served here; empty: they cannot be."""
    gateway_token: Path = Path("/var/run/kadre/gateway/token")
    """The token that says to it whose pod this is."""
    code_runner: str = ""
    """Where code is run that models write; empty: nowhere."""
    code_runner_token: Path = Path("/var/run/kadre/code-runner/token")
    """The token that says there whose pod this is."""
    grpc_port: int = 0
    """Where A2A is served over gRPC besides; 0: nowhere."""
    webhook_networks: tuple[str, ...] = ()
    """Where a run's webhooks may be besides public addresses, as CIDR."""
    linger: float = LINGER


class House(NamedTuple):
    """Its parts."""

    host: Host
    assembly: Assembly
    metrics: Metrics
    tasks: Tasks
    clock: Clock


@contextlib.asynccontextmanager
async def house(
    settings: HouseSettings, secrets: SecretReader, name: str, logs: Logging | None = None
) -> AsyncIterator[House]:
    """All of them, serving nobody yet. `name`: of its tasks."""
    clock = SystemClock()
    metrics = Metrics(clock)
    tasks = Tasks(name)
    async with contextlib.AsyncExitStack() as stack:
        stack.callback(serving.leave_signals)
        http = http_client.session()
        stack.push_async_callback(http.close)
        afar = Afar(http, settings.gateway_url, settings.gateway_token, clock) if settings.gateway_url else None
        host = Host(clock=clock, observer=metrics, afar=afar)
        pool = McpPool(secrets, None, clock, metrics.circuit)
        stack.push_async_callback(pool.aclose)
        journals = Journals(settings.data_dir, secrets, clock, _installed(settings), lasts=False)
        assembly = Assembly(host, http, pool, secrets, journals, clock)
        if settings.code_runner:
            from kadre.engine.tools.code_elsewhere import RunnerSandbox

            assembly.sandbox = RunnerSandbox(http, settings.code_runner, settings.code_runner_token)
        stack.push_async_callback(tasks.aclose)
        if logs is not None:
            tasks.spawn("logging", logs.follow(clock))
        stack.push_async_callback(host.aclose)
        yield House(host, assembly, metrics, tasks, clock)


async def serve(here: House, settings: HouseSettings, whom: str, grace: Callable[[], float]) -> None:
    """Serve until told to end. `whom`: who is served, for the log; `grace`: seconds that runs then have."""
    stop = asyncio.Event()
    directory = app.HostDirectory(here.host)
    verifier = None if settings.gateway_keys is None else Verifier(settings.gateway_keys, directory.has, here.clock)
    doors = app.build(here.host, here.metrics, list, verifier, Policy.of(settings.webhook_networks))
    servers = [serving.Server(serving.listen(settings.host, settings.port), doors)]
    if settings.metrics_port:
        listening = serving.listen(settings.host, settings.metrics_port, "--metrics-port", METRICS_FIELD)
        servers.append(serving.Server(listening, doors))
    async with contextlib.AsyncExitStack() as stack:
        await serving.speak_grpc(stack, doors.grpc, settings.host, settings.grpc_port)
        answering = [here.tasks.spawn("serve", server.serve()) for server in servers]
        log.info("%s is served on port %d", whom, settings.port)
        collector.settle()
        serving.heed_signals(stop)
        await stop.wait()
        log.info("told to end: taking messages for %.0f s more, then ending runs under way", settings.linger)
        await here.clock.sleep(settings.linger)
        await here.host.aclose(grace())
        for server in servers:
            server.should_exit = True
        await asyncio.wait(answering, timeout=serving.GRACE)


async def warm(agents: Iterable[HostedAgent]) -> None:
    """Start models and tools now, so that the first message need not wait for them.

    Never waited for: an agent is ready while its model and tools are away, and says what is missing when asked.
    """
    room = asyncio.Semaphore(WARMED)

    async def start(agent: HostedAgent) -> None:
        async with room:
            try:
                if isinstance(agent.model, Startable):
                    await agent.model.start()
                for notice in (await agent.offer()).notices:
                    log.warning("%s: %s", agent.plan.key, notice.message)
            except ModelError as error:
                log.warning("%s: %s", agent.plan.key, error)

    await asyncio.gather(*[start(agent) for agent in agents])


def _installed(settings: HouseSettings) -> Installed | None:
    folder = settings.journal
    if folder is None:
        return None
    return Installed(
        PostgresPlan(url=SecretRef(namespace="", name=folder.name, key=JOURNAL_KEY)), MountedSecrets(folder.parent)
    )
