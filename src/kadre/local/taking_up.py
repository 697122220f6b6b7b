"""The plans of a pool become hosted agents: each by itself, so that one that cannot be served is nobody else's matter.

What is wanted comes from the API by an Informer, and so does what of it may be served: a plan may be there before it is
allowed, and waits. What is served, and what cannot be and why, is told by `told`.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import NamedTuple

from kadre.base.errors import ProblemError, Unavailable, shorten
from kadre.base.tasks import Tasks
from kadre.engine.agent import HostedAgent
from kadre.kube.kinds import Key, Object
from kadre.local.api_secrets import ApiSecrets
from kadre.local.housing import House, warm
from kadre.operator.children import plan_map
from kadre.operator.children.pools import Served
from kadre.operator.children.secrets import references
from kadre.plan.types import AgentKey, AgentPlan

log = logging.getLogger(__name__)

AGAIN = 2.0
"""Seconds between two tries with a plan that cannot be served now: its journal is away."""
MENDED_SECONDS = 15.0
"""The same where somebody has something to mend."""
FIRST_SECONDS = 20.0
"""In which the plans that are there at the start are taken up: one that takes longer holds up no others."""
HELD_SECONDS = 30.0
"""In which a plan that is not allowed any more is served on, where the one that takes its place may be on its way: what
is allowed and what is there come by two watches, and one that broke may be as late as this."""
SAID_LIMIT = 300
"""Characters of why a plan cannot be served."""


class Wanted(NamedTuple):
    """A plan as a ConfigMap has it. `plan`: None where it cannot be read."""

    agent: str
    plan: AgentPlan | None
    digest: str
    """The SHA-256 of its text, by which it is allowed."""
    since: tuple[str, int]
    """When it was made: of two plans of an agent the later one counts."""

    @property
    def hash(self) -> str:
        """The plan's hash, as it is told."""
        return plan_map.hash_of(self.digest)


def wanted(config_map: Object, _: Wanted | None) -> Wanted:
    """What is kept of a plan's ConfigMap."""
    metadata = config_map["metadata"]
    plan = plan_map.decoded(config_map)
    agent = plan.key.name if plan is not None else (metadata.get("labels") or {}).get("agent", "")
    version = metadata["resourceVersion"]
    since = (metadata.get("creationTimestamp") or "", int(version) if version.isdigit() else 0)
    return Wanted(agent, plan, plan_map.digest_of(config_map), since)


