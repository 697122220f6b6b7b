"""Trying a model again, for every adapter alike: only while that makes sense and nothing has been yielded."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncGenerator, Callable

from kadre.base.clock import Clock
from kadre.base.errors import ModelError
from kadre.base.retry import Backoff
from kadre.engine.models import failures
from kadre.engine.models.port import Reply, TextDelta

Piece = TextDelta | Reply


async def retrying(
    once: Callable[[], AsyncGenerator[Piece, None]],
    backoff: Backoff,
    clock: Clock,
    learn: Callable[[ModelError], bool] | None = None,
) -> AsyncGenerator[Piece, None]:
    """The pieces of `once()`. Raises the last try's ModelError.

    `learn` is shown a failure first; True: it changed what the next request says, which is sent at once.
    """
    attempt = 1
    while True:
        yielded = False
        try:
            async with contextlib.aclosing(once()) as pieces:
                async for piece in pieces:
                    yielded = True
                    yield piece
                return
        except ModelError as error:
            if yielded:
                raise
            if learn is not None and learn(error):
                continue
            delay = backoff.delay(attempt, error.retry_after) if failures.worth_a_retry(error) else None
            if delay is None:
                raise
        await clock.sleep(delay)
        attempt += 1
