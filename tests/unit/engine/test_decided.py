"""Runs that a process of its own journal left after a person had decided about them."""

from __future__ import annotations

import asyncio

from kadre.engine import events as ev
from kadre.engine.memory.inmemory import InMemoryJournal
from kadre.engine.messages import ToolCall
from kadre.engine.tools.functions import Functions
from tests.contract.journal.story import Teller
from tests.support.scene import Asking, Pen, Scene

A = "default/a"


async def left(journal: InMemoryJournal, *more: str) -> None:
    """Have a run whose call was allowed there, `run-1`, and what its process stored before it died."""
    run = Teller("run-1", "s", agent=A)
    await run.create(journal)
    call = ToolCall("call-1", "write", '{"text": "x"}')
    await run.append(journal, run.event(ev.AssistantMessage, content="", tool_calls=(call,)), run.asks("apr-1"))
    await run.append(journal, run.event(ev.ApprovalDecided, approval_id="apr-1", decision="allow", by="ann"))
    if "started" in more:
        await run.append(journal, run.starts_a_call())


async def ended(scene: Scene) -> str:
    live = await scene.host.open("run-1")
    return (await asyncio.wait_for(live.wait(), 30)).status


async def test_one_is_gone_on_with() -> None:
    scene, pen = Scene(), Pen()
    assert isinstance(scene.journal, InMemoryJournal)
    await left(scene.journal)
    await scene.says("done", tools=[Asking(pen.write)])
    assert await scene.host.recover() == []
    assert (await ended(scene), pen.written) == ("completed", ["x"])


async def test_one_that_began_what_may_not_be_repeated_ends_unknown() -> None:
    scene, pen = Scene(), Pen()
    assert isinstance(scene.journal, InMemoryJournal)
    await left(scene.journal, "started")
    await scene.says("done", tools=[Asking(pen.write)])
    await scene.host.recover()
    assert (await ended(scene), pen.written) == ("interrupted", [])
    assert [call.status for call in scene.tool_ends(await scene.host.open("run-1"))] == ["unknown"]


async def test_one_whose_agent_is_gone_ends_and_its_session_is_free() -> None:
    scene = Scene()
    assert isinstance(scene.journal, InMemoryJournal)
    await left(scene.journal)
    await scene.says("hello", name="b")
    await scene.host.recover()
    assert await ended(scene) == "interrupted"
    await scene.says("hello", tools=[Functions()])
    assert (await scene.ask(session_id="s")).answer() == "hello"
