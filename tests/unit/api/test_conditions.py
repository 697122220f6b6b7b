"""Conditions keep their times, and change only when something did."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from kadre.api.conditions import MESSAGE_LIMIT, State, conditions

EARLY = datetime(2026, 1, 1, tzinfo=UTC)
LATE = datetime(2026, 1, 2, tzinfo=UTC)
READY = State("Ready", "True", "Running", "all is well")
BEFORE = conditions([], [READY], 1, EARLY)


def later(state: State, generation: int = 1) -> dict[str, Any]:
    (condition,) = conditions(BEFORE, [state], generation, LATE)
    return condition


def test_a_new_condition_has_the_time_and_the_generation() -> None:
    assert BEFORE == [
        {
            "type": "Ready",
            "status": "True",
            "reason": "Running",
            "message": "all is well",
            "lastTransitionTime": "2026-01-01T00:00:00Z",
            "observedGeneration": 1,
        }
    ]


def test_the_time_stays_while_the_status_does() -> None:
    found = later(State("Ready", "True", "Other", "new words"), generation=2)
    assert found["lastTransitionTime"] == "2026-01-01T00:00:00Z"
    assert (found["reason"], found["message"], found["observedGeneration"]) == ("Other", "new words", 2)


def test_the_time_moves_with_the_status() -> None:
    assert later(State("Ready", "False", "Crashed"))["lastTransitionTime"] == "2026-01-02T00:00:00Z"


def test_setting_the_same_again_changes_nothing() -> None:
    assert [later(READY)] == BEFORE


def test_what_is_no_longer_said_goes_and_the_rest_is_in_the_order_in_which_it_is_said() -> None:
    others = [State("First", "True", "A"), READY, State("Last", "False", "B")]
    found = conditions([{"type": "Gone", "status": "True"}, *BEFORE], others, 1, LATE)
    assert [each["type"] for each in found] == ["First", "Ready", "Last"]
    assert found[1] == BEFORE[0]


def test_a_condition_without_a_time_gets_one() -> None:
    (found,) = conditions([{"type": "Ready", "status": "True"}], [READY], 1, LATE)
    assert found["lastTransitionTime"] == "2026-01-02T00:00:00Z"


def test_a_long_message_is_cut() -> None:
    assert len(later(State("Ready", "False", "Crashed", "x" * 5000))["message"]) == MESSAGE_LIMIT
