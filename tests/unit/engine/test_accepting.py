"""Runs on their way into a journal, and everything that may come between."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from kadre.base.errors import Conflict, Unavailable
from kadre.engine.accepting import Ask
from kadre.engine.agent import HostedAgent
from kadre.engine.host import Host
from kadre.engine.memory.inmemory import InMemoryJournal
from kadre.engine.memory.port import Journal
from kadre.plan.types import AgentKey, AgentPlan, ModelPlan
from tests.support.scene import Scene, Told
from tests.support.unsteady import Unsteady


@pytest.fixture
async def stuck() -> AsyncIterator[Scene]:
    """A scene whose store has created the run that is asked for first, and does not say so until it heals."""
    scene = Scene(Unsteady("is stuck after", 1))
    await scene.says("hello", "hello again")
    yield scene
    await scene.host.aclose(0)


async def creating(scene: Any) -> asyncio.Task[Any]:
    """The creation of the run `x` is under way."""
    task = asyncio.create_task(scene.start(run_id="x"))
    await scene.journal.stuck
    return task


async def test_an_id_that_is_sent_again_while_its_run_is_created_is_that_run(stuck: Any) -> None:
    first = await creating(stuck)
    again = asyncio.create_task(stuck.start(run_id="x"))
    await asyncio.sleep(0)
    stuck.journal.heal()
    assert await first is await again
    assert (await (await first).wait()).status == "completed"


async def test_a_run_cancelled_while_it_is_created_is_ended_by_whoever_drives_it(stuck: Any) -> None:
    stuck.models["a"].turns = [asyncio.Event()]
    first = await creating(stuck)
    cancelling = asyncio.create_task(stuck.host.cancel("x"))
    await asyncio.sleep(0)
    stuck.journal.heal()
    live = await first
    assert await cancelling is live
    assert live.finished.status == "cancelled"
    assert live.info.epoch == 1  # nobody claimed it


async def test_an_id_sent_again_after_its_creator_left_is_the_run_that_was_ended_for_it(stuck: Any) -> None:
    first = await creating(stuck)
    again = asyncio.create_task(stuck.start(run_id="x"))
    await asyncio.sleep(0)
    first.cancel()
    await asyncio.wait([first])
    stuck.journal.heal()
    assert (await (await again).wait()).status == "cancelled"


def hosted(scene: Scene, name: str, model: Told, journal: Journal) -> dict[AgentKey, HostedAgent]:
    """One agent of that name."""
    key = AgentKey("default", name)
    plan = AgentPlan(key=key, model=ModelPlan(provider="scripted", model="m"))
    return {key: HostedAgent(plan, model, (), journal, scene.clock)}


async def test_a_run_id_is_taken_whichever_store_has_it(scene: Scene) -> None:
    one, two = InMemoryJournal(), InMemoryJournal()
    host = Host([one, two], clock=scene.clock)
    a, b = hosted(scene, "a", Told(["hi"]), one), hosted(scene, "b", Told(["hi"]), two)
    await host.replace({**a, **b})
    live = await host.start(Ask(agent=AgentKey("default", "a"), message="m", run_id="x"))
    await live.wait()
    with pytest.raises(Conflict) as refused:
        await host.start(Ask(agent=AgentKey("default", "b"), message="m", run_id="x"))
    assert refused.value.reason == "RunIdTaken"
    assert await two.run("x") is None


class Slow(Told):
    """A model that takes its time to close, and counts how often it is."""

    def __init__(self, turns: Any, gate: asyncio.Event) -> None:
        super().__init__(turns)
        self.gate = gate
        self.closes = 0
        self.closing = asyncio.Event()

    async def aclose(self) -> None:
        self.closes += 1
        self.closing.set()
        await self.gate.wait()


async def test_an_agent_whose_last_run_ends_while_another_is_closed_is_closed_once(scene: Scene) -> None:
    gate, answer = asyncio.Event(), asyncio.Event()
    idle, busy = Slow([], gate), Slow([answer, "hi"], gate)
    journal = InMemoryJournal()
    host = Host([journal], clock=scene.clock)
    await host.replace({**hosted(scene, "idle", idle, journal), **hosted(scene, "busy", busy, journal)})
    live = await host.start(Ask(agent=AgentKey("default", "busy"), message="m"))
    await busy.called.wait()
    replacing = asyncio.create_task(host.replace({}))
    await idle.closing.wait()
    answer.set()
    await live.wait()
    gate.set()
    await replacing
    assert (idle.closes, busy.closes) == (1, 1)


async def test_an_agent_one_part_of_which_cannot_be_closed_closes_the_others(scene: Scene) -> None:
    class Broken(Told):
        async def aclose(self) -> None:
            await super().aclose()
            raise RuntimeError("no")

    journal = InMemoryJournal()
    host = Host([journal], clock=scene.clock)
    broken, other = Broken([]), Told([])
    await host.replace({**hosted(scene, "a", broken, journal), **hosted(scene, "b", other, journal)})
    await host.replace({})
    assert broken.closed
    assert other.closed


async def test_agents_that_cannot_be_served_are_closed_and_those_served_are_not(scene: Scene) -> None:
    class Lost(InMemoryJournal):
        async def recover(self) -> Any:
            raise Unavailable("the disk is gone")

    old, new = Told(["still here"]), Told([])
    await scene.host.recover()
    served = hosted(scene, "a", old, scene.journal)
    await scene.host.replace(served)
    lost = Lost()
    scene.host.add_journal(lost)
    with pytest.raises(Unavailable):
        await scene.host.replace({**served, **hosted(scene, "b", new, lost)})
    assert new.closed
    assert (await scene.ask()).answer() == "still here"
