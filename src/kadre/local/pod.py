"""One agent in its pod: the plan that the controller wrote, served until Kubernetes says to end."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from dataclasses import dataclass
from pathlib import Path

import msgspec

from kadre.base import collector
from kadre.base.clock import Clock, SystemClock
from kadre.base.errors import ModelError, ProblemError, Unavailable
from kadre.base.problems import Problem
from kadre.base.tasks import Tasks
from kadre.engine import http_client
from kadre.engine.agent import HostedAgent
from kadre.engine.host import Host
from kadre.engine.models.port import Startable
from kadre.engine.tools.mcp import McpPool
from kadre.local import serving
from kadre.local.hosting import Assembly, Installed, Journals
from kadre.local.logs import Logging
from kadre.local.mounted import MountedSecrets
from kadre.plan.types import AgentKey, AgentPlan, PostgresPlan, SecretRef
from kadre.server import app
from kadre.server.identity import Verifier
from kadre.server.metrics import Metrics

log = logging.getLogger(__name__)

AGAIN = 2.0
"""Seconds between two tries to reach the journal at start."""
JOURNAL_KEY = "url"
METRICS_FIELD = "spec.observability.metrics.port"
"""Of an agent: where it says on which port its pods serve metrics."""
LINGER = 3.0
"""Seconds a pod that is told to end goes on taking messages: what sends them hears of its end that much later."""


@dataclass(frozen=True, slots=True)
class PodSettings:
    """Everything a pod's process is told."""

    plan: Path
    """File of the plan, as JSON."""
    host: str = "0.0.0.0"  # noqa: S104 - a pod is reached from outside or not at all
    port: int = 8080
    metrics_port: int = 0
    """Where metrics are served besides; 0: nowhere."""
    data_dir: Path = Path("/var/lib/kadre")
    """Where conversations are kept that no server keeps: they go with the pod."""
    secrets: Path = Path("/var/run/kadre/secrets")
    journal: Path | None = None
    """Folder whose file `url` holds the address of the journal for an agent that names no memory of its own."""
    gateway_keys: Path | None = None
    """Folder with the public keys of the gateway, whose word on who is calling is believed; None: nobody's is."""
    linger: float = LINGER


def run(settings: PodSettings, logs: Logging | None = None) -> int:
    """Serve until told to stop; the exit code. Raises ProblemError where it cannot start."""
    import uvloop

    if logs is not None:
        logs.look()
    plan = read_plan(settings.plan)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(_serve(settings, plan, logs))


def read_plan(file: Path) -> AgentPlan:
    """The plan in a file. Raises ProblemError."""
    try:
        return msgspec.json.decode(file.read_bytes(), type=AgentPlan)
    except (OSError, msgspec.DecodeError) as error:
        fix = "run the agent's image in the version its controller has"
        raise ProblemError([Problem("UnusablePlan", f"{file} is no plan that can be run: {error}", fix)]) from error


async def _serve(settings: PodSettings, plan: AgentPlan, logs: Logging | None) -> int:
    clock = SystemClock()
    metrics = Metrics(clock)
    host = Host(clock=clock, observer=metrics)
    secrets = MountedSecrets(settings.secrets)
    tasks = Tasks("pod")
    stop = asyncio.Event()
    async with contextlib.AsyncExitStack() as stack:
        stack.callback(serving.leave_signals)
        http = http_client.session()
        stack.push_async_callback(http.close)
        pool = McpPool(secrets, None, clock)
        stack.push_async_callback(pool.aclose)
        journals = Journals(settings.data_dir, secrets, clock, _installed(settings), lasts=False)
        assembly = Assembly(host, http, pool, secrets, journals, clock)
        stack.push_async_callback(tasks.aclose)
        if logs is not None:
            tasks.spawn("logging", logs.follow(clock))
        stack.push_async_callback(host.aclose)
        await host.replace(await _built(assembly, plan, clock))
        for agent in host.agents.values():
            metrics.show(agent.plan)
        cut_off = await host.recover()
        host.sweep_expired_sessions()
        verifier = None if settings.gateway_keys is None else Verifier(settings.gateway_keys, str(plan.key), clock)
        doors = app.build(host, metrics, list, verifier)
        servers = [serving.Server(serving.listen(settings.host, settings.port), doors)]
        if settings.metrics_port:
            listening = serving.listen(settings.host, settings.metrics_port, "--metrics-port", METRICS_FIELD)
            servers.append(serving.Server(listening, doors))
        answering = [tasks.spawn("serve", server.serve()) for server in servers]
        log.info("%s is served on port %d; %d runs were cut off before", plan.key, settings.port, len(cut_off))
        # Never waited for: an agent is ready while its model and tools are away, and says what is missing when asked.
        tasks.spawn("warm", _warm(host))
        collector.settle()
        serving.heed_signals(stop)
        await stop.wait()
        log.info("told to end: taking messages for %.0f s more, then ending runs under way", settings.linger)
        await clock.sleep(settings.linger)
        await host.aclose(plan.limits.deadline)
        for server in servers:
            server.should_exit = True
        await asyncio.wait(answering, timeout=serving.GRACE)
    return 0


def _installed(settings: PodSettings) -> Installed | None:
    folder = settings.journal
    if folder is None:
        return None
    return Installed(
        PostgresPlan(url=SecretRef(namespace="", name=folder.name, key=JOURNAL_KEY)), MountedSecrets(folder.parent)
    )


async def _built(assembly: Assembly, plan: AgentPlan, clock: Clock) -> dict[AgentKey, HostedAgent]:
    """The agent, as soon as its journal is reached: until then it could take no message, and is not ready."""
    while True:
        try:
            return await assembly.build({plan.key: plan})
        except Unavailable as error:
            log.warning("%s is not served yet: %s", plan.key, error)
            await clock.sleep(AGAIN)


async def _warm(host: Host) -> None:
    """Start models and tools now, so that the first message need not wait for them."""
    for agent in host.agents.values():
        try:
            if isinstance(agent.model, Startable):
                await agent.model.start()
            for notice in (await agent.offer()).notices:
                log.warning("%s: %s", agent.plan.key, notice.message)
        except ModelError as error:
            log.warning("%s: %s", agent.plan.key, error)
