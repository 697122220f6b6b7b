"""How many requests are under way at once: a bound on all of them, and a fair share of it for each caller."""

from __future__ import annotations

from collections import Counter

from kadre.base.errors import TooMany, Unavailable

ROOM = 4096
"""Requests under way at once, streams among them; each costs some tens of KiB here."""
RETRY_AFTER = 1.0


class Crowd:
    """Counts who is in."""

    def __init__(self, room: int = ROOM) -> None:
        self._room = room
        self._inside: Counter[str] = Counter()
        self.total = 0
        self.entered = 0
        self.refused = 0

    def enter(self, caller: str) -> None:
        """One request more. Raises TooMany for who has their share already, Unavailable where there is no room at all.

        Half of the room is one caller's while others leave it; of a fuller one each has an equal part.
        """
        if self.total >= self._room:
            self.refused += 1
            message = f"{self._room} requests are under way, which is all that one gateway takes"
            raise Unavailable(message, reason="GatewayFull", retry_after=RETRY_AFTER)
        mine = self._inside[caller]
        share = self._room // 2
        if self.total >= share:
            share = max(1, self._room // (len(self._inside) + 1))
        if mine >= share:
            self.refused += 1
            message = f"{mine} requests of {caller} are under way, which is one caller's share; wait for some to end"
            raise TooMany(message, reason="ShareUsed", retry_after=RETRY_AFTER)
        self._inside[caller] += 1
        self.total += 1
        self.entered += 1

    def leave(self, caller: str) -> None:
        """It has ended."""
        self.total -= 1
        self._inside[caller] -= 1
        if not self._inside[caller]:
            del self._inside[caller]
