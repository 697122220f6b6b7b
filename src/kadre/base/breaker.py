"""When to leave alone what keeps failing: a circuit breaker, as a pure policy. Times are monotonic seconds."""

from __future__ import annotations

import math


class Breaker:
    """`failures` in a row open it: for `cool_down` seconds nothing is let through, and then one attempt, to see.

    A success closes it, also one of an attempt that began before it opened. Whoever is let through and tells nothing,
    because nothing came of it, holds the others up for no more than another cool-down. What fails together is one
    failure: of attempts that were under way when one failed, no other counts.
    """

    def __init__(self, failures: int = 5, cool_down: float = 30.0) -> None:
        self.failures = failures
        self.cool_down = cool_down
        self.is_open = False
        self._in_a_row = 0
        self._until = 0.0
        self._last = -math.inf
        """When it last failed."""

    def wait(self, now: float) -> float:
        """Seconds for which the caller must not try; 0: it may, and tells what came of it."""
        if self.is_open:
            if now < self._until:
                return self._until - now
            self._until = now + self.cool_down
        return 0.0

    def succeeded(self) -> None:
        """The other side did its part, whatever it answered."""
        self._in_a_row = 0
        self.is_open = False

    def failed(self, now: float, began: float) -> None:
        """The other side did not do its part in an attempt that began then."""
        if began < self._last:
            return
        self._last = now
        self._in_a_row += 1
        if self._in_a_row >= self.failures:
            self.is_open = True
            self._until = now + self.cool_down
