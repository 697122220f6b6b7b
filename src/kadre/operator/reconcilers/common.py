"""What reconcilers that have children share: how a refusal is told, and how a change that is put back is."""

from __future__ import annotations

from collections.abc import Sequence

from kadre.base.clock import Clock
from kadre.base.problems import Problem
from kadre.kube.apply import NameTaken, Place
from kadre.kube.errors import ApiError
from kadre.kube.kinds import Kind
from kadre.operator.cluster import Declared, Ref
from kadre.operator.reporter import Reporter
from kadre.operator.status import News

TAKEN = "NameTaken"
TAKEN_SECONDS = 10.0
REFUSED_SECONDS = 60.0
CORRECTED_SECONDS = 60.0
"""In which no more than one change that is put back is told of an object: whoever makes it may do so again at once."""


def refused(error: ApiError, kind: Kind, known: Sequence[Problem], what: str = "agent") -> Problem:
    """What is told of it. `kind`: of the child; `known`: what was told before; `what` it is of, in people's words.

    The first words are kept for as long as the same is refused in the same way: who refuses may word it anew each time
    (with a number of the request), and each would be news.
    """
    answer = f"{error.status} {error.reason}".strip()
    begin = f"the API server refuses the {what}'s {kind.kind} ({answer}): "
    same = next(
        (problem for problem in known if problem.reason == "Refused" and problem.message.startswith(begin)), None
    )
    fix = "change what the API server refuses, or what refuses it: a quota, a policy, a limit"
    return same or Problem("Refused", f"{begin}{error}", fix, path="spec")


def name_taken(taken: NameTaken, what: str = "agent") -> Problem:
    """What is told where somebody else has what is to be made."""
    fix = f"rename the {what}; or delete that {taken.place.kind.kind}, where nobody needs it"
    return Problem(TAKEN, str(taken), fix, path="metadata.name")


class Corrections:
    """Tells of changes by hand that were put back."""

    def __init__(self, reporter: Reporter, clock: Clock) -> None:
        self._reporter = reporter
        self._clock = clock
        self._told: dict[Ref, dict[Place, float]] = {}
        """When it was told last of each child."""

    async def tell(self, ref: Ref, declared: Declared, place: Place, what: str = "agent") -> None:
        """Make an Event of it, if it is time for one."""
        now = self._clock.monotonic()
        told = self._told.setdefault(ref, {})
        if now - told.get(place, -CORRECTED_SECONDS) < CORRECTED_SECONDS:
            return
        told[place] = now
        kind, name = place.kind.kind, place.key.name
        message = (
            f"somebody had changed {kind} {name}, which this {what} makes: it is put back; change the {what} instead"
        )
        news = News("DriftCorrected", message, good=True)
        await self._reporter.tell(self._reporter.kind_of(ref), ref, declared.uid, news)

    def forget(self, ref: Ref) -> None:
        """The object has gone."""
        self._told.pop(ref, None)
