"""What came of reconciling one object, and so what its controller does next."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Done:
    """As it should be: nothing to do until something changes."""


@dataclass(frozen=True, slots=True)
class After:
    """As it should be for now: look again in so many `seconds`."""

    seconds: float


@dataclass(frozen=True, slots=True)
class Retry:
    """Something outside failed: try again, ever more rarely. `after`: seconds that the other side asks to wait."""

    error: str
    after: float | None = None


@dataclass(frozen=True, slots=True)
class Stop:
    """What its author wrote cannot be done, and the object's status says so: nothing to do until it changes."""

    reason: str


Outcome = Done | After | Retry | Stop
DONE = Done()
