"""What is remembered of runs that have ended."""

from __future__ import annotations

from kadre.base.clock import FakeClock
from kadre.engine.lately import MOST, SECONDS, Lately


async def test_a_run_is_known_for_as_long_as_its_store_may_lose_its_end() -> None:
    clock = FakeClock()
    lately: Lately[str] = Lately(clock.monotonic)
    lately.add("run-1", "one")
    await clock.advance(SECONDS)
    assert (lately.get("run-1"), lately.get("run-2")) == ("one", None)
    await clock.advance(1)
    assert lately.get("run-1") is None
    lately.add("run-2", "two")
    assert len(lately) == 1


def test_they_are_bounded_and_the_last_are_known() -> None:
    lately: Lately[int] = Lately(FakeClock().monotonic)
    for number in range(MOST + 5):
        lately.add(f"run-{number}", number)
    assert (len(lately), lately.get("run-4"), lately.get("run-5")) == (MOST, None, 5)
