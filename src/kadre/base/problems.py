"""A Problem: something a person must mend, told so that they can.

Parsing, validation, planning and status all speak in Problems. A function that checks returns *all* of
them, never just the first; raising `errors.ProblemError` is for the edge that has nowhere to return to.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Literal

Severity = Literal["error", "warning"]


@dataclass(frozen=True, slots=True)
class Source:
    """Where a value was written: `file` as the user named it, `line` counted from 1 (0: unknown)."""

    file: str = ""
    line: int = 0

    def __str__(self) -> str:
        if not self.file:
            return f"line {self.line}" if self.line else ""
        return f"{self.file}:{self.line}" if self.line else self.file


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing wrong with what a user wrote.

    `reason` is CamelCase and stable (a condition's reason, a test's handle); `message` says what is wrong,
    `fix` what to write instead; `resource` is `Kind namespace/name`; `path` is the field, as in
    `spec.tools[0].name`.
    """

    reason: str
    message: str
    fix: str = ""
    resource: str = ""
    path: str = ""
    source: Source = Source()
    severity: Severity = "error"

    def at(self, source: Source, resource: str = "") -> Problem:
        """The same problem with its place filled in where it has none yet."""
        return replace(
            self,
            source=self.source if self.source.line or self.source.file else source,
            resource=self.resource or resource,
        )

    def __str__(self) -> str:
        place = ": ".join(part for part in (str(self.source), self.resource, self.path) if part)
        text = f"{place}: {self.message}" if place else self.message
        return f"{text}\n    fix: {self.fix}" if self.fix else text


def errors(problems: Iterable[Problem]) -> list[Problem]:
    """Only those that stop something from running; the rest are warnings."""
    return [problem for problem in problems if problem.severity == "error"]


def nearest(word: str, known: Iterable[str]) -> str | None:
    """The known word closest to `word`, for "did you mean"; None where none is close."""
    import difflib  # only what is misspelt needs it, and every process loads this module

    candidates = {name.lower(): name for name in known}
    close = difflib.get_close_matches(word.lower(), list(candidates), n=1, cutoff=0.6)
    return candidates[close[0]] if close else None


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """`; did you mean X?` or the empty string: appended to an "unknown" message."""
    close = nearest(word, known)
    return f"; did you mean {close}?" if close else ""
