"""A session's conversation from its beginning, a few runs at a time: for who takes all of it, however long it is."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from itertools import groupby
from operator import attrgetter

from kadre.engine import events as ev
from kadre.engine.memory.port import Journal

RUNS = 16
"""Runs that are read at once: what was said in them is in memory meanwhile."""


async def said(
    journal: Journal, agent: str, session_id: str, before_order: int, *, runs: int = RUNS
) -> AsyncIterator[Sequence[ev.Event]]:
    """What was said in each ended run below that number, run by run in their order; see `Journal.history`.

    A run that ends meanwhile is among them or is not.
    """
    last = ""
    for first in range(1, before_order, runs):
        events = await journal.history(agent, session_id, min(first + runs, before_order), runs)
        page = [list(each) for _, each in groupby(events, key=attrgetter("run_id"))]
        # Where runs of the page have not ended, or are forgotten, it begins with runs of the page before.
        told = next((number for number, run in enumerate(page, 1) if run[0].run_id == last), 0)
        for run in page[told:]:
            last = run[0].run_id
            yield run
