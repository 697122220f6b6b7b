"""Of two stores that processes share, what happens to one is nothing to the other."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Collection, Sequence

import pytest

from kadre.base.clock import FakeClock
from kadre.base.errors import Unavailable
from kadre.engine import events as ev
from kadre.engine.accepting import Ask, Parent
from kadre.engine.agent import HostedAgent
from kadre.engine.host import Host
from kadre.engine.memory.inmemory import InMemoryJournal
from kadre.engine.memory.port import RunInfo
from kadre.engine.tools.port import Toolset
from kadre.plan.types import AgentKey, AgentPlan, ModelPlan
from tests.support.scene import Asking, Told, Turn

CLOCK = FakeClock()


class Shared(InMemoryJournal):
    """A store that two hosts use, by one that holds what it has claimed. `away`: it answers nobody."""

    shared = True

    def __init__(self) -> None:
        super().__init__()
        self.mine: set[str] = set()
        self.away = self.takes_nothing = False
        self.looked_at = 0

    async def held(self) -> Sequence[RunInfo]:
        self.looked_at += 1
        return [each for each in await self.runs(limit=99) if each.run_id in self.mine and each.status not in ev.ENDED]

    async def abandoned(self, agents: Collection[str]) -> Sequence[RunInfo]:
        return []

    async def news(self) -> None:
        await asyncio.Event().wait()

    async def run(self, run_id: str) -> RunInfo | None:
        if self.away:
            raise Unavailable("away")
        return await super().run(run_id)

    async def claim(self, run_id: str, seen: RunInfo | None = None) -> RunInfo:
        self.mine.add(run_id)
        return await super().claim(run_id, seen)

    async def append(self, run_id: str, expected_seq: int, events: Sequence[ev.Event], epoch: int) -> None:
        if self.takes_nothing:
            raise Unavailable("away")
        await super().append(run_id, expected_seq, events, epoch)


def write(text: str) -> str:
    """Write it."""
    return text


def agent(store: Shared, name: str, *turns: Turn, tools: Sequence[Toolset] = ()) -> HostedAgent:
    plan = AgentPlan(key=AgentKey("default", name), model=ModelPlan(provider="scripted", model="m"))
    return HostedAgent(plan, Told(turns), tools, store, CLOCK)


@pytest.fixture
async def stores() -> tuple[Shared, Shared]:
    return Shared(), Shared()


@pytest.fixture
async def host(stores: tuple[Shared, Shared]) -> AsyncIterator[Host]:
    """Serves an agent of each store, as `kadre up` does."""
    made = Host(stores, clock=CLOCK, resumes=False)
    agents = [agent(stores[0], "a"), agent(stores[1], "b", asyncio.Event())]
    await made.replace({each.plan.key: each for each in agents})
    await made.recover()
    yield made
    await made.aclose(0)


async def test_a_look_at_one_forgets_nothing_that_is_to_be_ended_in_the_other(
    stores: tuple[Shared, Shared], host: Host
) -> None:
    one, other = stores
    elsewhere = Host([other], clock=CLOCK)
    theirs = agent(other, "b", [("write", {"text": "x"})], tools=[Asking(write)])
    await elsewhere.replace({theirs.plan.key: theirs})
    live = await elsewhere.start(Ask(agent=theirs.plan.key, message="hi", run_id="run-b"))
    async with asyncio.timeout(5):
        while not live.pending_approvals():
            await live.changed()
    other.takes_nothing = True
    with pytest.raises(Unavailable):
        await host.cancel("run-b")
    other.takes_nothing = False
    await host._takeover.look(one)
    await host._takeover.look(other)
    found = await other.run("run-b")
    assert found is not None
    assert found.status == "cancelled"
    await elsewhere.aclose(0)


async def test_one_that_is_away_keeps_nobody_from_looking_at_the_other(
    stores: tuple[Shared, Shared], host: Host
) -> None:
    one, other = stores
    await host.start(Ask(agent=AgentKey("default", "b"), message="hi", run_id="run-child"), Parent("run-elsewhere", ()))
    one.away = True
    before = other.looked_at
    await host._takeover.look(other)
    assert other.looked_at > before
    one.away = False


async def test_one_that_is_away_is_nothing_to_runs_of_the_other(stores: tuple[Shared, Shared], host: Host) -> None:
    stores[0].away = True
    live = await host.start(Ask(agent=AgentKey("default", "b"), message="hi", run_id="run-b"))
    assert live.info.run_id == "run-b"
    runner = host._driving.runners.pop("run-b")  # as at another process, which drives it
    assert (await host.open("run-b")).info.run_id == "run-b"
    with pytest.raises(Unavailable):  # it may be where nobody answers
        await host.open("run-other")
    host._driving.runners["run-b"] = runner
