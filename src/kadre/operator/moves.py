"""Where an agent is served, and where it is to be: in pods of its own, or in a pool; and the way from one to the other.

Nothing is taken away before what takes its place answers and the gateway has had time to hear of it: an agent's status
says where its messages go. A place is the name of a pool; an empty one stands for pods of the agent's own.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import NamedTuple

from kadre.base.clock import Clock
from kadre.operator.children import pools
from kadre.operator.cluster import Declared, Ref
from kadre.operator.owned import Owned
from kadre.operator.status import Rollout
from kadre.plan.types import AgentPlan

HEARD_SECONDS = 5.0
"""Between the status that sends messages elsewhere and the end of what they were sent to before."""


def told(agent: Declared) -> str:
    """Where the agent's messages go, as its status says."""
    return str(agent.status.get("pool", ""))


def served(before: str, wanted: str, own: Rollout | None, seat: Callable[[str], Rollout]) -> tuple[Rollout | None, str]:
    """How an agent is getting on, and where its messages go.

    `before`: where they went as its status says; `wanted`: where it is to be; `own`: how its own pods are, where it has
    any; `seat`: how it is in a pool.
    """
    there = seat(wanted) if wanted else own
    if before == wanted or (there is not None and there.settled):
        return there, wanted
    answers = seat(before) if before else own
    if answers is None:
        return there, before
    if there is None:
        return replace(answers, updated=0), before
    # What answers is the one, and what is to come the other.
    return replace(answers, updated=0, trouble=there.trouble, fix=there.fix, pods=there.pods), before


class Move(NamedTuple):
    """Where an agent is to be served, and what there is still of where it was."""

    pool: str
    """Empty: by pods of its own."""
    pools: tuple[str, ...]
    """Those that are to have its plan: until it has moved, the one before too."""
    left: bool
    """Whether anything of where it was is there still."""
    waits: float | None
    """Seconds until that may go: 0 is now; None while it is still needed."""


class Moves:
    """Remembers where agents were, and since when they are where they are to be, while something is left of that.

    Where one was is what its status has said. What labels say besides, anybody may have written who may write
    ConfigMaps: it is cleared away, and kept nowhere. So is what a controller finds that starts in between.
    """

    def __init__(self, owned: Owned, clock: Clock) -> None:
        self._owned = owned
        self._clock = clock
        self._since: dict[Ref, float] = {}
        self._were: dict[Ref, set[str]] = {}

    def of(self, ref: Ref, agent: Declared, plan: AgentPlan, *, own: bool) -> Move:
        """Where the agent is to be served. `own`: whether it has a Deployment of its own."""
        pool, before = pools.pool_of(plan), told(agent)
        were = (self._were.get(ref, set()) | {before}) - {pool, ""}
        others = self._owned.pools_of(agent.uid) - {pool}
        if not were and not others and not (pool and own):
            self.forget(ref)
            return Move(pool, (pool,) if pool else (), left=False, waits=0.0)
        self._were[ref] = were
        waits = self._waits(ref, arrived=before == pool)
        kept = were if waits != 0 else set()
        return Move(pool, tuple(sorted({pool, *kept} - {""})), left=True, waits=waits)

    def _waits(self, ref: Ref, *, arrived: bool) -> float | None:
        if not arrived:
            self._since.pop(ref, None)
            return None
        since = self._since.setdefault(ref, self._clock.monotonic())
        return max(0.0, since + HEARD_SECONDS - self._clock.monotonic())

    def forget(self, ref: Ref) -> None:
        """Nothing is left, or the agent has gone."""
        self._since.pop(ref, None)
        self._were.pop(ref, None)
