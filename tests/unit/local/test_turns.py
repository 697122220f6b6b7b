"""Whose turn it is to have code run: callers in turn, and nobody in place of one that has left."""

from __future__ import annotations

import asyncio
from contextlib import suppress

import pytest

from kadre.base.errors import ToolError
from kadre.local.code_process import Turns

pytestmark = pytest.mark.requirement("tool-code-cluster")


class Had:
    """Who has had a turn, in order."""

    def __init__(self, turns: Turns) -> None:
        self._turns = turns
        self.names: list[str] = []

    def ask(self, name: str, go: asyncio.Event | None = None, seconds: float = 50.0) -> asyncio.Task[None]:
        """Have a turn that lasts until `go`; the caller is the first letter of the name."""

        async def turn() -> None:
            async with self._turns.turn(seconds, name[0]):
                self.names.append(name)
                if go is not None:
                    await go.wait()

        return asyncio.create_task(turn())


async def test_callers_take_turns_and_each_keeps_its_order() -> None:
    had, go = Had(Turns(1, 64)), asyncio.Event()
    all_of_them = [had.ask(name, go) for name in ("a0", "a1", "a2", "a3", "b1", "b2", "c1")]
    await asyncio.sleep(0)
    go.set()
    await asyncio.gather(*all_of_them)
    assert had.names == ["a0", "a1", "b1", "c1", "a2", "b2", "a3"]


async def test_one_caller_takes_half_of_the_places_and_all_together_no_more_than_there_are() -> None:
    had, go = Had(Turns(1, 4)), asyncio.Event()
    asked = [had.ask(name, go) for name in ("a0", "a1", "a2", "a3", "b1", "c1", "d1")]
    await asyncio.sleep(0)
    go.set()
    came = await asyncio.gather(*asked, return_exceptions=True)
    assert [type(each) for each in came] == [type(None)] * 3 + [ToolError] + [type(None)] * 2 + [ToolError]


async def test_who_leaves_takes_nobodys_turn_away() -> None:
    had, go = Had(Turns(1, 64)), asyncio.Event()
    first, second, third = had.ask("a1", go), had.ask("a2"), had.ask("b1")
    await asyncio.sleep(0)
    late = had.ask("c1", seconds=0.0)
    with pytest.raises(ToolError, match="not run"):
        await late
    second.cancel()
    go.set()
    await asyncio.gather(first, third)
    fourth, fifth = had.ask("a3", go := asyncio.Event()), had.ask("b2")
    await asyncio.sleep(0)
    go.set()
    await fourth
    fifth.cancel()  # its turn has come by now, or comes just now
    with suppress(asyncio.CancelledError):
        await fifth
    await had.ask("d1")
    assert had.names[:3] == ["a1", "b1", "a3"]
    assert had.names[-1] == "d1"
