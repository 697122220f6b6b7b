"""The plans of a pool become hosted agents, and what goes wrong with one is nobody else's matter."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import aiohttp
import pytest

from kadre.base.clock import FakeClock
from kadre.base.tasks import Tasks
from kadre.engine.host import Host
from kadre.engine.tools.mcp import McpPool
from kadre.kube.access import Access
from kadre.kube.client import Client
from kadre.kube.kinds import Key
from kadre.local.api_secrets import ApiSecrets
from kadre.local.hosting import Assembly, Journals
from kadre.local.housing import House
from kadre.local.pool import grace_of
from kadre.local.taking_up import HELD_SECONDS, TakingUp, Wanted
from kadre.local.taking_up import wanted as read
from kadre.operator.children import plan_map
from kadre.operator.children import pool as parts
from kadre.operator.children.common import Owner
from kadre.plan.types import AgentKey, AgentPlan, Limits, MemoryPlan, ModelPlan
from kadre.server.metrics import Metrics


def wanted(name: str, limits: Limits | None = None, prompt: str = "", since: int = 1) -> Wanted:
    model, memory = ModelPlan(provider="scripted", model="m"), MemoryPlan(type="in-memory")
    plan = AgentPlan(
        key=AgentKey("team", name), model=model, memory=memory, limits=limits or Limits(), system_prompt=prompt
    )
    return Wanted(name, plan, plan_map.digest(plan), ("", since))


class Fragile(Host):
    """Breaks once where it is told to."""

    breaks = False

    async def replace(self, agents: object) -> None:
        if self.breaks:
            self.breaks = False
            raise RuntimeError("a mistake")
        await super().replace(agents)  # type: ignore[arg-type]  # what it is given is passed on


class Stage(NamedTuple):
    host: Fragile
    taking: TakingUp
    metrics: Metrics
    clock: FakeClock

    async def until(self, holds: Callable[[], bool]) -> None:
        async with asyncio.timeout(5):
            while not holds():
                await self.clock.advance(1)
                await asyncio.sleep(0)

    def want(self, *plans: Wanted, allowed: Sequence[Wanted] | None = None) -> None:
        """Have these be there, and these be allowed; all of them where nothing is said."""
        self.taking.want({Key("team", f"{each.agent}-{each.hash}"): each for each in plans})
        self.taking.allow({each.digest for each in (plans if allowed is None else allowed)})

    def served(self) -> dict[str, str]:
        """The prompts by which agents answer."""
        return {key.name: agent.plan.system_prompt for key, agent in self.host.agents.items()}

    def counts(self, name: str) -> bool:
        labels = {"agent": name, "agent_name": name}
        return self.metrics.registry.get_sample_value("agent_active_sessions", labels) is not None


@pytest.fixture
async def stage(tmp_path: Path) -> AsyncIterator[Stage]:
    """A pool's process with neither a cluster nor doors."""
    clock, tasks = FakeClock(), Tasks("test")
    host, metrics = Fragile(clock=clock), Metrics(clock)
    async with aiohttp.ClientSession() as http:
        secrets = ApiSecrets(Client(Access("http://127.0.0.1:1", None), "test"), "team", clock)
        journals = Journals(tmp_path, secrets, clock, lasts=False)
        assembly = Assembly(host, http, McpPool(secrets, None, clock), secrets, journals, clock)
        taking = TakingUp(House(host, assembly, metrics, tasks, clock), secrets, lambda: None)
        tasks.spawn("take-up", taking.run())
        yield Stage(host, taking, metrics, clock)
        await tasks.aclose()
        await host.aclose(0)


async def test_a_mistake_in_one_change_keeps_no_other_from_being_served(stage: Stage) -> None:
    stage.host.breaks = True
    first = wanted("a")
    stage.want(first)
    await stage.until(lambda: "a" in stage.taking.told().plans)
    stage.want(first, wanted("b"))
    await stage.until(lambda: set(stage.taking.told().plans) == {"a", "b"})
    assert {key.name for key in stage.host.agents} == {"a", "b"}


async def test_an_agent_that_goes_with_a_run_under_way_leaves_figures_no_longer_than_the_run(stage: Stage) -> None:
    stage.want(wanted("a"))
    await stage.until(lambda: stage.counts("a"))
    (agent,) = stage.host.agents.values()
    agent.running += 1
    stage.want()
    await stage.until(lambda: not stage.host.agents)
    await stage.clock.advance(10)
    assert stage.counts("a")
    agent.running -= 1
    await stage.until(lambda: not stage.counts("a"))


async def test_a_pod_that_ends_has_time_left_when_its_runs_have_had_theirs(stage: Stage) -> None:
    stage.want(wanted("a", Limits(deadline=3600.0)))
    await stage.until(lambda: bool(stage.host.agents))
    assert grace_of(stage.host.agents.values(), 3.0) == parts.GRACE - 3.0 - parts.ENDING
    assert grace_of((), 3.0) == Limits().deadline


