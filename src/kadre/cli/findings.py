"""What `kadre validate` finds in files, and how it tells it."""

from __future__ import annotations

import dataclasses
import itertools
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from kadre.base.problems import Problem, errors
from kadre.local.console import Console
from kadre.local.resolve import resolve


@dataclass(frozen=True, slots=True)
class Findings:
    """`counts`: objects by kind; `ignored`: objects of other people's kinds."""

    counts: Counter[str]
    ignored: Sequence[str]
    problems: Sequence[Problem]

    @property
    def valid(self) -> bool:
        """Whether everything would run; warnings don't prevent that."""
        return not errors(self.problems)

    def plain(self) -> dict[str, Any]:
        """For programs."""
        return {
            "valid": self.valid,
            "resources": dict(self.counts),
            "ignored": list(self.ignored),
            "problems": [_plain(problem) for problem in self.problems],
        }

    def text(self, console: Console) -> str:
        """For people: problems by file, what was ignored, and a line that sums it up."""
        lines = []
        for _, group in itertools.groupby(self.problems, key=lambda problem: problem.source.file):
            lines += [_told(problem, console) for problem in group]
            lines.append("")
        if self.ignored:
            lines += [f"ignored, not Kadre's: {', '.join(self.ignored)}", ""]
        return "\n".join([*lines, self._summary(console)])

    def _summary(self, console: Console) -> str:
        wrong = len(errors(self.problems))
        warned = len(self.problems) - wrong
        warnings = f", {_count(warned, 'warning')}" if warned else ""
        if wrong:
            return console.style(f"{_count(wrong, 'error')}{warnings}", "red")
        if not self.counts:
            return "no object of Kadre's kinds" + warnings
        *most, last = (_count(number, kind) for kind, number in self.counts.items())
        what = f"{', '.join(most)} and {last}" if most else last
        verb = "is" if self.counts.total() == 1 else "are"
        return console.style(f"{what} {verb} valid{warnings}", "green")


def find(paths: tuple[str, ...]) -> Findings:
    """Read and check everything below the paths."""
    resolved = resolve(paths)
    return Findings(Counter(resolved.kinds), resolved.ignored, resolved.problems)


def _told(problem: Problem, console: Console) -> str:
    if problem.severity == "error":
        return str(problem)
    mark = console.style("warning", "yellow")
    return str(dataclasses.replace(problem, resource=f"{mark}: {problem.resource}" if problem.resource else mark))


def _plain(problem: Problem) -> dict[str, Any]:
    told = dataclasses.asdict(problem)
    source = told.pop("source")
    return {"severity": told.pop("severity"), **source, **told}


def _count(number: int, what: str) -> str:
    return f"{number} {what}" if number == 1 else f"{number} {what}s"
