"""Who holds a lease tells whether the server's clock was set: then nobody's lease that ran out says that it is gone."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

import pytest

from kadre.base.clock import FakeClock
from kadre.engine.memory import remote_watch
from kadre.engine.memory.port import RunInfo
from kadre.engine.memory.turns import Turns

pytestmark = pytest.mark.requirement("clocks-that-are-set")
LEASE = 12.0


class Watch(remote_watch.Watch[object]):
    """Its server's clock is ahead of the machine's by `ahead`, and takes `slow` to be read."""

    failures = (OSError,)

    def __init__(self, machine: FakeClock) -> None:
        super().__init__("a journal", Turns(), machine, LEASE)
        self.machine = machine
        self.ahead = 1_000.0
        self.slow = 0.0

    async def _connect(self) -> object:
        return object()

    async def _enter(self, db: object) -> None:
        pass

    async def _listen(self, db: object) -> None:
        pass

    async def _prolong(self, db: object) -> Any:
        until = self.machine.monotonic() + self.ahead + LEASE
        await self.machine.advance(self.slow)
        return until

    def _seconds(self, until: Any) -> float:
        return float(until)

    def _cut(self, db: object) -> None:
        pass

    async def _leave(self, db: object) -> None:
        pass

    async def held(self, db: object) -> Sequence[RunInfo]:
        """See `remote_watch.Watch.held`."""
        return []

    async def abandoned(self, db: object, agents: Collection[str]) -> Sequence[RunInfo]:
        """See `remote_watch.Watch.abandoned`."""
        return []

    async def goes_on(self, renewals: int) -> bool:
        """Whether it is steady after so many renewals."""
        for _ in range(renewals):
            await self.machine.advance(LEASE / remote_watch.RENEWALS)
            await self._renew(object())
        return self.steady


@pytest.fixture
async def watch() -> Watch:
    watch = Watch(FakeClock())
    await watch.open()
    return watch


async def test_it_is_steady_when_it_has_held_its_lease_for_as_long_as_one_lasts(watch: Watch) -> None:
    assert not await watch.goes_on(2)
    assert await watch.goes_on(1)


@pytest.mark.parametrize("step", [0.9 * LEASE, 3600.0, -0.9 * LEASE, -3600.0])
async def test_a_clock_that_is_set_gives_everybody_the_time_of_a_lease_to_renew_theirs(
    watch: Watch, step: float
) -> None:
    assert await watch.goes_on(3)
    watch.ahead += step
    assert not await watch.goes_on(1)
    assert not await watch.goes_on(2)
    assert await watch.goes_on(1)


async def test_a_clock_that_is_set_little_by_little_is_one_that_is_set(watch: Watch) -> None:
    assert await watch.goes_on(3)
    steady = []
    for _ in range(4):
        watch.ahead += 0.1 * LEASE
        steady.append(await watch.goes_on(1))
    assert False in steady


async def test_a_machine_that_stood_still_takes_itself_for_who_was_away(watch: Watch) -> None:
    """Its monotonic clock stands still too, while it is suspended."""
    assert await watch.goes_on(3)
    watch.ahead += 60
    assert not await watch.goes_on(3)
    assert await watch.goes_on(1)


async def test_a_slow_answer_is_no_clock_that_was_set(watch: Watch) -> None:
    assert await watch.goes_on(3)
    for slow in (0.3 * LEASE / 3, 0.0, 0.5 * LEASE / 3, 0.0):
        watch.slow = slow
        assert await watch.goes_on(1)
