"""Agents that roll because the controller is another one than the one before: few at a time, and only for that reason.

An upgraded controller may make another pod template of the same agent: with another image, another form of the plan.
What its author changes rolls at once; so does what changes while this controller is at work.
"""

from __future__ import annotations

from collections.abc import Callable

from kadre.api.conditions import State
from kadre.base.clock import Clock
from kadre.kube import kinds
from kadre.kube.kinds import Key
from kadre.operator.cluster import Declared, Ref
from kadre.operator.owned import Owned
from kadre.operator.rollouts import Rollouts

MOST = 10
"""Deployments that are unsettled at once because of an upgrade."""
SECONDS = 600.0
"""After which one that does not settle makes room for the next: a Deployment's own deadline for progress."""
WAITS = State(
    "UpToDate",
    "False",
    "WaitingForUpgrade",
    f"its pods are as the controller before this one made them; {MOST} agents at a time are rolled to the new one",
)


class Upgrades:
    """Whose turn it is. `wake` is told of an agent that waited, and for which there is room."""

    def __init__(self, owned: Owned, rollouts: Rollouts, clock: Clock, wake: Callable[[Ref], None]) -> None:
        self._owned = owned
        self.rollouts = rollouts
        self._clock = clock
        self._wake = wake
        self._current: set[Key] = set()
        """Deployments that are, or were, as this controller makes them: what rolls them now is no upgrade."""
        self._rolling: dict[Key, float] = {}
        """When each of those that roll makes room at the latest."""
        self._due: set[Key] = set()
        """Those whose turn it is and that have not been changed yet; where that is refused they stay so."""
        self._waiting: dict[Ref, None] = {}
        self._begun = False

    def waits(self, ref: Ref, agent: Declared, wanted: str) -> bool:
        """Whether the agent has to wait for its turn; where not, it has it. `wanted`: the hash of its new template.

        Of one that has it `made` is to be told once its Deployment is so.
        """
        key = Key(ref.namespace, ref.name)
        live = self._owned.rollout(key)
        if key not in self._current and live is not None and live.template not in ("", wanted):
            _, declared = self.rollouts.last(key, agent)
            if declared == agent.generation:
                if not self._take(key):
                    self._waiting[ref] = None
                    return True
                self._due.add(key)
        else:
            self.made(key)
        self._waiting.pop(ref, None)
        return False

    def made(self, key: Key) -> None:
        """The Deployment is as this controller makes it."""
        self._current.add(key)
        self._due.discard(key)

    def look(self, key: Key) -> None:
        """Something may have changed about a Deployment: one that has settled makes room."""
        if key not in self._rolling or key in self._due:
            return
        seen = self.rollouts.seen(key)
        if seen is None or seen.settled:
            del self._rolling[key]
            self._call()

    def forget(self, ref: Ref) -> None:
        """The agent has gone."""
        key = Key(ref.namespace, ref.name)
        self._current.discard(key)
        self._due.discard(key)
        self._waiting.pop(ref, None)
        if self._rolling.pop(key, None) is not None:
            self._call()

    def _take(self, key: Key) -> bool:
        now = self._clock.monotonic()
        if not self._begun:
            # What another controller began and did not end counts, whatever began it: that is told nowhere.
            self._begun = True
            for other, seen in self._owned.live(kinds.DEPLOYMENT).items():
                if not seen.more.settled:
                    self._rolling[other] = now + SECONDS
        if key in self._rolling and self._rolling[key] > now:
            return True
        self._rolling = {other: until for other, until in self._rolling.items() if until > now}
        # One that could not be changed in its turn has another where nobody waits for the first.
        again = key in self._due and any(Key(other.namespace, other.name) not in self._due for other in self._waiting)
        if again or len(self._rolling) >= MOST:
            return False
        self._rolling[key] = now + SECONDS
        return True

    def _call(self) -> None:
        """Have those that waited longest look whether there is room."""
        room = MOST - len(self._rolling)
        for ref in list(self._waiting)[: max(0, room)]:
            self._wake(ref)
