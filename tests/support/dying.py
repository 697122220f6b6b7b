"""`python -m tests.support.dying WORDS…` is `kadre WORDS…`, killed by itself at a step of its SQLite journal.

KADRE_TEST_DIES: `before TYPE RUN` or `after TYPE RUN`. When the first event of that type and run is about to be
committed, or has just been, the process is sent SIGKILL: nothing of it runs after that.
"""

from __future__ import annotations

import functools
import os
import runpy
import signal
import sqlite3
from typing import Any

WHEN, TYPE, RUN = os.environ["KADRE_TEST_DIES"].split()
MARKS = (f'"type":"{TYPE}"'.encode(), f'"run_id":"{RUN}"'.encode())


def _is_it(value: Any) -> bool:
    return isinstance(value, bytes) and all(mark in value for mark in MARKS)


class Dying(sqlite3.Connection):
    """A connection whose commit of such an event is the last thing that the process does, or does not do any more."""

    holds = False

    def execute(self, sql: str, parameters: Any = (), /) -> sqlite3.Cursor:
        """See sqlite3.Connection."""
        self.holds = self.holds or any(map(_is_it, parameters))
        last = self.holds and sql == "COMMIT"
        if last and WHEN == "before":
            os.kill(os.getpid(), signal.SIGKILL)
        cursor = super().execute(sql, parameters)
        if last:
            os.kill(os.getpid(), signal.SIGKILL)
        return cursor


if __name__ == "__main__":
    setattr(sqlite3, "connect", functools.partial(sqlite3.connect, factory=Dying))  # noqa: B010 - it is overloaded
    runpy.run_module("kadre", run_name="__main__", alter_sys=True)
