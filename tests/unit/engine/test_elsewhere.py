"""Following a run that another process drives, by what the journal says of it."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from kadre.base.clock import FakeClock
from kadre.base.errors import NotFound, Unavailable
from kadre.engine import elsewhere
from kadre.engine import events as ev
from kadre.engine.live import Live
from kadre.engine.memory.inmemory import InMemoryJournal
from kadre.engine.memory.port import RunInfo
from tests.support.scene import Scene
from tests.support.unsteady import Unsteady


def following(clock: FakeClock) -> Live:
    """What is known of a run that another process drives."""
    ids: dict[str, Any] = {"run_id": "r", "session_id": "s"}
    info = RunInfo(
        agent="a", status="running", order=1, last_seq=1, epoch=1, created=clock.now(), updated=clock.now(), **ids
    )
    live = Live(info)
    live.publish([ev.RunStarted(seq=1, agent="a", time=clock.now(), **ids)])
    return live


async def test_who_follows_a_run_that_is_deleted_meanwhile_is_told() -> None:
    clock, journal = FakeClock(), InMemoryJournal()
    journal.shared = True
    live = following(clock)
    elsewhere.follow(live, journal, clock)
    waiting = asyncio.create_task(live.wait())
    for _ in range(2 * elsewhere.SILENT_LOOKS):
        for _ in range(5):
            await asyncio.sleep(0)
        await clock.advance(elsewhere.LOOK_SECONDS)
    assert waiting.done()
    with pytest.raises(NotFound, match="its session was deleted"):
        await waiting


async def test_all_who_follow_a_run_are_told_at_once_that_its_store_stays_away() -> None:
    clock, journal = FakeClock(), Unsteady("is down", at=1)
    journal.shared = True  # to this process it is as if another one wrote there
    live = following(clock)
    elsewhere.follow(live, journal, clock)
    told: list[float] = []

    async def wait() -> None:
        try:
            await live.wait()
        except Unavailable:
            told.append(clock.monotonic())

    waiting = [asyncio.create_task(wait()) for _ in range(4)]
    while len(told) < len(waiting) and clock.monotonic() < 4 * elsewhere.OUTAGE_SECONDS:
        await clock.advance(elsewhere.LOOK_SECONDS)
        for _ in range(5):  # what the store does takes a few steps
            await asyncio.sleep(0)
    assert len(told) == len(waiting)
    assert min(told) > elsewhere.OUTAGE_SECONDS
    assert max(told) < elsewhere.OUTAGE_SECONDS + 10 * elsewhere.LOOK_SECONDS


async def test_a_run_that_was_forgotten_just_now_is_not_there() -> None:
    scene = Scene()
    await scene.says("x")
    live = await scene.ask()
    with pytest.raises(NotFound):
        await elsewhere.kept(InMemoryJournal(), live.info, scene.clock)
