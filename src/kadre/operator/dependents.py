"""Who depends on what, so that a change reaches exactly those it matters to."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Set as AbstractSet

from kadre.operator.cluster import Ref


class Dependents:
    """The references of each resource, and their reverse."""

    def __init__(self) -> None:
        self._needs: dict[Ref, AbstractSet[Ref]] = {}
        self._needed_by: dict[Ref, set[Ref]] = defaultdict(set)

    def note(self, ref: Ref, needs: AbstractSet[Ref]) -> None:
        """From now on `ref` depends on these, whether they are there or not."""
        before = self._needs.get(ref, frozenset())
        for gone in before - needs:
            self._drop(ref, gone)
        for new in needs - before:
            self._needed_by[new].add(ref)
        self._needs[ref] = needs

    def forget(self, ref: Ref) -> None:
        """It is gone: it depends on nothing."""
        for gone in self._needs.pop(ref, frozenset()):
            self._drop(ref, gone)

    def needs(self, ref: Ref) -> AbstractSet[Ref]:
        """What it depends on."""
        return self._needs.get(ref, frozenset())

    def of(self, ref: Ref) -> tuple[Ref, ...]:
        """Those that depend on it."""
        return tuple(self._needed_by.get(ref, ()))

    def _drop(self, ref: Ref, needed: Ref) -> None:
        users = self._needed_by[needed]
        users.discard(ref)
        if not users:
            del self._needed_by[needed]
