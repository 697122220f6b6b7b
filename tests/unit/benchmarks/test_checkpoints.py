"""What a store costs is counted from turns that are not kept, in one round, and set beside what the other's costs."""

from __future__ import annotations

import pytest

from benchmarks import checkpoints
from benchmarks.checkpoints import Cell, Results


def cell(side: str, store: str, number: int, client: float, server: float = 0.0) -> Cell:
    return Cell(
        side=side, store=store, at_once=1, round=number, client=client, server=server, ms=10 * client, kib=100 * client
    )


def results(*cells: Cell) -> Results:
    return Results(machine={"CPU": "one"}, versions={"kadre": "1"}, cells=list(cells))


def a_round(number: int, slow: float = 1.0) -> list[Cell]:
    """Kadre's journal costs 1 ms beside 1 of the server, LangGraph's checkpointer 6 beside 2."""
    return [
        cell("kadre", "none", number, 0.5 * slow),
        cell("langgraph", "none", number, 2 * slow),
        cell("kadre", "postgres", number, 1.5 * slow, 1 * slow),
        cell("langgraph", "postgres", number, 8 * slow, 2 * slow),
    ]


def targets(found: Results) -> dict[str, str]:
    lines = checkpoints.render(found).partition("## Targets")[2].splitlines()
    rows = [[each.strip() for each in line.split("|")] for line in lines if line.startswith("| ")][1:]
    return {row[1]: row[-2] for row in rows}


def test_a_cost_is_what_there_is_more_of_on_both_sides_of_the_wire_than_with_nothing_kept() -> None:
    found = results(*a_round(0))
    assert found.cost("kadre", "postgres", 1, "cpu") == {0: 2.0}
    assert found.cost("langgraph", "postgres", 1, "cpu") == {0: 8.0}


def test_costs_are_set_beside_each_other_within_a_round() -> None:
    slow_machine = a_round(1, slow=20)
    found = results(*a_round(0), *slow_machine, *a_round(2, slow=2))
    assert found.ratio("postgres", 1, "cpu") == pytest.approx(0.25)


def test_a_target_is_marked_by_its_own_figure() -> None:
    cells = a_round(0)
    cells[2].ms = cells[0].ms + 31  # LangGraph's is 60 more
    found = results(*cells)
    assert targets(found) == {
        "SQLite, 1 at once: CPU": "not measured",
        "SQLite, 1 at once: time": "not measured",
        "SQLite, 1 at once: bytes written": "not measured",
        "PostgreSQL, 1 at once: CPU": "met",
        "PostgreSQL, 1 at once: time": "NOT MET",
        "PostgreSQL, 1 at once: bytes written": "met",
        "Redis, 1 at once: CPU": "not measured",
        "Redis, 1 at once: time": "not measured",
        "Redis, 1 at once: bytes written": "not measured",
    }


def test_what_could_not_be_measured_is_told_with_its_reason() -> None:
    found = results(*a_round(0))
    found.notes.append("Redis: not measured, there is no server.")
    assert "- Redis: not measured, there is no server." in checkpoints.render(found)
