"""Batches of jobs go to a thread in order; every job is answered once, whatever happens to the others or the caller."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Sequence

import pytest

from kadre.base import errors
from kadre.engine.memory.lane import Job, Lane


class _Gate:
    """Work that records its batches and stops at a gate before each."""

    def __init__(self) -> None:
        self.open = threading.Event()
        self.batches: list[Sequence[Job]] = []
        self.fails: set[Job] = set()

    def work(self, batch: Sequence[Job]) -> Sequence[Job] | None:
        self.open.wait(10)
        self.batches.append(batch)
        if self.fails.intersection(batch):
            if len(batch) == 1:
                batch[0].error = ValueError("spoilt")
            for job in batch:
                job.alone = True
            return None
        for number, job in enumerate(batch):
            job.result = number
        return batch


async def _lane(gate: _Gate) -> Lane[Job, Sequence[Job]]:
    lane: Lane[Job, Sequence[Job]] = Lane("test", gate.work, lambda _: None, asyncio.get_running_loop())
    lane.start()
    return lane


async def test_jobs_that_come_while_the_thread_works_make_one_batch() -> None:
    gate = _Gate()
    lane = await _lane(gate)
    first = asyncio.create_task(lane.do(Job()))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    others = [asyncio.create_task(lane.do(Job())) for _ in range(10)]
    await asyncio.sleep(0)
    gate.open.set()
    assert await first == 0
    assert await asyncio.gather(*others) == list(range(10))
    assert [len(batch) for batch in gate.batches] == [1, 10]
    await lane.aclose()


async def test_a_job_that_spoils_its_batch_fails_alone() -> None:
    gate = _Gate()
    gate.open.set()
    lane = await _lane(gate)
    jobs = [Job() for _ in range(4)]
    gate.fails = {jobs[2]}
    results = await asyncio.gather(*(lane.do(job) for job in jobs), return_exceptions=True)
    assert [type(result) for result in results] == [int, int, ValueError, int]
    await lane.aclose()


async def test_work_that_breaks_is_told_to_its_callers_and_the_thread_goes_on() -> None:
    def broken(batch: Sequence[Job]) -> None:
        raise KeyError(len(batch))

    lane: Lane[Job, None] = Lane("test", broken, lambda _: None, asyncio.get_running_loop())
    lane.start()
    for _ in range(2):
        with pytest.raises(KeyError):
            await lane.do(Job())
    await lane.aclose()


async def test_a_caller_that_may_leave_does_and_the_others_are_answered() -> None:
    gate = _Gate()
    lane = await _lane(gate)
    leaver, stayer = asyncio.create_task(lane.do(Job())), asyncio.create_task(lane.do(Job()))
    await asyncio.sleep(0)
    leaver.cancel()
    await asyncio.wait([leaver])
    gate.open.set()
    assert await stayer == 1
    await lane.aclose()


async def test_a_caller_that_sees_it_through_leaves_when_it_is_settled() -> None:
    gate = _Gate()
    lane = await _lane(gate)
    job = Job()
    caller = asyncio.create_task(lane.see_through(job))
    for _ in range(3):
        await asyncio.sleep(0)
        caller.cancel()
    await asyncio.sleep(0)
    assert not caller.done()
    gate.open.set()
    with pytest.raises(asyncio.CancelledError):
        await caller
    assert job.settled
    await lane.aclose()


async def test_a_closed_lane_takes_nothing_more() -> None:
    gate = _Gate()
    gate.open.set()
    lane = await _lane(gate)
    last = asyncio.create_task(lane.do(Job()))
    await asyncio.sleep(0)
    await lane.aclose()
    assert last.done() or await last == 0
    with pytest.raises(errors.Unavailable):
        await lane.do(Job())