class TakingUp:
    """Has the host serve what is wanted. `changed` is told when there is something else to tell."""

    def __init__(self, here: House, secrets: ApiSecrets, changed: Callable[[], None]) -> None:
        self._here = here
        self._secrets = secrets
        self._changed = changed
        self._wanted: Mapping[Key, Wanted] = {}
        self._allowed: Collection[str] = ()
        self._latest: dict[str, Wanted] = {}
        self._served: dict[str, Wanted] = {}
        self._held: dict[str, float] = {}
        """Until when, by the clock, an agent's plan is served at most that is not allowed any more."""
        self._refused: dict[str, tuple[Wanted, str]] = {}
        self._building: dict[str, Wanted] = {}
        self._built: dict[str, tuple[Wanted, HostedAgent]] = {}
        self._woken = asyncio.Event()
        self._tasks = Tasks("taking-up")

    def told(self) -> Served:
        """What is served, and what cannot be."""
        return Served(
            {name: each.hash for name, each in sorted(self._served.items())},
            {name: (each.hash, why) for name, (each, why) in sorted(self._refused.items())},
        )

    def want(self, plans: Mapping[Key, Wanted]) -> None:
        """Serve these from now on: looked at whenever `wake` is called."""
        self._wanted = plans
        self.wake()

    def allow(self, digests: Collection[str]) -> None:
        """Serve no plan from now on but those of these SHA-256."""
        self._allowed = digests
        self.wake()

    def wake(self) -> None:
        """Something is wanted, or no longer."""
        self._woken.set()

    async def run(self) -> None:
        """Have it so until cancelled."""
        try:
            while True:
                await self._woken.wait()
                self._woken.clear()
                try:
                    await self.look()
                except Exception:
                    log.exception("what has changed cannot be served yet")
                    await self._here.clock.sleep(AGAIN)
                    self.wake()
        finally:
            await self._tasks.aclose()

    async def first(self) -> None:
        """Have what is wanted now served, as far as it can be."""
        await self.look()
        try:
            async with asyncio.timeout(FIRST_SECONDS):
                while self._latest.keys() - self._served.keys() - self._refused.keys():
                    await self._woken.wait()
                    self._woken.clear()
                    await self.look()
        except TimeoutError:
            log.warning("not every agent is served yet: %d are", len(self._served))

    async def look(self) -> None:
        """Begin to build what is wanted and not served, and serve what has been built."""
        self._latest = self._chosen()
        uses: dict[str, frozenset[str]] = {}
        for each in self._latest.values():
            for name, keys in references(each.plan).items() if each.plan is not None else ():
                uses[name] = uses.get(name, frozenset()) | frozenset(keys)
        self._secrets.use(uses)
        for name, each in self._latest.items():
            if each is not self._served.get(name) and each is not self._building.get(name) and name not in self._built:
                self._building[name] = each
                self._tasks.spawn(name, self._build(name, each))
        await self._replace()

    def _chosen(self) -> dict[str, Wanted]:
        """Of each agent the plan to serve: the latest that is allowed.

        Where the next one waits to be allowed, the one before goes on, though it may not be wanted any more. So it does
        for a while where it is not allowed any more and a plan is that is not there yet: it may be the next one.
        """
        found = _latest(each for each in self._wanted.values() if each.digest in self._allowed)
        awaited = not {each.digest for each in self._wanted.values()}.issuperset(self._allowed)
        now = self._here.clock.monotonic()
        held: dict[str, float] = {}
        for name in {each.agent for each in self._wanted.values()} - found.keys():
            served = self._served.get(name)
            if served is None:
                continue
            if served.digest not in self._allowed:
                held[name] = self._held.get(name, now + HELD_SECONDS)
            if name not in held or (awaited and now < held[name]):
                found[name] = served
        for name in held.keys() - self._held.keys():
            self._tasks.spawn(f"{name}/held", self._look_after(HELD_SECONDS))
        self._held = held
        return found

    async def _look_after(self, seconds: float) -> None:
        await self._here.clock.sleep(seconds)
        self.wake()

    async def _replace(self) -> None:
        host = self._here.host
        agents = {key: agent for key, agent in host.agents.items() if key.name in self._latest}
        built, self._built = self._built, {}
        new: dict[str, Wanted] = {}
        for name, (each, agent) in built.items():
            if self._latest.get(name) is each:
                agents[agent.plan.key] = agent
                new[name] = each
            else:
                await self._leave(agent)
                self.wake()
        before = dict(host.agents)
        if agents != before and not await self._served_by_host(agents):
            return
        for name, each in new.items():
            self._served[name] = each
            self._refused.pop(name, None)
        fresh = [agent for key, agent in agents.items() if before.get(key) is not agent]
        for agent in fresh:
            self._here.metrics.show(agent.plan)
        for key in before.keys() - agents.keys():
            self._tasks.spawn(f"{key.name}/gone", self._hide(before[key]))
        if fresh:
            self._here.tasks.spawn("warm", warm(fresh))
        if self._forget() or new:
            self._changed()

    async def _hide(self, agent: HostedAgent) -> None:
        """Have no figures of it once its last run has ended, unless an agent of its name is served again."""
        while agent.running:
            await self._here.clock.sleep(AGAIN)
        if agent.plan.key not in self._here.host.agents:
            self._here.metrics.hide(agent.plan)

    async def _served_by_host(self, agents: Mapping[AgentKey, HostedAgent]) -> bool:
        try:
            await self._here.host.replace(agents)
        except Unavailable as error:
            log.warning("what has changed cannot be served yet: %s", error)
            await self._here.clock.sleep(AGAIN)
            self.wake()
            return False
        return True

    async def _leave(self, agent: HostedAgent) -> None:
        """Give back what was built and is not wanted any more."""
        if self._here.host.agents.get(agent.plan.key) is not agent:
            try:
                await agent.aclose()
            except Exception:
                log.exception("what %s used could not all be given back", agent.plan.key)

    def _forget(self) -> bool:
        """Say nothing more of agents that are not wanted; whether anything was said."""
        gone = (self._served.keys() | self._refused.keys()) - self._latest.keys()
        for name in gone:
            self._served.pop(name, None)
            self._refused.pop(name, None)
        return bool(gone)

    async def _build(self, name: str, each: Wanted) -> None:
        """Build the agent; where it cannot be, again and again for as long as it is wanted."""
        try:
            while self._latest.get(name) is each:
                agent, why, wait = await self._tried(each)
                if agent is not None and self._latest.get(name) is each:
                    self._built[name] = (each, agent)
                    return
                if agent is not None:
                    await self._leave(agent)
                    return
                if self._refused.get(name) != (each, why):
                    log.warning("%s is not served as it is now: %s", name, why)
                    self._refused[name] = (each, why)
                    self._changed()
                    self.wake()  # nobody need wait for it
                await self._here.clock.sleep(wait)
        finally:
            if self._building.get(name) is each:
                del self._building[name]
            self.wake()

    async def _tried(self, each: Wanted) -> tuple[HostedAgent | None, str, float]:
        """The agent; or why there is none, and the seconds after which to try again."""
        if each.plan is None:
            why = "this version cannot run it: the pool's image is another one than the controller's"
            return None, why, MENDED_SECONDS
        plan: AgentPlan = each.plan
        await self._secrets.have(set(references(plan)))
        try:
            built: dict[AgentKey, HostedAgent] = await self._here.assembly.build({plan.key: plan})
        except Unavailable as error:
            return None, shorten(str(error), SAID_LIMIT), AGAIN
        except ProblemError as error:
            return None, shorten(str(error), SAID_LIMIT), MENDED_SECONDS
        except Exception as error:
            log.exception("%s cannot be built", plan.key)
            return None, f"it cannot be built ({type(error).__name__}): see the pool's log", MENDED_SECONDS
        return built[plan.key], "", 0.0


def _latest(plans: Iterable[Wanted]) -> dict[str, Wanted]:
    found: dict[str, Wanted] = {}
    for each in plans:
        if each.agent and (each.agent not in found or found[each.agent].since < each.since):
            found[each.agent] = each
    return found
