"""Who leads gives that back when it ends, whatever it was about to write, by a clock of the test's own."""

from __future__ import annotations

import asyncio
import re
from dataclasses import replace

import pytest

from kadre.base.clock import FakeClock
from kadre.kube import leader
from kadre.kube.errors import ApiError
from kadre.kube.kinds import Key, Kind, Object
from kadre.kube.leader import ConfigMapLock, Leader, LeaseLock, Record


class Slow:
    """A lock that takes what is written, and answers the writes in `silent`, counted from 1, never."""

    def __init__(self, *silent: int) -> None:
        self.record: Record | None = None
        self.writes = 0
        self._silent = silent

    async def read(self) -> Record | None:
        return self.record

    async def write(self, record: Record) -> Record:
        if record.version != (self.record.version if self.record else ""):
            raise ApiError(409, "Conflict", "another was first")
        self.writes += 1
        self.record = replace(record, version=str(self.writes))
        if self.writes in self._silent:
            await asyncio.Event().wait()
        return self.record


@pytest.mark.parametrize("silent", [(), (1,), (2,)], ids=["at work", "as it takes the lead", "as it renews"])
async def test_the_lead_is_given_back_by_one_that_is_told_to_end(silent: tuple[int, ...]) -> None:
    lock, clock = Slow(*silent), FakeClock()
    leading = asyncio.ensure_future(Leader(lock, "first", clock).lead(asyncio.Event().wait))  # type: ignore[arg-type]  # it never returns
    await asyncio.sleep(0)
    await clock.advance(leader.EVERY)
    assert lock.record is not None
    assert (lock.record.holder, lock.writes) == ("first", 1 if silent == (1,) else 2)
    leading.cancel()
    await asyncio.wait([leading])
    assert lock.record.holder == ""
    assert await Leader(lock, "second", clock)._try()


class Keeps:
    """An API server that keeps one object."""

    def __init__(self) -> None:
        self.kept: Object = {}

    async def create(self, kind: Kind, obj: Object) -> Object:
        self.kept = obj | {"metadata": obj["metadata"] | {"resourceVersion": "1"}}
        return self.kept

    async def replace(self, kind: Kind, obj: Object) -> Object:
        return await self.create(kind, obj)


async def test_a_record_that_is_given_back_says_that_it_holds_for_a_second() -> None:
    client, key = Keeps(), Key("kagent", "lead")
    for lock in (LeaseLock(client, key), ConfigMapLock(client, key)):  # type: ignore[arg-type]  # of a client they take these two
        for holder, seconds in (("first", leader.HOLDS), ("", 1)):
            await lock.write(Record(holder))
            told = client.kept.get("spec") or client.kept["metadata"]["annotations"][leader.ANNOTATION]
            assert re.findall(r"leaseDurationSeconds\W+(\d+)", str(told)) == [str(seconds)]
