"""Spares the garbage collector: what a process made while it started stays, and what it makes then frees itself."""

from __future__ import annotations

import gc


def settle() -> None:
    """Take what was made while starting out of the garbage collector's sight, and let it look less often at the rest.

    What a turn or a reconcile makes is freed as it ends, by reference counts; a pass over it finds nothing and costs a
    third of a turn (benchmarks/turns.py measures it). Cycles are still found, some thousand objects later.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(10_000, 10, 10)
