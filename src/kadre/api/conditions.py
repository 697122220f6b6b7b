"""The one way a condition of a status is set, so that its times and generations can be trusted.

`lastTransitionTime` moves only when the status does, and nothing that is the same is written again: a controller that
finds nothing new leaves the object as it was.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from kadre.api.resource import Condition
from kadre.base.errors import shorten

MESSAGE_LIMIT = 1024
"""Characters of a message: what `kubectl describe` still shows well, far below the API server's 32768."""


@dataclass(frozen=True, slots=True)
class State:
    """What is to be said of one aspect of an object. `reason` is one CamelCase word."""

    type: str
    status: Literal["True", "False", "Unknown"]
    reason: str
    message: str = ""


def set_condition(
    conditions: Iterable[Condition], state: State, *, generation: int | None, now: datetime
) -> list[Condition]:
    """`conditions` with `state` in place, the others and their order kept; a new one comes last.

    `generation` is the object's, of which `state` was found; `now` is in UTC.
    """
    kept = list(conditions)
    place = next((number for number, condition in enumerate(kept) if condition.type == state.type), len(kept))
    before = kept[place] if place < len(kept) else None
    moved = before is None or before.status != state.status or before.last_transition_time is None
    kept[place : place + 1] = [
        Condition(
            type=state.type,
            status=state.status,
            reason=state.reason,
            message=shorten(state.message, MESSAGE_LIMIT),
            last_transition_time=timestamp(now) if moved or before is None else before.last_transition_time,
            observed_generation=generation,
        )
    ]
    return kept


def without(conditions: Iterable[Condition], kind: str) -> list[Condition]:
    """`conditions` less the one of that type."""
    return [condition for condition in conditions if condition.type != kind]


def is_true(conditions: Iterable[Condition], kind: str, generation: int | None = None) -> bool:
    """Whether a condition is True; with `generation`, whether it was found of that generation."""
    return any(
        condition.type == kind and condition.status == "True" and generation in {None, condition.observed_generation}
        for condition in conditions
    )


def timestamp(moment: datetime) -> str:
    """A time as Kubernetes writes it: RFC 3339, whole seconds, Z."""
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")
