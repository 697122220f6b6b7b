"""The one way a condition of a status is set, so that its times and generations can be trusted.

`lastTransitionTime` moves only when the status does, and nothing that is the same is written again: a controller that
finds nothing new leaves the object as it was.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

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


def conditions(
    before: Iterable[Mapping[str, Any]], states: Iterable[State], generation: int, now: datetime
) -> list[dict[str, Any]]:
    """The states as conditions, as the API has them in JSON (metav1.Condition), in their order; others are left out.

    `before`: the conditions there were; `generation` is the object's, of which the states were found; `now` is in UTC.
    """
    known = {each.get("type"): each for each in before}
    return [_condition(known.get(state.type, {}), state, generation, now) for state in states]


def _condition(before: Mapping[str, Any], state: State, generation: int, now: datetime) -> dict[str, Any]:
    since = before.get("lastTransitionTime") if before.get("status") == state.status else None
    return {
        "type": state.type,
        "status": state.status,
        "reason": state.reason,
        "message": shorten(state.message, MESSAGE_LIMIT),
        "lastTransitionTime": since or timestamp(now),
        "observedGeneration": generation,
    }


def timestamp(moment: datetime) -> str:
    """A time as Kubernetes writes it: RFC 3339, whole seconds, Z."""
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")
