"""Rates: how many runs and tokens an agent may start and use in a minute."""

from __future__ import annotations

from kadre.base.clock import Clock
from kadre.base.errors import TooMany


class RateLimit:
    """A bucket that holds one minute's allowance and refills evenly.

    Tokens are known only after they were used, so `charge` may take the bucket below zero; `check` refuses until it has
    refilled. An allowance of 0 is no limit.
    """

    def __init__(self, per_minute: int, what: str, clock: Clock) -> None:
        self.per_minute = per_minute
        self._what = what
        self._clock = clock
        self._level = float(per_minute)
        self._at = clock.monotonic()

    def _refill(self) -> None:
        now = self._clock.monotonic()
        self._level = min(float(self.per_minute), self._level + (now - self._at) * self.per_minute / 60)
        self._at = now

    def check(self, need: float = 1.0) -> None:
        """Raise TooMany, with the seconds until `need` is there, where it is not there now."""
        if not self.per_minute:
            return
        self._refill()
        if self._level < need:
            wait = (need - self._level) * 60 / self.per_minute
            raise TooMany(
                f"the agent's limit of {self.per_minute} {self._what} per minute is reached",
                reason="RateLimited",
                retry_after=wait,
            )

    def charge(self, amount: float) -> None:
        """Take what was used."""
        if self.per_minute:
            self._refill()
            self._level -= amount
