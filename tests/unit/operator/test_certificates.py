"""When the webhook's certificate is looked at, by a clock of the test's own."""

from __future__ import annotations

import asyncio

from kadre.base.clock import FakeClock
from kadre.operator.certificates import AFTER_FAILURE, BRIEF, EVERY, Pair, Tls


class Nowhere:
    """A Source that has nothing, and counts how often it was asked."""

    def __init__(self) -> None:
        self.asked = 0

    async def current(self) -> Pair:
        self.asked += 1
        raise OSError("nothing there")


async def settled() -> None:
    """Let whoever waits for nothing but its turn have it."""
    for _ in range(10):
        await asyncio.sleep(0)


async def test_it_is_looked_at_when_it_is_due_or_somebody_hurries_and_never_without_a_pause() -> None:
    source, clock = Nowhere(), FakeClock()
    tls = Tls(source)
    following = asyncio.ensure_future(tls.follow(clock, EVERY))
    await settled()
    await clock.advance(EVERY - AFTER_FAILURE)
    assert source.asked == 0
    tls.hurry()
    await settled()
    assert source.asked == 1
    for _ in range(4):  # as where two who want another thing each undo what the other does
        tls.hurry()
        await settled()
        await clock.advance(BRIEF / 4)
    await settled()
    assert source.asked == 2
    await clock.advance(AFTER_FAILURE)
    await settled()
    assert source.asked == 3
    following.cancel()
