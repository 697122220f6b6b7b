"""What was measured, as it is kept in the results' JSON, and the medians that reports and targets read from it."""

from __future__ import annotations

import statistics
from collections.abc import Iterable
from typing import Literal

import msgspec

from benchmarks.load import Outcome

Metric = Literal["cpu_ms", "p50_ms", "p99_ms", "rate"]

BUSY = 32
"""The concurrency at which CPU and turns a second are compared: enough to keep one core busy, too few to queue long."""


class Effort(msgspec.Struct, frozen=True, kw_only=True):
    """How much is measured. `seconds` is about how long a system is driven in one cell; a cell never has less than
    `least` turns, nor less than two for each connection."""

    rounds: int = 5
    seconds: float = 1.0
    busy_seconds: float = 3.0
    """At the concurrency that targets are judged at: the machine's speed moves more in a second than they allow for."""
    least: int = 50
    concurrency: tuple[int, ...] = (1, 32, 256)
    starts: int = 5
    """Counted ones: one before them writes compiled modules and fills the page cache (not in a smoke test)."""
    settle: float = 0.5
    """Seconds that what was put off at start may take after the first answer before memory is read.

    A time and no condition: each system puts off something else, none says when it is done, and all get the same.
    """
    bursts: int = 5
    burst_turns: int = 256
    warm_sessions: int = 1_000
    sessions: int = 10_000
    later_sessions: int = 30_000
    """After those: caches are full by then, so that what still grows is a leak."""
    agents: int = 1_000
    smoke: bool = False
    """Whether this is only to see that the harness works: its figures mean little."""

    def seconds_at(self, concurrency: int) -> float:
        """How long a cell of that concurrency is driven."""
        return self.busy_seconds if concurrency == BUSY else self.seconds


QUICK = Effort(
    rounds=1,
    seconds=0.1,
    busy_seconds=0.1,
    least=16,
    concurrency=(1, 32),
    starts=1,
    settle=0.1,
    bursts=1,
    warm_sessions=300,
    sessions=600,
    later_sessions=600,
    agents=100,
    smoke=True,
)


class Cell(msgspec.Struct, kw_only=True):
    """One system, scenario and concurrency in one round."""

    system: str
    scenario: str
    concurrency: int
    round: int
    turns: int
    lost: int
    cpu_ms: float
    """CPU of the server and its children, a turn."""
    p50_ms: float
    p99_ms: float
    rate: float
    """Turns a second."""
    first_loss: str = ""


class Start(msgspec.Struct, kw_only=True):
    """One start of one process: seconds to the first answer, and MiB resident after it."""

    system: str
    process: str
    seconds: float
    rss_mib: float


class Burst(msgspec.Struct, kw_only=True):
    """As many new connections at once, one turn each."""

    system: str
    turns: int
    lost: int
    p50_ms: float
    p99_ms: float
    first_loss: str = ""


class Sessions(msgspec.Struct, kw_only=True):
    """Resident MiB of one process after the warm-up's sessions, after many more, and after many more again."""

    system: str
    warm: int
    sessions: int
    later: int
    warm_mib: float
    rss_mib: float
    later_mib: float


class Fleet(msgspec.Struct, kw_only=True):
    """One process with many agents: MiB after the first answer, and after every agent has given one."""

    system: str
    agents: int
    seconds: float
    first_mib: float
    rss_mib: float


class Results(msgspec.Struct, kw_only=True):
    """Everything of one run."""

    machine: dict[str, str]
    effort: Effort
    systems: dict[str, str]
    """Titles by name, in the order of the run."""
    versions: dict[str, dict[str, str]]
    cells: list[Cell] = []
    starts: list[Start] = []
    bursts: list[Burst] = []
    sessions: list[Sessions] = []
    fleets: list[Fleet] = []
    notes: list[str] = []
    """What was skipped, and where a system did other work than the scenario says."""

    def median(self, system: str, scenario: str, concurrency: int, metric: Metric) -> float | None:
        """The middle of the rounds; None where it was not measured."""
        return middle(getattr(cell, metric) for cell in self._rounds(system, scenario, concurrency).values())

    def ratio(self, system: str, base: str, scenario: str, concurrency: int, metric: Metric) -> float | None:
        """The middle of the ratios of two systems, each taken within one round, where the machine was the same."""
        above, below = self._rounds(system, scenario, concurrency), self._rounds(base, scenario, concurrency)
        return middle(
            getattr(above[turn], metric) / getattr(below[turn], metric)
            for turn in above.keys() & below.keys()
            if getattr(below[turn], metric)
        )

    def start(self, system: str, process: str, metric: Literal["seconds", "rss_mib"]) -> float | None:
        """The middle of the starts of one process."""
        starts = (start for start in self.starts if (start.system, start.process) == (system, process))
        return middle(getattr(start, metric) for start in starts)

    def _rounds(self, system: str, scenario: str, concurrency: int) -> dict[int, Cell]:
        wanted = (system, scenario, concurrency)
        return {cell.round: cell for cell in self.cells if (cell.system, cell.scenario, cell.concurrency) == wanted}


def middle(values: Iterable[float]) -> float | None:
    """The median, or None of nothing."""
    found = list(values)
    return statistics.median(found) if found else None


def percentile(outcome: Outcome, share: float) -> float:
    """That percentile of the answers' times in ms, by nearest rank; 0 where nothing was answered."""
    times = sorted(outcome.latencies)
    return 1000 * times[min(int(len(times) * share), len(times) - 1)] if times else 0.0
