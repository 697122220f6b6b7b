"""A model is tried again only while that makes sense and nothing has been yielded."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator

import pytest

from kadre.base.clock import FakeClock
from kadre.base.errors import ModelError
from kadre.base.retry import Backoff
from kadre.engine.messages import Message
from kadre.engine.models import failures
from kadre.engine.models.port import Reply, TextDelta
from kadre.engine.models.retries import Piece, retrying

DONE = Reply(Message("assistant", "done"))
DOWN = ModelError("down", reason="ModelUnavailable", retryable=True)


class Script:
    """A call that goes as told, one list of pieces and failures for each try."""

    def __init__(self, *tries: list[Piece | ModelError]) -> None:
        self._tries = list(tries)
        self.made = 0
        self.closed = 0

    async def __call__(self) -> AsyncGenerator[Piece, None]:
        self.made += 1
        try:
            for piece in self._tries.pop(0):
                if isinstance(piece, ModelError):
                    raise piece
                yield piece
        finally:
            self.closed += 1


async def collect(pieces: AsyncGenerator[Piece, None]) -> list[Piece]:
    return [piece async for piece in pieces]


async def patiently(script: Script, backoff: Backoff, seconds: float) -> list[Piece]:
    clock = FakeClock()
    task = asyncio.create_task(collect(retrying(script, backoff, clock)))
    await clock.advance(seconds)
    return await asyncio.wait_for(task, 5)


async def test_a_failure_that_passes_is_tried_again_after_a_wait() -> None:
    script = Script([DOWN], [DOWN], [DONE])
    assert await patiently(script, Backoff(), 2.0) == [DONE]
    assert (script.made, script.closed) == (3, 3)


async def test_after_the_last_try_its_error_is_raised() -> None:
    script = Script([DOWN], [DOWN])
    with pytest.raises(ModelError, match="down"):
        await patiently(script, Backoff(attempts=2), 2.0)
    assert script.made == 2


@pytest.mark.parametrize("error", [ModelError("no", status=400), failures.timed_out(3)])
async def test_a_refusal_and_a_time_limit_are_not_tried_again(error: ModelError) -> None:
    script = Script([error])
    with pytest.raises(ModelError) as caught:
        await collect(retrying(script, Backoff(), FakeClock()))
    assert (caught.value, script.made) == (error, 1)


async def test_nothing_is_tried_again_after_the_first_piece_went_out() -> None:
    script = Script([TextDelta("Hel"), DOWN])
    pieces = retrying(script, Backoff(), FakeClock())
    assert await anext(pieces) == TextDelta("Hel")
    with pytest.raises(ModelError, match="down"):
        await anext(pieces)
    assert script.made == 1


async def test_the_wait_is_at_least_what_was_asked_for() -> None:
    script = Script([ModelError("wait", retryable=True, retry_after=6)], [DONE])
    clock = FakeClock()
    task = asyncio.create_task(collect(retrying(script, Backoff(), clock)))
    await clock.advance(5.9)
    assert script.made == 1
    await clock.advance(0.2)
    assert await asyncio.wait_for(task, 5) == [DONE]


async def test_a_wait_longer_than_anyone_wants_is_an_error_at_once() -> None:
    script = Script([ModelError("wait", retryable=True, retry_after=3600)])
    with pytest.raises(ModelError) as caught:
        await collect(retrying(script, Backoff(), FakeClock()))
    assert caught.value.retry_after == 3600


async def test_a_request_that_was_mended_is_sent_at_once() -> None:
    script = Script([ModelError("no such option", status=400)], [DONE])
    assert await collect(retrying(script, Backoff(), FakeClock(), lambda error: error.status == 400)) == [DONE]


async def test_closing_early_closes_the_call_at_once() -> None:
    script = Script([TextDelta("a"), TextDelta("b"), DONE])
    pieces = retrying(script, Backoff(), FakeClock())
    await anext(pieces)
    await pieces.aclose()
    assert script.closed == 1
