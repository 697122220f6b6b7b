"""numpy, loaded where it is wanted and told to use one thread.

Its threads meet after every product and wait for each other by turning: on a machine that does other things besides,
two of them took six times the CPU of one, and five times as long.
"""

from __future__ import annotations

import os
import sys
from typing import Any

_THREADS = ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS", "VECLIB_MAXIMUM_THREADS")


def numpy() -> Any:
    """The library. Raises ImportError. It reads how many threads it may have when it is loaded, and never again."""
    if "numpy" in sys.modules:
        return sys.modules["numpy"]
    ours = [name for name in _THREADS if name not in os.environ]
    os.environ.update(dict.fromkeys(ours, "1"))
    try:
        import numpy
    finally:
        for name in ours:  # other programs that are started from here have their own view of it
            os.environ.pop(name, None)
    return numpy
