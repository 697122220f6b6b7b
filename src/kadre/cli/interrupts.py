"""Ctrl-C that no wait swallows."""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Iterator

WAKE = 0.2
"""Seconds after which a Ctrl-C is heeded at the latest."""


@contextlib.contextmanager
def heeded() -> Iterator[None]:
    """Have the reads within look for signals now and then. Only for the main thread; may be nested.

    Python heeds a signal that comes while a read from the terminal or a server waits, but one that comes just before,
    when what it was meant for is shown already, only after the next line or byte: without this a Ctrl-C is lost once
    in some thousand times.
    """
    handler = signal.signal(signal.SIGALRM, lambda *_: None)
    timer = signal.setitimer(signal.ITIMER_REAL, WAKE, WAKE)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, *timer)
        signal.signal(signal.SIGALRM, handler)