@pytest.mark.requirement("pool-serves-what-is-made")
async def test_a_plan_is_served_once_it_is_allowed_and_no_longer_than_that(stage: Stage) -> None:
    good, forged = wanted("good"), wanted("forged")
    stage.want(good, forged, allowed=[])
    await stage.taking.first()  # until all that may be served is
    assert (stage.served(), stage.taking.told().plans) == ({}, {})
    stage.want(good, forged, allowed=[good])
    await stage.until(lambda: bool(stage.host.agents))
    await stage.taking.look()
    assert (stage.served(), stage.taking.told().refused) == ({"good": ""}, {})
    stage.want(good, forged, allowed=[good, forged])
    await stage.until(lambda: stage.served().keys() == {"good", "forged"})
    stage.want(good, forged, allowed=[forged])
    await stage.until(lambda: stage.served().keys() == {"forged"})
    assert stage.taking.told().plans == {"forged": forged.hash}


@pytest.mark.requirement("pool-serves-what-is-made")
async def test_what_counts_is_the_text_of_a_plan_and_not_the_name_that_it_has(stage: Stage) -> None:
    good, forged = wanted("a"), wanted("a", prompt="Tell me all.", since=2)
    signs = [wanted(f"sign-{number}") for number in range(2)]
    stage.want(good, allowed=[good, *signs])
    await stage.until(lambda: stage.served() == {"a": ""})
    # Another plan in the place of that which is allowed, and one that would be the later one of that agent.
    for name, sign in zip((f"a-{good.hash}", "a-0123456789"), signs, strict=True):
        there = {Key("team", f"a-{good.hash}"): good, Key("team", sign.agent): sign}
        stage.taking.want({**there, Key("team", name): forged})
        await stage.until(lambda sign=sign: sign.agent in stage.served())  # type: ignore[misc]  # a lambda's default
        assert (stage.served()["a"], stage.taking.told().plans["a"]) == ("", good.hash)


@pytest.mark.requirement("pool-serves-what-is-made")
async def test_an_agents_plan_goes_on_until_the_next_one_is_allowed(stage: Stage) -> None:
    before, after = wanted("a", prompt="before"), wanted("a", prompt="after", since=2)
    stage.want(before)
    await stage.until(lambda: stage.served() == {"a": "before"})
    stage.want(after, allowed=[before])
    await stage.taking.look()
    assert stage.served() == {"a": "before"}
    stage.want(after)
    await stage.until(lambda: stage.served() == {"a": "after"})
    stage.want(after, allowed=[])
    began = stage.clock.monotonic()
    await stage.until(lambda: not stage.host.agents)
    assert stage.clock.monotonic() - began < HELD_SECONDS


@pytest.mark.requirement("pool-serves-what-is-made")
async def test_an_agent_is_served_on_whichever_is_heard_of_first_its_next_plan_or_that_it_is_allowed(
    stage: Stage,
) -> None:
    before, after = wanted("a", prompt="before"), wanted("a", prompt="after", since=2)
    stage.want(before)
    await stage.until(lambda: stage.served() == {"a": "before"})
    stage.want(before, allowed=[after])
    await stage.clock.advance(HELD_SECONDS / 2)
    await stage.taking.look()
    assert stage.served() == {"a": "before"}
    stage.want(before, after, allowed=[after])
    await stage.until(lambda: stage.served() != {"a": "before"})
    assert stage.served() == {"a": "after"}


@pytest.mark.requirement("pool-serves-what-is-made")
async def test_a_plan_that_is_taken_back_goes_soon_whatever_else_is_allowed_and_not_there(stage: Stage) -> None:
    one = wanted("a")
    stage.want(one)
    await stage.until(lambda: bool(stage.host.agents))
    began = stage.clock.monotonic()
    number = 0
    while stage.host.agents:  # there is always another agent on its way
        number += 1
        stage.want(one, allowed=[wanted(f"other-{number}")])
        await stage.clock.advance(1)
        await stage.taking.look()
        assert stage.clock.monotonic() - began <= HELD_SECONDS + 2
    # Nobody need say anything for it to go.
    stage.want(one)
    await stage.until(lambda: bool(stage.host.agents))
    stage.want(one, allowed=[wanted("never")])
    await stage.until(lambda: not stage.host.agents)


def test_the_digest_of_a_plan_is_that_of_its_text_as_the_controller_writes_it() -> None:
    plan = wanted("a").plan
    assert plan is not None
    made = plan_map.plan_map(Owner(plan, "Agent", "kagent.dev/v1alpha1", "uid")).manifest
    made["metadata"] |= {"resourceVersion": "7"}
    assert (read(made, None).digest, read(made, None).hash) == (plan_map.digest(plan), plan_map.plan_hash(plan))
    changed = {**made, "data": {plan_map.KEY: made["data"][plan_map.KEY] + " "}}
    assert read(changed, None).digest not in {"", plan_map.digest(plan)}
    assert read({**made, "data": {}}, None).digest == ""
