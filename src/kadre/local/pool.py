"""Many agents in one process: the plans of a pool, followed through the API and served until Kubernetes says to end."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import msgspec

from kadre.base.clock import Clock, SystemClock
from kadre.base.errors import KadreError
from kadre.base.tasks import Tasks
from kadre.engine.agent import HostedAgent
from kadre.kube import access, kinds
from kadre.kube.access import Access
from kadre.kube.client import Client, Scope
from kadre.kube.errors import ApiError
from kadre.kube.informer import Informer
from kadre.kube.kinds import Key
from kadre.local import housing
from kadre.local.api_secrets import ApiSecrets
from kadre.local.housing import HouseSettings
from kadre.local.logs import Logging
from kadre.local.taking_up import TakingUp, Wanted, wanted
from kadre.operator.children import pool as parts
from kadre.operator.children import pools
from kadre.operator.children.common import MANAGED_BY, MANAGER
from kadre.plan.types import Limits

log = logging.getLogger(__name__)

BRIEF = 0.1
"""Seconds between two tellings of what is served, at least: of many agents that come at once it is told once."""
TOLD_SECONDS = 30.0
"""After which it is told again, which changes nothing where it is there still."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolSettings(HouseSettings):
    """Everything a pool's process is told."""

    pool: str = pools.DEFAULT
    pod: str = ""
    """The name of the pod, by which it tells what it serves; empty: it tells nobody."""


def run(settings: PoolSettings, logs: Logging | None = None) -> int:
    """Serve until told to stop; the exit code. Raises KadreError where there is no cluster, or no port."""
    import uvloop

    if logs is not None:
        logs.look()
    try:
        found = access.found()
    except LookupError as error:
        raise KadreError(str(error)) from error
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(serve(settings, found, logs))


async def serve(settings: PoolSettings, found: Access, logs: Logging | None = None) -> int:
    """The same, in the namespace and with the identity that are given."""
    async with contextlib.AsyncExitStack() as stack:
        client = await stack.enter_async_context(Client(found, MANAGER))
        clock = SystemClock()
        secrets = ApiSecrets(client, found.namespace, clock)
        here = await stack.enter_async_context(housing.house(settings, secrets, "pool", logs))
        teller = Teller(client, Key(found.namespace, parts.told_in(settings.pool)), settings.pod, clock)
        taking = TakingUp(here, secrets, teller.wake)
        teller.told = taking.told
        await _follow(client, found.namespace, settings.pool, here.tasks, taking)
        await taking.first()
        await teller.tell()
        cut_off = await here.host.recover()
        here.host.sweep_expired_sessions()
        for name, work in (("take-up", taking.run()), ("secrets", secrets.follow()), ("tell", teller.run())):
            here.tasks.spawn(name, work)
        log.info("%d runs were cut off before", len(cut_off))

        def grace() -> float:
            return grace_of(here.host.agents.values(), settings.linger)

        await housing.serve(here, settings, f"pool {settings.pool}", grace)
    return 0


async def _follow(client: Client, namespace: str, pool: str, tasks: Tasks, taking: TakingUp) -> None:
    """Have what is wanted follow the plans, and what is allowed the pool's Role; until both are known."""
    known = asyncio.Event()

    def changed(*_: object) -> None:
        taking.wake()

    def allowed(_: Key, __: frozenset[str] | None, after: frozenset[str] | None) -> None:
        if after is None:  # it has gone, or a controller before this one has written it: it is made anew
            log.warning("the Role %s says no more which plans may be served: what it said last holds", role.name)
            return
        taking.allow(after)
        known.set()

    scope = Scope(namespace, selector=f"{MANAGED_BY}={MANAGER},{pools.selector(pool)}")
    plans: Informer[Wanted] = Informer(client, kinds.CONFIG_MAP, wanted, changed, (scope,))
    role = Scope(namespace, name=parts.called(pool))
    roles: Informer[frozenset[str] | None] = Informer(
        client, kinds.ROLE, lambda obj, _: parts.told_to_serve(obj), allowed, (role,)
    )
    taking.want(plans.kept)
    tasks.spawn("follow-plans", plans.run())
    tasks.spawn("follow-role", roles.run())
    await asyncio.gather(plans.synced.wait(), roles.synced.wait())
    if not known.is_set():
        log.warning("which plans may be served is to be in the Role %s: waiting for the controller", role.name)
    await known.wait()


def grace_of(agents: Iterable[HostedAgent], linger: float) -> float:
    """Seconds that runs have once the pod is told to end and has lingered: no more than leaves it time to end them."""
    longest = max((agent.plan.limits.deadline for agent in agents), default=Limits().deadline)
    return min(longest, parts.GRACE - linger - parts.ENDING)


class Teller:
    """Tells the controller what this pod serves: in an object that the pods of the pool share, each under its name."""

    def __init__(self, client: Client, place: Key, pod: str, clock: Clock) -> None:
        self.told: Callable[[], pools.Served] = pools.Served
        self._client = client
        self._place = place
        self._pod = pod
        self._clock = clock
        self._woken = asyncio.Event()
        self._woken.set()
        self._failed = ""

    def wake(self) -> None:
        """There is something else to tell."""
        self._woken.set()

    async def run(self) -> None:
        """Tell it until cancelled."""
        while self._pod:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(TOLD_SECONDS):
                    await self._woken.wait()
            self._woken.clear()
            if not await self.tell():
                self._woken.set()
                await self._clock.sleep(1.0)
            await self._clock.sleep(BRIEF)

    async def tell(self) -> bool:
        """Tell it now; whether that was heard."""
        if not self._pod:
            return True
        said = {"data": {self._pod: msgspec.json.encode(self.told()).decode()}}
        try:
            await self._client.merge(kinds.CONFIG_MAP, self._place, said)
        except ApiError as error:
            if self._failed != str(error):
                log.warning("what is served cannot be told: %s", error)
            self._failed = str(error)
            return False
        self._failed = ""
        return True
