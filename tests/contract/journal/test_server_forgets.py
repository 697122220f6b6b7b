"""A server that goes back to an earlier state: what it had acknowledged since is told again by whoever lives."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import ExitStack
from typing import NamedTuple

import pytest

from kadre.base.clock import SystemClock
from kadre.engine import events as ev
from kadre.engine.live import Live
from tests.contract.journal.conftest import LEASE, SERVERS
from tests.support.scene import Asking, Scene
from tests.support.stores import Store, new_space, started

SECONDS = 30
pytestmark = pytest.mark.requirement("journal-told-again")


class Slow:
    """A write that takes until `go`, and those that were made."""

    def __init__(self) -> None:
        self.written: list[str] = []
        self.begun = asyncio.Event()
        self.go = asyncio.Event()

    async def write(self, text: str) -> str:
        """Write it."""
        self.written.append(text)
        self.begun.set()
        await self.go.wait()
        return f"wrote {text}"


class Two(NamedTuple):
    """Two processes over one store, and what their agent writes with."""

    store: Store
    here: Scene
    there: Scene
    pen: Slow


@pytest.fixture(params=SERVERS)
async def two(request: pytest.FixtureRequest) -> AsyncIterator[Two]:
    """A server of the test's own: others' have not agreed to forget."""
    space, pen = new_space(), Slow()
    with ExitStack() as stack:
        store = await asyncio.to_thread(lambda: stack.enter_context(started(request.param)))
        here, there = [Scene(await store.open(space, lease=LEASE), SystemClock()) for _ in range(2)]
        await here.says([("write", {"text": "x"})], "done", tools=[Asking(pen.write)])
        await there.says("mine", tools=[Asking(pen.write)])
        for scene in (here, there):
            await scene.host.recover()
        yield Two(store, here, there, pen)
        pen.go.set()
        for scene in (here, there):
            await scene.host.aclose(0)


async def is_known_again(scene: Scene, live: Live) -> None:
    """Wait until the journal has all that was acknowledged."""
    async with asyncio.timeout(SECONDS):
        while await kept(scene, live) != list(live.events):
            await SystemClock().sleep(0.05)


async def kept(scene: Scene, live: Live) -> list[ev.Event]:
    """What the journal has of the run."""
    return list(await scene.journal.events(live.info.run_id))


async def ends_once(two: Two, live: Live) -> None:
    """The call is answered; it was made once, and nobody lost any of it."""
    two.pen.go.set()
    assert (await asyncio.wait_for(live.wait(), SECONDS)).status == "completed"
    assert two.pen.written == ["x"]
    assert await kept(two.there, live) == list(live.events)
    assert [event.seq for event in live.events] == list(range(1, len(live.events) + 1))


async def test_a_call_under_way_is_not_made_again_where_its_beginning_is_lost(two: Two) -> None:
    live = await two.here.start(session_id="s")
    approval = await two.here.approval(live)
    await asyncio.to_thread(two.store.server.remember)
    await two.here.host.approve(live.info.run_id, approval.id, "allow", "ann")
    await asyncio.wait_for(two.pen.begun.wait(), SECONDS)
    await asyncio.to_thread(two.store.server.go_back)
    await is_known_again(two.there, live)  # before it ends: until then it would be asked for again
    await ends_once(two, live)


async def test_nor_where_its_end_is_lost(two: Two) -> None:
    live = await two.here.start(session_id="s")
    approval = await two.here.approval(live)
    await asyncio.to_thread(two.store.server.remember)
    two.pen.go.set()
    await two.here.host.approve(live.info.run_id, approval.id, "allow", "ann")
    await asyncio.wait_for(live.wait(), SECONDS)
    await asyncio.to_thread(two.store.server.go_back)
    await is_known_again(two.there, live)
    await ends_once(two, live)


async def test_nor_where_it_was_allowed_at_another_process_whose_claim_is_lost_too(two: Two) -> None:
    asking = await two.here.start(session_id="s")
    approval = await two.here.approval(asking)
    await asyncio.to_thread(two.store.server.remember)
    await two.there.host.approve(asking.info.run_id, approval.id, "allow", "ann")
    live = await two.there.host.open(asking.info.run_id)
    await asyncio.wait_for(two.pen.begun.wait(), SECONDS)
    await asyncio.to_thread(two.store.server.go_back)
    await is_known_again(two.here, live)
    await ends_once(two, live)


async def test_a_run_that_is_lost_is_made_again_by_who_drives_it(two: Two) -> None:
    await asyncio.to_thread(two.store.server.remember)
    live = await two.here.start(session_id="s", run_id="run-1")
    approval = await two.here.approval(live)
    await two.here.host.approve("run-1", approval.id, "allow", "ann")
    await asyncio.wait_for(two.pen.begun.wait(), SECONDS)
    await asyncio.to_thread(two.store.server.go_back)
    await is_known_again(two.there, live)
    again = await two.there.start(session_id="s", run_id="run-1")  # as a caller does that lost its connection
    await ends_once(two, live)
    assert (await asyncio.wait_for(again.wait(), SECONDS)).status == "completed"
    assert two.there.models["a"].requests == []
