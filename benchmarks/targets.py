"""What Kadre has promised about its speed and size, as data, and the strongest rival that is not run here."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from benchmarks.results import BUSY, Results, middle

REFERENCE = (
    "Reference, measured elsewhere and not in this run: kagent's Go runtime takes 2.0-2.9 ms CPU per hello turn and "
    "4.6-6.3 ms per MCP tool turn, 41 MB idle."
)


@dataclass(frozen=True)
class Target:
    """A promise: `value` of the results, None where it was not measured, is to be at most (or at least) `limit`."""

    text: str
    limit: float
    unit: str
    value: Callable[[Results], float | None]
    at_most: bool = True

    def met(self, value: float) -> bool:
        """Whether that value keeps it."""
        return value <= self.limit if self.at_most else value >= self.limit


def _cpu(system: str, base: str, scenario: str) -> Callable[[Results], float | None]:
    return lambda found: found.ratio(system, base, scenario, BUSY, "cpu_ms")


def _rate(system: str, base: str, scenario: str) -> Callable[[Results], float | None]:
    return lambda found: found.ratio(system, base, scenario, BUSY, "rate")


def _start(found: Results) -> float | None:
    return found.start("kadre-sqlite", "main", "seconds")


def _mcp(found: Results) -> float | None:
    return found.median("kadre", "mcp", BUSY, "cpu_ms")


def _idle(process: str) -> Callable[[Results], float | None]:
    return lambda found: found.start("kadre-sqlite", process, "rss_mib")


def _growth(found: Results) -> float | None:
    return max((100 * (seen.rss_mib / seen.warm_mib - 1) for seen in found.sessions), default=None)


def _leak(found: Results) -> float | None:
    return max((100 * (seen.later_mib / seen.rss_mib - 1) for seen in found.sessions), default=None)


def _fleet(found: Results) -> float | None:
    return max((fleet.rss_mib for fleet in found.fleets), default=None)


def _lost(found: Results) -> float | None:
    return max((float(burst.lost) for burst in found.bursts if burst.system.startswith("kadre")), default=None)


def _spread(system: str) -> Callable[[Results], float | None]:
    return lambda found: middle(
        burst.p99_ms / burst.p50_ms for burst in found.bursts if burst.system == system and burst.p50_ms
    )


HELLO = f"Hello turn at concurrency {BUSY}"
TOOL = f"Turn with an in-process tool at concurrency {BUSY}"
TARGETS = (
    Target(f"{HELLO}: CPU over the floor's", 1.6, "x", _cpu("kadre", "floor", "hello")),
    Target(f"{TOOL}: CPU over its floor's", 2, "x", _cpu("kadre", "floor", "tool")),
    Target(f"{HELLO}: CPU, SQLite over in-memory", 1.4, "x", _cpu("kadre-sqlite", "kadre", "hello")),
    Target(f"{TOOL}: CPU, SQLite over in-memory", 1.4, "x", _cpu("kadre-sqlite", "kadre", "tool")),
    Target(f"MCP tool turn at concurrency {BUSY}: CPU", 3, "ms", _mcp),
    Target(f"MCP tool turn at concurrency {BUSY}: CPU over the bare SDK's", 1, "x", _cpu("kadre", "floor", "mcp")),
    Target(f"{HELLO}: turns/s over LangGraph's", 8, "x", _rate("kadre", "langgraph", "hello"), at_most=False),
    Target(f"{TOOL}: turns/s over LangGraph's", 8, "x", _rate("kadre", "langgraph", "tool"), at_most=False),
    Target("Memory at rest, no MCP", 60, "MiB", _idle("main")),
    Target("Memory at rest, one MCP server", 90, "MiB", _idle("mcp")),
    Target("Memory over 10,000 sessions kept on disk: growth", 5, "%", _growth),
    Target("Memory over 30,000 sessions more: growth", 1, "%", _leak),
    Target("Start to first answer, no MCP", 0.8, "s", _start),
    Target("Memory of 1,000 agents that have all answered", 150, "MiB", _fleet),
    Target("Burst of 256: lost in the worst burst", 0, "turns", _lost),
    Target("Burst of 256: p99 over p50, journal in memory", 3, "x", _spread("kadre")),
    Target("Burst of 256: p99 over p50, SQLite", 3, "x", _spread("kadre-sqlite")),
)
