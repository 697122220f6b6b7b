"""Runs whose process is gone, where processes share a journal: gone on with in bounds, whatever else is under way."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import msgspec
import pytest

from kadre.base import errors
from kadre.base.clock import SystemClock
from kadre.engine import events as ev
from kadre.engine.live import Live
from kadre.engine.memory.port import NewRun
from kadre.engine.memory.remote_journal import RemoteJournal
from kadre.engine.messages import ToolSpec
from kadre.engine.tools.agent import AgentToolset
from kadre.engine.tools.functions import Functions
from kadre.engine.tools.port import Toolset
from kadre.plan.types import AgentKey, AgentTool, Limits
from tests.contract.journal.conftest import LEASE
from tests.contract.journal.story import AGENT, Teller
from tests.support.scene import Asking, Scene, Turn
from tests.support.stores import Store, new_space

SECONDS = 20
Begin = Callable[..., Awaitable[Scene]]


class Repeatable(Functions):
    """Functions that may be called again."""

    async def specs(self) -> Sequence[ToolSpec]:
        return tuple(msgspec.structs.replace(spec, idempotent=True) for spec in await super().specs())


def delegating(scene: Scene) -> Toolset:
    return AgentToolset(AgentTool(name="writer", agent=AgentKey("default", "writer")), scene.host, 5)


def write(text: str) -> str:
    """Write it."""
    return f"wrote {text}"


async def status_of(live: Live) -> str:
    return (await asyncio.wait_for(live.wait(), SECONDS)).status


async def dies(scene: Scene) -> None:
    """As a process does that is cut off, but that its lease runs out at once."""
    assert isinstance(scene.journal, RemoteJournal)
    (watch,) = [task for task in scene.journal._tasks._tasks if task.get_name().endswith("/watch")]
    watch.cancel()
    await asyncio.wait([watch])
    await scene.journal._watch.aclose()


async def test_a_run_that_ends_each_process_that_drives_it_does_not_end_them_all(begin: Begin) -> None:
    async def another(*turns: Any) -> Scene:
        scene = await begin(begun=False)
        await scene.says(*turns)
        await scene.host.recover()
        return scene

    scenes = [await another(asyncio.Event())]
    live = await scenes[0].start(session_id="s")
    for _ in range(4):
        await asyncio.wait_for(scenes[-1].models["a"].called.wait(), SECONDS)
        await dies(scenes[-1])
        scenes.append(await another(asyncio.Event()))
    last = await scenes[-1].host.open(live.info.run_id)
    assert await status_of(last) == "interrupted"
    error = last.error()
    assert error is not None
    assert (error.reason, scenes[-1].models["a"].requests) == ("TakenUpTooOften", [])
    assert [event.reason for event in last.events if isinstance(event, ev.System)] == ["TakenUp"] * 3


async def test_nor_does_one_that_waits_for_a_person_while_it_calls(begin: Begin) -> None:
    calls = 0

    async def another(*, begun: bool) -> tuple[Scene, asyncio.Event]:
        scene = await begin(begun=False)
        called = asyncio.Event()

        async def fill() -> str:
            """Fill the memory."""
            nonlocal calls
            calls += 1
            called.set()
            await asyncio.Event().wait()
            return ""

        asks: list[Turn] = [] if begun else [[("write", {"text": "x"})]]
        both: list[Turn] = [] if begun else [[("writer", {"message": "write"}), ("fill", {})]]
        await scene.says(*asks, name="writer", tools=[Asking(write)])
        await scene.says(*both, name="boss", tools=[delegating(scene), Repeatable(fill)])
        await scene.host.recover()
        return scene, called

    scenes = [await another(begun=False)]
    live = await scenes[0][0].start(name="boss")
    await scenes[0][0].approval(live)
    for _ in range(4):
        await asyncio.wait_for(scenes[-1][1].wait(), SECONDS)
        await dies(scenes[-1][0])
        scenes.append(await another(begun=True))
    assert await status_of(await scenes[-1][0].host.open(live.info.run_id)) == "interrupted"
    assert calls == 4


async def test_a_run_is_taken_up_though_those_that_wait_for_it_have_all_the_places(hosts: tuple[Scene, Scene]) -> None:
    here, there = hosts
    await here.says(asyncio.Event())
    await there.says("first", "second", limits=Limits(max_concurrent_runs=1))
    first = await here.start("one", session_id="s")
    second = await there.start("two", session_id="s")
    await here.models["a"].called.wait()
    await dies(here)
    taken_up = await there.host.open(first.info.run_id)
    assert [await status_of(live) for live in (taken_up, second)] == ["completed", "completed"]


async def test_a_run_that_is_taken_up_finds_what_it_asked_for_though_there_is_no_place_for_another(
    hosts: tuple[Scene, Scene],
) -> None:
    here, there = hosts
    await here.says(asyncio.Event(), name="writer")
    await here.says([("writer", {"message": "write"})], name="boss", tools=[delegating(here)])
    busy = asyncio.Event()
    await there.says(busy, "the answer", "for another", name="writer", limits=Limits(max_concurrent_runs=1))
    boss = await there.says("done", name="boss", tools=[delegating(there)])
    other = await there.start(name="writer")
    await asyncio.wait_for(there.models["writer"].called.wait(), SECONDS)
    live = await here.start(name="boss", session_id="s")
    await asyncio.wait_for(here.models["writer"].called.wait(), SECONDS)
    await here.until(live, lambda: "delegate_start" in here.types(live))
    await dies(here)
    assert await status_of(await there.host.open(live.info.run_id)) == "completed"
    assert boss.requests[0].messages[-1].content == "the answer"
    busy.set()
    assert await status_of(other) == "completed"


async def test_a_message_interrupts_what_was_before_it_though_the_server_is_away_for_a_moment(
    store: Store, begin: Begin
) -> None:
    limits = Limits(on_busy="interrupt")
    async with store.cut() as cut:
        here, there = await begin(), await begin(cut=cut)
        await here.says(asyncio.Event(), limits=limits)
        await there.says("at once", limits=limits)
        first = await here.start("one", session_id="s", run_id="run-first")
        cut.next_answer_to(b"run-first", then_shut=True)
        second = await there.start("two", session_id="s")
        await cut.until_shut()
        await SystemClock().sleep(4.5)  # as long as one who asks is patient
        cut.shut = False
        assert [await status_of(live) for live in (first, second)] == ["cancelled", "completed"]


async def test_who_follows_a_run_has_its_whole_answer_though_the_server_is_away_when_it_comes(
    store: Store, begin: Begin
) -> None:
    answer = "x" * 200_000
    async with store.cut() as cut:
        here, there = await begin(), await begin(cut=cut, begun=False)
        go = asyncio.Event()
        await here.says(go, answer)
        await here.start(run_id="run-1")
        followed = await there.host.open("run-1")
        cut.next_answer_to(b"sha256:", then_shut=True)
        go.set()
        waiting = asyncio.create_task(status_of(followed))
        await SystemClock().sleep(6)
        assert cut.cuts == 1
        cut.shut = False
        assert await waiting == "completed"
        assert followed.answer() == answer


async def test_who_created_a_run_that_was_claimed_before_it_was_known_is_not_its_writer(store: Store) -> None:
    space = new_space()
    mine, others = [await store.open(space, lease=LEASE) for _ in range(2)]
    run = Teller("run-1", "s")
    new = NewRun(run_id="run-1", session_id="s", agent=AGENT, caller="local")
    create = mine.writes.Creation(new, run.first(), mine._watch.owner)
    assert not (await mine._server.do(create)).existing  # which its caller never hears: the connection breaks
    await others.claim("run-1")
    assert (await mine._server.do(create)).existing
    for journal in (mine, others):
        await journal.aclose()


async def test_a_run_that_is_there_is_found_by_its_name_though_its_agent_is_at_its_limit(
    hosts: tuple[Scene, Scene],
) -> None:
    here, there = hosts
    await here.says("done")
    await there.says(asyncio.Event(), limits=Limits(max_concurrent_runs=1))
    await status_of(await here.start(run_id="run-1"))
    await there.start()
    assert await status_of(await there.start(run_id="run-1")) == "completed"
    with pytest.raises(errors.Conflict):
        await there.start(run_id="run-1", caller="another")
