"""Agents' Deployments as this process made them last, and what that says of what is seen of them.

What is seen, and what an agent's status says, may be older than what was applied: yesterday's paper is no rollback, and
a Deployment that was ready before it was changed is not ready.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from kadre.api.conditions import State
from kadre.kube import kinds
from kadre.kube.apply import Place
from kadre.kube.kinds import Key, Object
from kadre.operator.children.deployment import HISTORY, plan_name
from kadre.operator.cluster import Declared
from kadre.operator.owned import Owned
from kadre.operator.status import Rollout


@dataclass(frozen=True, slots=True)
class Applied:
    """What a Deployment was made to be."""

    uid: str
    generation: int
    template: str
    """The hash of its pod template."""
    declared: int
    """The generation of the agent that wanted it so."""


class Rollouts:
    """How Deployments are getting on, and whether somebody has undone what was rolled out."""

    def __init__(self, owned: Owned) -> None:
        self._owned = owned
        self._applied: dict[Key, Applied] = {}
        self._plans: dict[Key, tuple[str, ...]] = {}
        """Plans that Deployments were given, the newest last; until their revisions are seen."""

    def note(self, key: Key, agent: Declared, template: str, made: Object | None) -> None:
        """The Deployment is as the agent wants it. `made`: what it is; None where it was known to be so."""
        if made is not None:
            metadata = made["metadata"]
            self._applied[key] = Applied(metadata["uid"], metadata.get("generation", 0), template, agent.generation)
            plan = plan_name(made["spec"]["template"])
            self._plans[key] = (*(each for each in self._plans.get(key, ()) if each != plan), plan)[-HISTORY:]
        elif key in self._applied:
            self._applied[key] = replace(self._applied[key], template=template, declared=agent.generation)

    def gone(self, place: Place, uid: str) -> None:
        """A child has gone: one of the same name starts anew."""
        mine = self._applied.get(place.key)
        if place.kind is kinds.DEPLOYMENT and mine is not None and mine.uid == uid:
            del self._applied[place.key]
            self._plans.pop(place.key, None)

    def forget(self, key: Key) -> None:
        """The agent has gone."""
        self._applied.pop(key, None)
        self._plans.pop(key, None)

    def last(self, key: Key, agent: Declared) -> tuple[str, int]:
        """The template that was applied last, and the agent's generation then; of its status where we did not do it."""
        mine = self._applied.get(key)
        if mine is not None:
            return mine.template, mine.declared
        return agent.status.get("planHash", ""), agent.status.get("observedGeneration", 0)

    def unseen(self, key: Key) -> tuple[str, ...]:
        """Plans that the Deployment was given and of which no revision has been seen: there may be one all the same.

        No more than the revisions that are kept.
        """
        known = self._plans.pop(key, ())
        seen = {revision.plan for revision in self._owned.revisions(key)} if known else set()
        if left := tuple(plan for plan in known if plan not in seen):
            self._plans[key] = left
        return left

    def seen(self, key: Key) -> Rollout | None:
        """How the Deployment is getting on, as what we made of it last."""
        self.unseen(key)  # which forgets what has been
        live = self._owned.rollout(key)
        return live.superseded(self._applied[key].generation) if live is not None and self._behind(key) else live

    def undone(self, key: Key, agent: Declared, wanted: str) -> State | None:
        """Somebody has undone a rollout: which revision runs; None where nobody has, or the agent has changed since.

        `wanted`: the template it is to have.
        """
        live, (applied, declared) = self._owned.rollout(key), self.last(key, agent)
        if live is None or self._behind(key) or not applied:
            return None
        if live.template in ("", applied, wanted) or declared != agent.generation:
            return None
        revisions = list(self._owned.revisions(key))
        # Several where `kubectl rollout restart` has made a new one of what was there.
        same = [revision for revision in revisions if revision.template == live.template]
        if not same:
            return None
        newest = max(revision.number for revision in same)
        # The newest, where none of them was ever another, is ours: of it the status was not written any more.
        if not any(each.reused for each in same) and newest == max(each.number for each in revisions):
            return None
        message = f"revision {newest} runs, as a rollback wants; it is held until the agent changes"
        return State("RolledBack", "True", "RolloutUndone", message)

    def _behind(self, key: Key) -> bool:
        """Whether what is seen of the Deployment is older than what we made of it."""
        live, mine = self._owned.live(kinds.DEPLOYMENT).get(key), self._applied.get(key)
        if live is None or mine is None:
            return False
        return live.uid != mine.uid or live.more.generation < mine.generation
