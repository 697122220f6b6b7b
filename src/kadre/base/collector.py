"""Spares the garbage collector: what a process made while it started stays, and what it makes then frees itself."""

from __future__ import annotations

import gc

SELDOM = 10_000
"""Objects made and not freed after which the youngest are looked at; Python's own is 700."""


def settle(threshold: int = SELDOM) -> None:
    """Take what was made while starting out of the garbage collector's sight, and let it look less often at the rest.

    What a turn or a reconcile makes is freed as it ends, by reference counts; a pass over it finds nothing and costs a
    third of a turn (benchmarks/turns.py measures it). Cycles are still found, some thousand objects later: the higher
    the `threshold`, the less CPU, and the more memory waits for that.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(threshold, 10, 10)
