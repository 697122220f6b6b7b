"""Conditions keep their times and order, and change only when something did."""

from __future__ import annotations

from datetime import UTC, datetime

from kadre.api.conditions import MESSAGE_LIMIT, State, is_true, set_condition, without
from kadre.api.resource import Condition

EARLY = datetime(2026, 1, 1, tzinfo=UTC)
LATE = datetime(2026, 1, 2, tzinfo=UTC)
READY = State("Ready", "True", "Running", "all is well")


def ready(generation: int = 1, now: datetime = EARLY) -> list[Condition]:
    return set_condition([], READY, generation=generation, now=now)


def test_a_new_condition_has_the_time_and_the_generation() -> None:
    assert [condition.model_dump(by_alias=True) for condition in ready()] == [
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
    [condition] = set_condition(ready(), State("Ready", "True", "Other", "new words"), generation=2, now=LATE)
    assert condition.last_transition_time == "2026-01-01T00:00:00Z"
    assert (condition.reason, condition.message, condition.observed_generation) == ("Other", "new words", 2)


def test_the_time_moves_with_the_status() -> None:
    [condition] = set_condition(ready(), State("Ready", "False", "Crashed"), generation=1, now=LATE)
    assert condition.last_transition_time == "2026-01-02T00:00:00Z"


def test_setting_the_same_again_changes_nothing() -> None:
    assert set_condition(ready(), READY, generation=1, now=LATE) == ready()


def test_other_conditions_and_their_order_are_kept() -> None:
    others = [Condition(type="First", status="True"), *ready(), Condition(type="Last", status="False")]
    after = set_condition(others, State("Ready", "False", "Crashed"), generation=1, now=LATE)
    assert [condition.type for condition in after] == ["First", "Ready", "Last"]
    assert (after[0], after[2]) == (others[0], others[2])
    assert others[1].status == "True"


def test_a_condition_without_a_time_gets_one() -> None:
    [condition] = set_condition([Condition(type="Ready", status="True")], READY, generation=1, now=LATE)
    assert condition.last_transition_time == "2026-01-02T00:00:00Z"


def test_a_long_message_is_cut() -> None:
    [condition] = set_condition([], State("Ready", "False", "Crashed", "x" * 5000), generation=1, now=EARLY)
    assert len(condition.message or "") == MESSAGE_LIMIT


def test_truth_can_be_asked_of_one_generation() -> None:
    assert is_true(ready(2), "Ready")
    assert is_true(ready(2), "Ready", generation=2)
    assert not is_true(ready(2), "Ready", generation=3)
    assert not is_true(without(ready(), "Ready"), "Ready")
