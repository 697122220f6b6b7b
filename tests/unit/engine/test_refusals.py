"""What is remembered of runs that may come though they were refused."""

from __future__ import annotations

from kadre.base.clock import FakeClock
from kadre.engine.memory.inmemory import InMemoryJournal
from kadre.engine.refusals import LINGERS, MOST, Refusals


async def test_one_is_forgotten_when_its_own_store_has_not_had_it_for_long_enough() -> None:
    clock, one, other = FakeClock(), InMemoryJournal(), InMemoryJournal()
    refusals = Refusals(clock)
    refusals.add(one, "run-1")
    refusals.settle(one, ())
    assert refusals.of(one) == {"run-1"}
    assert refusals.of(other) == set()
    await clock.advance(LINGERS + 1)
    refusals.settle(other, ())
    refusals.settle(one, {"run-1"})
    assert refusals.of(one) == {"run-1"}
    refusals.settle(one, {"run-2"})
    assert refusals.of(one) == set()


def test_they_are_bounded() -> None:
    journal, refusals = InMemoryJournal(), Refusals(FakeClock())
    for number in range(MOST + 5):
        refusals.add(journal, f"run-{number}")
    assert len(refusals.of(journal)) == MOST
