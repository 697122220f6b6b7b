"""Kinds of which nothing runs by itself: whether each can be used is checked, and said."""

from __future__ import annotations

from functools import partial

from kadre.base.clock import Clock
from kadre.base.problems import errors
from kadre.kube.outcome import DONE, After, Outcome, Stop
from kadre.operator.cluster import Cluster, Ref
from kadre.operator.dependents import Dependents
from kadre.operator.reporter import Reporter
from kadre.operator.status import Facts, messages, of_other, own
from kadre.operator.unsupported import UNBUILT

REFUSED_SECONDS = 60.0
"""After which what may not be read is asked for again."""


class Others:
    """Reconciles ModelConfigs, Tools, MemoryStores, templates and their like."""

    def __init__(self, cluster: Cluster, reporter: Reporter, clock: Clock) -> None:
        self._cluster = cluster
        self._reporter = reporter
        self._clock = clock
        self.dependents = Dependents()

    async def reconcile(self, ref: Ref) -> Outcome:
        """Say whether the object can be used."""
        found = self._cluster.find(ref)
        if found is None or found.deleting:
            self.dependents.forget(ref)
            return DONE
        problems = found.problems
        notices: tuple[str, ...] = ()
        refused: frozenset[Ref] = frozenset()
        if found.resource is not None and not errors(problems):
            planned, refused = await self._cluster.plan(found.resource, partial(self.dependents.note, ref))
            problems, notices = (*problems, *planned.problems), messages(planned.notices)
        facts = Facts(own(problems, str(ref)), notices)
        unbuilt = UNBUILT.get((ref.group, ref.kind), "")
        status = of_other(found.status, facts, unbuilt, found.generation, self._clock.now())
        await self._reporter.report(ref, found, status)
        if refused:
            return After(REFUSED_SECONDS)
        wrong = errors(problems)
        return Stop(wrong[0].reason) if wrong else DONE
