"""An agent whose store is away: a message is refused, or answered without memory and without harm, as declared."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from kadre.base import errors
from kadre.base.clock import SystemClock
from kadre.engine import events as ev
from kadre.engine.away import REASON
from kadre.engine.live import Live
from kadre.engine.tools.functions import Functions
from kadre.plan.types import ApprovalPlan, ApprovalRule, MemoryPlan
from tests.contract.journal.conftest import LEASE
from tests.support.cut import Cut
from tests.support.redis import RedisServer
from tests.support.scene import Asking, Pen, Scene, Told, Turn
from tests.support.stores import Store, new_space
from tests.support.upping import up

pytestmark = pytest.mark.requirement("memory-failure-mode")
GOES_ON = MemoryPlan(failure_mode="Continue")
SECONDS = 30


@pytest.fixture
async def cut(store: Store) -> AsyncIterator[Cut]:
    async with store.cut() as cut:
        yield cut


@pytest.fixture
async def scene(store: Store, cut: Cut) -> AsyncIterator[Scene]:
    """A host whose way to its store can be cut."""
    scene = Scene(await store.open(new_space(), lease=LEASE, cut=cut), SystemClock())
    await scene.host.recover()
    yield scene
    cut.shut = False
    await scene.host.aclose(0)


async def answer(live: Live) -> str:
    finished = await asyncio.wait_for(live.wait(), SECONDS)
    assert finished.status == "completed"
    return live.answer()


def heard(model: Told) -> list[str]:
    return [message.content for message in model.requests[-1].messages]


def notices(live: Live) -> list[str]:
    return [event.message for event in live.events if isinstance(event, ev.System) and event.reason == REASON]


async def test_a_message_is_refused_where_nothing_is_said_of_it(scene: Scene, cut: Cut) -> None:
    model = await scene.says("first", "never")
    assert await answer(await scene.start("one", session_id="s")) == "first"
    cut.hang_up()
    with pytest.raises(errors.Unavailable):
        await scene.start("two", session_id="s")
    assert len(model.requests) == 1


async def test_a_message_is_answered_without_memory_and_the_session_goes_on_from_what_was_kept(
    scene: Scene, cut: Cut
) -> None:
    model = await scene.says("first", "second", "third", memory=GOES_ON)
    kept = await scene.start("one", session_id="s")
    assert await answer(kept) == "first"
    cut.hang_up()
    live = await scene.start("two", session_id="s", run_id="run-two")
    assert await answer(live) == "second"
    assert heard(model) == ["two"]
    (told,) = notices(live)
    assert told.startswith("answered without what was said before, and not kept; only tools that read can be used: ")
    assert (live.info.run_id, live.info.session_id, live.events[-1].seq) == ("run-two", "s", len(live.events))
    assert scene.host.agents[next(iter(scene.host.agents))].running == 0
    cut.shut = False
    last = await scene.start("three", session_id="s")
    assert (await answer(last), notices(last)) == ("third", [])
    assert heard(model) == ["one", "first", "three"]
    assert last.info.order == 2
    assert [info.run_id for info in await scene.journal.runs()] == [last.info.run_id, kept.info.run_id]
    with pytest.raises(errors.NotFound):
        await scene.host.open("run-two")


@pytest.mark.parametrize("run_id", ["", "run-named"])
async def test_a_run_that_the_store_kept_before_it_was_cut_off_holds_up_nobody(
    scene: Scene, cut: Cut, run_id: str
) -> None:
    """Nobody had heard that it was kept: it is answered without memory, and ends there as cancelled."""
    model = await scene.says("before", "answered", "next", memory=GOES_ON)
    assert await answer(await scene.start("before", session_id="known")) == "before"  # scripts are known from then on
    cut.next_answer_to(b"to be cut", then_shut=True)
    live = await scene.start("to be cut", session_id="s", run_id=run_id)
    assert (await answer(live), len(notices(live))) == ("answered", 1)
    cut.shut = False
    assert await answer(await scene.start("next", session_id="s")) == "next"
    assert [info.status for info in await scene.journal.runs(session_id="s")] == ["completed", "cancelled"]
    assert len(model.requests) == 3


async def test_a_run_that_is_kept_under_an_id_that_was_answered_without_memory_is_taken_up_as_any_other(
    store: Store, cut: Cut
) -> None:
    space = new_space()
    scene = Scene(await store.open(space, lease=LEASE, cut=cut), SystemClock())
    await scene.host.recover()
    go = asyncio.Event()
    model = await scene.says("without", go, "never heard", "with", memory=GOES_ON)
    cut.hang_up()
    assert await answer(await scene.start("one", session_id="s", run_id="run-named")) == "without"
    cut.shut = False
    again = await scene.start("one", session_id="s", run_id="run-named")
    while len(model.requests) < 2:
        await model.called.wait()
        await SystemClock().sleep(0.01)
    there = await store.open(space, lease=LEASE)  # another process takes it, and ends
    await there.claim("run-named")
    await there.aclose()
    await asyncio.wait_for(again.wait(), SECONDS)
    assert [info.status for info in await scene.journal.runs()] == ["completed"]
    await scene.host.aclose(0)


async def test_a_turn_without_memory_writes_nothing_asks_nobody_and_reads(scene: Scene, cut: Cut) -> None:
    pen, asked = Pen(), Pen()

    def look(what: str) -> str:
        """Look it up."""
        return f"found {what}"

    def peek(what: str) -> str:
        """Look at what somebody must agree to."""
        raise AssertionError(what)

    def ponder(text: str) -> str:
        """Nobody knows whether it writes."""
        return asked.write(text)

    rules = (ApprovalRule("ask", ("peek",), arguments={"what": "secret"}), ApprovalRule("allow", ("write",)))
    calls: Turn = [
        ("look", {"what": "x"}),
        ("peek", {"what": "secret"}),
        ("write", {"text": "a"}),
        ("ponder", {"text": "b"}),
    ]
    model = await scene.says(
        calls,
        "done",
        memory=GOES_ON,
        approvals=ApprovalPlan(rules),
        tools=[Functions(look, peek, read_only=True), Functions(pen.write), Asking(ponder)],
    )
    cut.hang_up()
    live = await scene.start("go", session_id="s")
    assert await answer(live) == "done"
    assert [spec.name for spec in model.requests[0].tools] == ["look", "peek"]
    assert [(call.status, call.output or call.error) for call in scene.tool_ends(live)] == [
        ("complete", "found x"),
        ("error", "peek is not allowed: the memory store is away: nobody can be asked"),
        ("error", "there is no tool 'write'; the tools are: look, peek"),
        ("error", "there is no tool 'ponder'; the tools are: look, peek"),
    ]
    assert (pen.written, asked.written) == ([], [])
    assert "approval_required" not in scene.types(live)


MANIFEST = """
apiVersion: kagent.dev/v1alpha1
kind: MemoryStore
metadata: {{name: chats}}
spec: {{type: redis, redis: {{host: 127.0.0.1, port: {port}}}, failureMode: Continue}}
---
apiVersion: kagent.dev/v1alpha1
kind: Agent
metadata: {{name: helper}}
spec: {{model: {{provider: scripted, name: m}}, memory: {{storeRef: chats}}}}
"""


@pytest.mark.stores
@pytest.mark.needs("redis")
async def test_a_laptop_answers_while_its_redis_is_down_and_says_so(tmp_path: Path) -> None:
    files = tmp_path / "files"
    files.mkdir()
    with RedisServer(address="127.0.0.1") as server:
        (files / "helper.yaml").write_text(MANIFEST.format(port=server.port))
        async with up(files) as upped:
            assert (await upped.post("/chat", {"message": "one", "session_id": "s"}))[0] == 200
            await asyncio.to_thread(server.stop)
            status, told = await upped.post("/chat", {"message": "two", "session_id": "s"})
            assert (status, told["session_id"], bool(told["response"])) == (200, "s", True)
            await upped.until_said("a message to default/helper is answered without memory: redis journal 127.0.0.1")
            await asyncio.to_thread(server.start)
            assert (await upped.post("/chat", {"message": "three", "session_id": "s"}))[0] == 200
            session = await upped.get("/sessions/s")
    assert [message["content"] for message in session["messages"] if message["role"] == "user"] == ["one", "three"]
