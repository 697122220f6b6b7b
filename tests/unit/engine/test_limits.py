"""Rates: what is let through, and when to come back."""

from __future__ import annotations

import pytest

from kadre.base.clock import FakeClock
from kadre.base.errors import TooMany
from kadre.engine.limits import RateLimit


async def test_a_minutes_allowance_may_be_used_at_once_and_then_refills_evenly() -> None:
    clock = FakeClock()
    limit = RateLimit(60, "requests", clock)
    for _ in range(60):
        limit.check()
        limit.charge(1)
    with pytest.raises(TooMany) as refused:
        limit.check()
    assert refused.value.retry_after == pytest.approx(1.0)
    await clock.advance(1)
    limit.check()


async def test_tokens_used_beyond_the_allowance_are_paid_back_in_time() -> None:
    clock = FakeClock()
    limit = RateLimit(600, "tokens", clock)
    limit.charge(1200)
    with pytest.raises(TooMany) as refused:
        limit.check()
    assert refused.value.retry_after == pytest.approx(60.1)
    await clock.advance(61)
    limit.check()


def test_no_allowance_written_is_no_limit() -> None:
    limit = RateLimit(0, "requests", FakeClock())
    limit.charge(1_000_000)
    limit.check()
