"""What is remembered of runs that have ended."""

from __future__ import annotations

from kadre.base.clock import FakeClock
from kadre.engine.lately import BYTES, MOST, SECONDS, Lately


async def test_a_run_is_known_for_as_long_as_its_store_may_lose_its_end() -> None:
    clock = FakeClock()
    lately: Lately[str] = Lately(clock.monotonic)
    lately.add("run-1", "one", 10)
    await clock.advance(SECONDS)
    assert (lately.get("run-1"), lately.get("run-2")) == ("one", None)
    await clock.advance(1)
    assert lately.get("run-1") is None
    lately.add("run-2", "two", 10)
    assert len(lately) == 1


def test_they_are_bounded_and_the_last_are_known() -> None:
    lately: Lately[int] = Lately(FakeClock().monotonic)
    for number in range(MOST + 5):
        lately.add(f"run-{number}", number, 10)
    assert (len(lately), lately.get("run-4"), lately.get("run-5")) == (MOST, None, 5)


def test_so_is_what_they_hold_in_memory() -> None:
    lately: Lately[str] = Lately(FakeClock().monotonic)
    for name in ("run-1", "run-2", "run-3"):
        lately.add(name, name, BYTES // 2)
    assert [lately.get(name) for name in ("run-1", "run-2", "run-3")] == [None, "run-2", "run-3"]
    lately.add("run-2", "again", BYTES // 2)
    assert [lately.get(name) for name in ("run-2", "run-3")] == ["again", "run-3"]
    lately.add("run-4", "too large", BYTES + 1)
    assert len(lately) == 0
