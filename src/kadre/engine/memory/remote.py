"""A server that keeps a journal, whichever it is: what is sent to it again, and what is said where it fails.

What is sent over a connection that breaks is sent again: whether it was carried out the first time is not known. So
everything that is done through `Server.do` must be such that doing it twice is as doing it once.
"""

from __future__ import annotations

import abc
from collections.abc import Awaitable, Callable
from typing import Generic, NoReturn, TypeVar

from kadre.base import errors
from kadre.base.clock import Clock
from kadre.base.retry import Backoff
from kadre.engine.memory.port import CLOSED

RETRY_AFTER = 5.0
"""Seconds after which to try again when the server failed: somebody has to mend it first."""
_AGAIN = Backoff(attempts=6, first=0.1, limit=2.0)
"""A server that restarts takes a second or two; past four, whoever waits is told."""
T = TypeVar("T")
C = TypeVar("C")


class JournalUnavailable(errors.Unavailable):
    """503: the server could not do it, or it is not known whether it did. A later try may succeed."""

    default_reason = "JournalUnavailable"


class Server(abc.ABC, Generic[C]):
    """The connections `C` that a journal has to its server, in bounds."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self.closed = False

    @abc.abstractmethod
    async def once(self, work: Callable[[C], Awaitable[T]]) -> T:
        """What `work` returns for a connection. Raises what the server's library raises."""

    @abc.abstractmethod
    def lost(self, error: Exception) -> bool:
        """Whether the connection is gone, and another one may do better."""

    @abc.abstractmethod
    def told(self, error: Exception) -> Exception:
        """The error for whoever asked; the same one where it is Kadre's own."""

    @abc.abstractmethod
    async def aclose(self) -> None:
        """Give the connections back; what is stuck on one is cut off."""

    async def do(self, work: Callable[[C], Awaitable[T]]) -> T:
        """What `work` returns for a connection; done again on another one where that breaks.

        Raises what `work` raises of Kadre's own, BadRequest for a value that cannot be kept, and JournalUnavailable.
        """
        attempt = 0
        while True:
            attempt += 1
            try:
                return await self.once(work)
            except Exception as error:  # noqa: BLE001 - sorted below, and raised
                delay = _AGAIN.delay(attempt) if self.lost(error) else None
                if delay is None or self.closed:
                    self._fail(error)
            await self._clock.sleep(delay)

    def _fail(self, error: Exception) -> NoReturn:
        if self.closed and self.lost(error):
            raise closed() from error
        told = self.told(error)
        if told is error:
            raise error
        raise told from error


def closed() -> errors.Unavailable:
    """What is said by a journal that was closed."""
    return errors.Unavailable("the journal is closed", reason=CLOSED)
