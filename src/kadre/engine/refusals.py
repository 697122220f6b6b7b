"""Runs that were refused, or could not be ended, while their store was away: they may have been made all the same."""

from __future__ import annotations

from collections.abc import Collection

from kadre.base.clock import Clock
from kadre.engine.memory.port import Journal

LINGERS = 120.0
"""Seconds after which a store has no more to say on what it was told: a statement is given up by its server, or was
lost with it, long before."""
MOST = 10_000
"""Those that are remembered; the others, if there are any, are gone on with."""


class Refusals:
    """Which, and in which store. One is forgotten when it was not found there for as long as it may still appear."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._told: dict[tuple[Journal, str], float] = {}

    def add(self, journal: Journal, run_id: str) -> None:
        """Whoever asked was told no."""
        if len(self._told) < MOST:
            self._told[journal, run_id] = self._clock.monotonic()

    def forget(self, journal: Journal, run_id: str) -> None:
        """It was not made then, but has been made now, and whoever asked was told so."""
        self._told.pop((journal, run_id), None)

    def of(self, journal: Journal) -> set[str]:
        """Those that may be in that store."""
        return {run_id for where, run_id in self._told if where is journal}

    def settle(self, journal: Journal, held: Collection[str]) -> None:
        """Of that store only these are open here: what is not among them has ended, was never made, or is yet to be."""
        now = self._clock.monotonic()
        for run_id in self.of(journal).difference(held):
            if now - self._told[journal, run_id] > LINGERS:
                del self._told[journal, run_id]
