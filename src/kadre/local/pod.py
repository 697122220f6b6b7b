"""One agent in its pod: the plan that the controller wrote, served until Kubernetes says to end."""

from __future__ import annotations

import asyncio
import hashlib
import logging
from dataclasses import dataclass
from pathlib import Path

import msgspec

from kadre.base.clock import Clock
from kadre.base.errors import ProblemError, Unavailable
from kadre.base.problems import Problem
from kadre.engine.agent import HostedAgent
from kadre.local import housing
from kadre.local.hosting import Assembly
from kadre.local.housing import HouseSettings
from kadre.local.logs import Logging
from kadre.local.mounted import MountedSecrets
from kadre.plan.types import AgentKey, AgentPlan

log = logging.getLogger(__name__)

AGAIN = 2.0
"""Seconds between two tries to reach the journal at start."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PodSettings(HouseSettings):
    """Everything a pod's process is told."""

    plan: Path
    """File of the plan, as JSON."""
    digest: str = ""
    """The SHA-256 of it; empty: whatever is there is served."""
    secrets: Path = Path("/var/run/kadre/secrets")


def run(settings: PodSettings, logs: Logging | None = None) -> int:
    """Serve until told to stop; the exit code. Raises ProblemError where it cannot start."""
    import uvloop

    if logs is not None:
        logs.look()
    plan = read_plan(settings.plan, settings.digest)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(_serve(settings, plan, logs))


def read_plan(file: Path, digest: str = "") -> AgentPlan:
    """The plan in a file. Raises ProblemError, also where its SHA-256 is not this one.

    The pod has the Secrets of the agent's plan. Who may write ConfigMaps, and no more, must not have another one sent
    them elsewhere.
    """
    try:
        text = file.read_bytes()
        if digest and hashlib.sha256(text).hexdigest() != digest:
            message = f"{file} is not the plan that this pod was made for: somebody has put another in its place"
            fix = "delete the ConfigMap that the pod's volume plan names; the controller makes it anew"
            raise ProblemError([Problem("ForeignPlan", message, fix)])
        return msgspec.json.decode(text, type=AgentPlan)
    except (OSError, msgspec.DecodeError) as error:
        fix = "run the agent's image in the version its controller has"
        raise ProblemError([Problem("UnusablePlan", f"{file} is no plan that can be run: {error}", fix)]) from error


async def _serve(settings: PodSettings, plan: AgentPlan, logs: Logging | None) -> int:
    async with housing.house(settings, MountedSecrets(settings.secrets), "pod", logs) as here:
        host = here.host
        await host.replace(await _built(here.assembly, plan, here.clock))
        for agent in host.agents.values():
            here.metrics.show(agent.plan)
        cut_off = await host.recover()
        host.sweep_expired_sessions()
        log.info("%d runs were cut off before", len(cut_off))
        here.tasks.spawn("warm", housing.warm(host.agents.values()))
        await housing.serve(here, settings, str(plan.key), lambda: plan.limits.deadline)
    return 0


async def _built(assembly: Assembly, plan: AgentPlan, clock: Clock) -> dict[AgentKey, HostedAgent]:
    """The agent, as soon as its journal is reached: until then it could take no message, and is not ready."""
    while True:
        try:
            return await assembly.build({plan.key: plan})
        except Unavailable as error:
            log.warning("%s is not served yet: %s", plan.key, error)
            await clock.sleep(AGAIN)
