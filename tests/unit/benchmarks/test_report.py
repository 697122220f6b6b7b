"""The bench's ratios, marks and tables say what was measured."""

from __future__ import annotations

import pytest

from benchmarks import report
from benchmarks.results import QUICK, Burst, Cell, Fleet, Results, Sessions, Start
from benchmarks.targets import TARGETS


def cell(system: str, turn: int, cpu_ms: float, scenario: str = "hello", concurrency: int = 32) -> Cell:
    return Cell(
        system=system,
        scenario=scenario,
        concurrency=concurrency,
        round=turn,
        turns=100,
        lost=0,
        cpu_ms=cpu_ms,
        p50_ms=1,
        p99_ms=2,
        rate=1000 / cpu_ms,
    )


def results(*cells: Cell) -> Results:
    titles = {name: name for name in ("floor", "kadre", "kadre-sqlite", "langgraph")}
    return Results(machine={"CPU": "one"}, effort=QUICK, systems=titles, versions={}, cells=list(cells))


def marks(found: Results) -> list[str]:
    lines = report.render(found).partition("## Targets")[2].splitlines()
    return [line.split("|")[-2].strip() for line in lines if line.startswith("| ")][1:]


def test_a_ratio_is_taken_within_each_round() -> None:
    slow_machine = [cell("floor", 2, 10), cell("kadre", 2, 15)]
    found = results(cell("floor", 1, 1), cell("kadre", 1, 1.5), *slow_machine, cell("floor", 3, 2), cell("kadre", 3, 3))
    assert found.ratio("kadre", "floor", "hello", 32, "cpu_ms") == pytest.approx(1.5)


def test_what_was_not_measured_has_no_median_and_no_mark() -> None:
    assert results().median("kadre", "hello", 32, "cpu_ms") is None
    assert marks(results()) == ["not measured"] * len(TARGETS)


def test_each_target_is_marked_by_its_own_figure() -> None:
    found = results(cell("floor", 1, 1), cell("kadre", 1, 1.6), cell("kadre-sqlite", 1, 2.4), cell("langgraph", 1, 16))
    found.starts = [
        Start(system="kadre-sqlite", process="main", seconds=0.9, rss_mib=55),
        Start(system="kadre-sqlite", process="mcp", seconds=1.9, rss_mib=89),
    ]
    found.bursts = [Burst(system="kadre", turns=256, lost=1, p50_ms=10, p99_ms=29)]
    found.fleets = [Fleet(system="kadre-sqlite", agents=1000, seconds=1, first_mib=90, rss_mib=151)]
    kept = Sessions(system="kadre-sqlite", warm=1, sessions=10, later=30, warm_mib=50, rss_mib=53, later_mib=53.5)
    found.sessions = [kept]
    measured = {target.text: mark for target, mark in zip(TARGETS, marks(found), strict=True) if mark != "not measured"}
    assert measured == {
        "Hello turn at concurrency 32: CPU over the floor's": "met",
        "Hello turn at concurrency 32: CPU, SQLite over in-memory": "NOT MET",
        "Hello turn at concurrency 32: turns/s over LangGraph's": "met",
        "Memory at rest, no MCP": "met",
        "Memory at rest, one MCP server": "met",
        "Memory over 10,000 sessions kept on disk: growth": "NOT MET",
        "Memory over 30,000 sessions more: growth": "met",
        "Start to first answer, no MCP": "NOT MET",
        "Memory of 1,000 agents that have all answered": "NOT MET",
        "Burst of 256: lost in the worst burst": "NOT MET",
        "Burst of 256: p99 over p50, journal in memory": "met",
    }


def test_every_line_of_a_table_is_as_wide_as_its_header() -> None:
    found = results(cell("floor", 1, 1), cell("kadre", 1, 100))
    table = report.render(found).partition("## Hello turn")[2].split("\n\n")[1].splitlines()
    assert {len(line) for line in table} == {len(table[0])}
    assert len(table) == 4
