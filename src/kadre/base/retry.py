"""When to try again: exponential backoff with full jitter, as a pure policy."""

from __future__ import annotations

import random
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Backoff:
    """`attempts` tries in all; waits double from `first` seconds up to `limit` seconds."""

    attempts: int = 4
    first: float = 0.25
    limit: float = 8.0

    def delay(self, attempt: int, asked: float | None = None) -> float | None:
        """Seconds to wait after try number `attempt` (from 1) failed; None: give up.

        `asked` is the other side's Retry-After. It is honoured as a minimum; one beyond `limit` means give
        up: a caller who waits is better served by an answer now.
        """
        if attempt >= self.attempts:
            return None
        if asked is not None:
            return asked if asked <= self.limit else None
        ceiling: float = min(self.limit, self.first * 2 ** min(attempt - 1, 60))
        return ceiling / 2 + random.random() * ceiling / 2  # noqa: S311 - jitter, not a secret
