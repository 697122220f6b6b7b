"""What is done for a few at once, because it is large: a few more wait, and the rest are told to come back."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from kadre.base.errors import TooMany

RETRY_AFTER = 1.0


class Turns:
    """`at_once` of `what` under way, and at most `waiting` that wait, each for `seconds`."""

    def __init__(self, what: str, at_once: int, waiting: int, seconds: float) -> None:
        self._what = what
        self._at_once = at_once
        self._most = at_once + waiting
        self._seconds = seconds
        self._room = asyncio.Semaphore(at_once)
        self._there = 0

    @asynccontextmanager
    async def turn(self) -> AsyncIterator[None]:
        """A turn among them. Raises TooMany where too many wait already, or it does not come in time."""
        if self._there >= self._most:
            raise self._refused()
        self._there += 1
        try:
            try:
                async with asyncio.timeout(self._seconds):
                    await self._room.acquire()
            except TimeoutError:
                raise self._refused() from None
            try:
                yield
            finally:
                self._room.release()
        finally:
            self._there -= 1

    def _refused(self) -> TooMany:
        message = f"{self._at_once} {self._what} are under way, which is as many as may be at once, and others wait"
        return TooMany(message, reason=f"{self._what.capitalize()}UnderWay", retry_after=RETRY_AFTER)
