"""What `kadre up` says to the person at the keyboard: plain lines, aligned, coloured only where that can be seen."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import TextIO

from kadre.base.problems import Problem

_STYLES = {"bold": "1", "dim": "2", "red": "31", "green": "32", "yellow": "33"}


class Console:
    """Writes to standard error: standard output is for what commands answer."""

    def __init__(self, *, color: bool = True, stream: TextIO | None = None) -> None:
        self._stream = stream or sys.stderr
        self._color = color and self._stream.isatty() and not os.environ.get("NO_COLOR")

    def style(self, text: str, style: str) -> str:
        """`text` in that style, where styles can be seen."""
        return f"\x1b[{_STYLES[style]}m{text}\x1b[0m" if self._color else text

    def say(self, text: str = "") -> None:
        """One line."""
        print(text, file=self._stream, flush=True)

    def done(self, text: str) -> None:
        """A step that went well."""
        self.say(f"{self.style('✓', 'green')} {text}")

    def warn(self, text: str) -> None:
        """Something to know of."""
        self.say(f"{self.style('!', 'yellow')} {text}")

    def begun(self, what: str) -> None:
        """Something that may take longer than a second has begun."""
        self.say(self.style(f"· {what} …", "dim"))

    @contextmanager
    def step(self, what: str) -> Iterator[None]:
        """Something that may take longer than a second: said before, and again with its time when it is done."""
        started = time.monotonic()
        self.begun(what)
        yield
        self.done(f"{what} ({time.monotonic() - started:.1f} s)")

    def problems(self, problems: Iterable[Problem]) -> None:
        """Every problem, with its fix."""
        for problem in problems:
            mark = self.style("error", "red") if problem.severity == "error" else self.style("warning", "yellow")
            self.say(f"{mark}: {problem}")

    def table(self, header: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
        """Aligned columns under a bold header."""
        first, *rest = aligned([header, *rows])
        for line in (self.style(first, "bold"), *rest):
            self.say(f"  {line}")


def aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    """The rows as lines whose columns are three spaces apart, as kubectl prints them; there is at least one row."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return ["   ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
