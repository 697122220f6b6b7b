"""Order and content hold under any interleaving and under many writers."""

from __future__ import annotations

import asyncio
import random
import tempfile
from contextlib import AsyncExitStack

from hypothesis import given, settings
from hypothesis import strategies as st

from kadre.engine import events as ev
from kadre.engine.memory.inmemory import InMemoryJournal
from kadre.engine.memory.port import Journal
from kadre.engine.memory.sqlite import SqliteJournal
from tests.contract.journal.story import AGENT, Teller, numbers, said

Script = list[tuple[int, int]]
"""For each run to come: its session, and how many events it tells before its end."""


@settings(max_examples=25, deadline=None)
@given(script=st.lists(st.tuples(st.integers(0, 2), st.integers(0, 3)), max_size=12), seed=st.integers())
def test_any_interleaving_keeps_order_and_numbers(script: Script, seed: int) -> None:
    asyncio.run(_interleaved(script, seed))


async def _interleaved(script: Script, seed: int) -> None:
    async with AsyncExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory())
        stores: list[Journal] = [InMemoryJournal(), await SqliteJournal.open(folder)]
        for journal in stores:
            stack.push_async_callback(journal.aclose)
            await _tell(journal, script, random.Random(seed))
        for session in range(3):
            ours, theirs = [await journal.history(AGENT, f"s{session}", 99, 99) for journal in stores]
            assert said(ours) == said(theirs)


async def _tell(journal: Journal, script: Script, chance: random.Random) -> None:
    started: dict[str, list[str]] = {}

    async def drive(index: int, session_id: str, extra: int) -> None:
        run = Teller(f"run-{index:02}", session_id)
        await run.create(journal, run.run_id, queue_limit=99)
        await journal.turn(run.run_id)
        started.setdefault(session_id, []).append(run.run_id)
        for number in range(extra):
            for _ in range(chance.randrange(3)):
                await asyncio.sleep(0)
            await run.append(journal, run.event(ev.System, reason="Note", message=str(number)))
        await run.end(journal, f"answer of {run.run_id}")

    async with asyncio.timeout(20):
        await asyncio.gather(*(drive(index, f"s{session}", extra) for index, (session, extra) in enumerate(script)))
    for index, (_, extra) in enumerate(script):
        assert numbers(await journal.events(f"run-{index:02}")) == list(range(1, extra + 6))
    for session_id, run_ids in started.items():
        runs = sorted(await journal.runs(session_id=session_id), key=lambda info: info.order)
        assert [info.run_id for info in runs] == run_ids
        assert [info.order for info in runs] == list(range(1, len(runs) + 1))
        assert {info.status for info in runs} == {"completed"}


async def test_a_thousand_sessions_of_a_hundred_writers_are_exact(journal: Journal) -> None:
    async def write(writer: int) -> None:
        for session in range(writer, 1000, 100):
            for turn in range(2):
                run = Teller(f"run-{session:03}-{turn}", f"s{session}")
                created = await run.create(journal, f"message {session} {turn}")
                assert (created.position, created.run.order) == (0, turn + 1)
                await run.end(journal, f"answer {session} {turn}")

    await asyncio.gather(*(write(writer) for writer in range(100)))
    assert len(await journal.runs(limit=5000)) == 2000
    for session in range(1000):
        expected = [text for turn in range(2) for text in (f"message {session} {turn}", f"answer {session} {turn}")]
        assert said(await journal.history(AGENT, f"s{session}", 3, 10)) == expected
        assert numbers(await journal.events(f"run-{session:03}-1")) == [1, 2, 3, 4, 5]
