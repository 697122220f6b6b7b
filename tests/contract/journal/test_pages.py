"""A session in every store, read from its beginning a few runs at a time: whole, in order, and each run once."""

from __future__ import annotations

import pytest

from kadre.engine.memory import pages
from kadre.engine.memory.port import Journal
from tests.contract.journal.story import AGENT, Teller, said, whole_run

pytestmark = pytest.mark.requirement("session-keeping")


async def texts(journal: Journal, before: int, size: int) -> list[str]:
    return [text async for run in pages.said(journal, AGENT, "s", before, runs=size) for text in said(run)]


async def test_a_conversation_is_read_whole_whatever_fits_in_a_page(journal: Journal) -> None:
    for index in range(1, 38):
        await whole_run(journal, f"run-{index}", "s", minute=index)
        await whole_run(journal, f"other-{index}", "t", minute=index)
    expected = [text for index in range(1, 38) for text in (f"message of run-{index}", f"answer of run-{index}")]
    for size in (1, 5, 36, 37, 38, 1000):
        assert await texts(journal, 38, size) == expected
        assert await texts(journal, 21, size) == expected[:40]
    assert await texts(journal, 1, 5) == []


async def test_runs_that_have_not_ended_are_passed_over_and_none_is_read_twice(journal: Journal) -> None:
    runs = [Teller(f"run-{index}", "s", minute=index) for index in range(1, 10)]
    for run in runs:
        await run.create(journal, run.run_id, queue_limit=100)
    for index in (0, 1, 4, 8):  # who waits for a turn can be cancelled before it comes
        await runs[index].end(journal, f"end of {runs[index].run_id}")
    expected = [text for run in ("run-1", "run-2", "run-5", "run-9") for text in (run, f"end of {run}")]
    for size in (1, 2, 3, 4, 9):
        assert await texts(journal, 10, size) == expected


async def test_a_run_that_ends_while_pages_are_read_is_in_its_place_or_left_out(journal: Journal) -> None:
    runs = [Teller(f"run-{index}", "s", minute=index) for index in range(1, 7)]
    for run in runs:
        await run.create(journal, run.run_id, queue_limit=100)
    for index in (0, 3, 4, 5):
        await runs[index].end(journal)
    read = []
    async for run_ in pages.said(journal, AGENT, "s", 7, runs=2):
        if run_[0].run_id == "run-1":
            await runs[1].end(journal)
        if run_[0].run_id == "run-4":
            await runs[2].end(journal)
        read.append(run_[0].run_id)
    assert read == ["run-1", "run-2", "run-4", "run-5", "run-6"]
