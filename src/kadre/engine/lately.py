"""Runs that this process drove to their end a moment ago.

A store that goes back to an earlier state, as one may that fails over, has those open again which it had been told the
end of since. Whoever drove one knows better, and tells it again instead of doing it again.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Generic, TypeVar

SECONDS = 60.0
"""How far a store may go back and be told everything again: Redis with `appendfsync no` loses half a minute."""
MOST = 256
"""Runs that are kept, with all their events."""
BYTES = 16 * 1024 * 1024
"""Of events that are kept, about: a run of many calls may hold megabytes, and a pod has some hundreds."""
R = TypeVar("R")


class Lately(Generic[R]):
    """The runs `R` that ended last, by id; `now`: seconds by a clock that never goes back."""

    def __init__(self, now: Callable[[], float]) -> None:
        self._now = now
        self._ended: dict[str, tuple[float, R, int]] = {}
        self._bytes = 0

    def __len__(self) -> int:
        return len(self._ended)

    def add(self, run_id: str, run: R, size: int) -> None:
        """It has ended now. `size`: bytes that it holds, about."""
        self._drop(run_id)
        self._ended[run_id] = self._now(), run, size
        self._bytes += size
        for known in list(self._ended):  # the oldest first
            if len(self._ended) <= MOST and self._bytes <= BYTES and not self._is_old(known):
                break
            self._drop(known)

    def get(self, run_id: str) -> R | None:
        """The run, where it ended here a moment ago."""
        known = self._ended.get(run_id)
        return None if known is None or self._is_old(run_id) else known[1]

    def _drop(self, run_id: str) -> None:
        if (known := self._ended.pop(run_id, None)) is not None:
            self._bytes -= known[2]

    def _is_old(self, run_id: str) -> bool:
        return self._now() - self._ended[run_id][0] > SECONDS
