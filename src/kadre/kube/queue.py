"""The names that are to be looked at: each once, one at a time, and after a failure ever more rarely."""

from __future__ import annotations

import asyncio
import random
from collections import deque
from collections.abc import Hashable
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)


class Queue(Generic[K]):
    """Keys in the order they were added. A key that is being worked on is given out again only after `done`."""

    def __init__(self, first: float = 0.1, limit: float = 60.0) -> None:
        """Seconds of the `first` wait after a failure, and the `limit` to which waits double."""
        self._first = first
        self._limit = limit
        self._ready: deque[K] = deque()
        self._waiting: set[K] = set()
        """Keys in `_ready`, and those to be put there when their work is done."""
        self._working: set[K] = set()
        self._later: dict[K, asyncio.TimerHandle] = {}
        self._failures: dict[K, int] = {}
        self._hinted: set[K] = set()
        """Keys that were hinted at while they were worked on."""
        self._some = asyncio.Event()

    def __len__(self) -> int:
        return len(self._waiting)

    @property
    def idle(self) -> bool:
        """Nothing is being worked on, and nothing is to be now."""
        return not self._waiting and not self._working

    def add(self, key: K) -> None:
        """Have it looked at now."""
        timer = self._later.pop(key, None)
        if timer is not None:
            timer.cancel()
        if key in self._waiting:
            return
        self._waiting.add(key)
        if key not in self._working:
            self._put(key)

    def hint(self, key: K) -> None:
        """Have it looked at now, but for one that waits after a failure: that wait goes on.

        For what the work itself brings about: it would end each wait as soon as it begins.
        """
        if key in self._working:
            self._hinted.add(key)
        elif key not in self._failures or key not in self._later:
            self.add(key)

    def add_after(self, key: K, seconds: float) -> None:
        """Have it looked at after so long, or sooner where it is wanted sooner."""
        loop = asyncio.get_running_loop()
        known = self._later.get(key)
        if known is not None and known.when() <= loop.time() + seconds:
            return
        if known is not None:
            known.cancel()
        self._later[key] = loop.call_later(seconds, self.add, key)

    def retry(self, key: K, after: float | None = None) -> float:
        """Have it looked at after a wait that doubles with every failure; the seconds."""
        failures = self._failures.get(key, 0)
        self._failures[key] = failures + 1
        ceiling: float = min(self._limit, self._first * 2 ** min(failures, 20))
        wait = max(after or 0.0, ceiling * (0.5 + random.random() / 2))  # noqa: S311 - jitter, not a secret
        self.add_after(key, wait)
        return wait

    def forget(self, key: K) -> None:
        """It has succeeded: the next failure is its first."""
        self._failures.pop(key, None)

    async def get(self) -> K:
        """The next key; the caller works on it until `done`."""
        while not self._ready:
            self._some.clear()
            await self._some.wait()
        key = self._ready.popleft()
        self._waiting.discard(key)
        self._working.add(key)
        return key

    def done(self, key: K) -> None:
        """The work on it has ended. Where it was added meanwhile it is given out again."""
        self._working.discard(key)
        hinted = key in self._hinted
        self._hinted.discard(key)
        if key in self._waiting:
            self._put(key)
        elif hinted:
            self.hint(key)

    def close(self) -> None:
        """Give up what was to be looked at later."""
        for timer in self._later.values():
            timer.cancel()
        self._later.clear()

    def _put(self, key: K) -> None:
        self._ready.append(key)
        self._some.set()
