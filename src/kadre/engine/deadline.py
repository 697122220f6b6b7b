"""A run's time to work: waiting for a person is not work."""

from __future__ import annotations

import asyncio
from types import TracebackType

from kadre.base.errors import KadreError


class DeadlineExceeded(KadreError):
    """The run took longer than its agent allows."""


class Deadline:
    """`async with` it around the work: past the deadline the work is cancelled and DeadlineExceeded raised.

    The clock stands while anybody holds it. `spent`: seconds that were worked before, in another process.
    """

    def __init__(self, seconds: float, spent: float = 0.0) -> None:
        self._seconds = seconds
        self._timeout: asyncio.Timeout | None = None
        self._holders: set[str] = set()
        self._left = max(0.0, seconds - spent)

    async def __aenter__(self) -> None:
        self._timeout = await asyncio.timeout(self._left).__aenter__()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        timeout, self._timeout = self._timeout, None
        if timeout is None:
            return
        try:
            await timeout.__aexit__(kind, error, where)
        except TimeoutError as late:
            raise DeadlineExceeded(f"the run took longer than its deadline of {self._seconds:g} s") from late

    def hold(self, who: str) -> None:
        """Stop the clock until `who` releases it."""
        timeout = self._running()
        if not self._holders and timeout is not None and (when := timeout.when()) is not None:
            self._left = when - asyncio.get_running_loop().time()
            timeout.reschedule(None)
        self._holders.add(who)

    def release(self, who: str) -> None:
        """Let the clock go on, unless somebody else holds it; `who` may have released it already."""
        if who not in self._holders:
            return
        self._holders.discard(who)
        if not self._holders and (timeout := self._running()) is not None:
            timeout.reschedule(asyncio.get_running_loop().time() + self._left)

    def _running(self) -> asyncio.Timeout | None:
        """The timeout, while it can still be moved."""
        return None if self._timeout is None or self._timeout.expired() else self._timeout
