"""A turn without memory beside what else an agent may be at that moment: replaced, or one with hundreds of tools."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

import pytest

from kadre.engine import events as ev
from kadre.engine.memory.inmemory import InMemoryJournal
from kadre.engine.memory.port import Created, NewRun
from kadre.engine.memory.remote import JournalUnavailable
from kadre.engine.tools.finding import NAME
from kadre.engine.tools.functions import Functions
from kadre.plan.types import Limits, MemoryPlan
from tests.support.scene import Pen, Scene

pytestmark = pytest.mark.requirement("memory-failure-mode")
GOES_ON = MemoryPlan(failure_mode="Continue")


class Gone(InMemoryJournal):
    """Says that it is away, once it is let."""

    def __init__(self) -> None:
        super().__init__()
        self.asked, self.answers = asyncio.Event(), asyncio.Event()

    async def create(self, new: NewRun, first: Sequence[ev.Event]) -> Created:
        self.asked.set()
        await self.answers.wait()
        raise JournalUnavailable("the server is away")


def named(name: str) -> Callable[[int], str]:
    """A function of that name."""

    def shelf(number: int) -> str:
        """Look what is on a shelf of which there are many: a description of some length."""
        return str(number)

    shelf.__name__ = name
    return shelf


async def test_an_agent_that_is_replaced_while_its_store_is_waited_for_answers_and_is_closed_then() -> None:
    journal = Gone()
    scene = Scene(journal)
    go = asyncio.Event()
    before = await scene.says(go, "answered", memory=GOES_ON)
    asking = asyncio.create_task(scene.start())
    await journal.asked.wait()
    await scene.says("of another", memory=GOES_ON)
    journal.answers.set()
    live = await asking
    await before.called.wait()
    assert not before.closed
    go.set()
    assert (await live.wait()).status == "completed"
    assert live.answer() == "answered"
    await asyncio.sleep(0)  # its driver gives its place back
    assert before.closed


async def test_tools_that_are_too_many_are_found_by_search_and_those_that_write_are_not_found() -> None:
    journal = Gone()
    journal.answers.set()
    looks, writes = [[named(f"{what}_{number}") for number in range(30)] for what in ("look", "write_shelf")]
    scene = Scene(journal)
    model = await scene.says(
        [(NAME, {"query": "what is on which shelf"})],
        "done",
        memory=GOES_ON,
        limits=Limits(max_tool_tokens=500),
        tools=[Functions(*looks, read_only=True), Functions(*writes, Pen().write)],
    )
    live = await scene.ask()
    assert live.answer() == "done"
    assert [spec.name for spec in model.requests[0].tools] == [NAME]
    (found,) = scene.tool_ends(live)
    assert "look_" in found.output
    assert "write" not in found.output
