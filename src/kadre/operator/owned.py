"""The children that are in the cluster, each kept as a few bytes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from kadre.kube import kinds
from kadre.kube.apply import Seen, seen
from kadre.kube.client import Client, Scope
from kadre.kube.informer import Informer
from kadre.kube.kinds import Key, Kind, Object
from kadre.operator.children.common import MANAGED_BY, MANAGER
from kadre.operator.status import Rollout, rollout

KINDS = (
    kinds.SERVICE_ACCOUNT,
    kinds.CONFIG_MAP,
    kinds.SERVICE,
    kinds.DEPLOYMENT,
    kinds.AUTOSCALER,
    kinds.DISRUPTION_BUDGET,
)


class Owned:
    """Follows what the controller has made. `changed` is told the uid of the owner."""

    def __init__(self, client: Client, changed: Callable[[str], None]) -> None:
        def tell(_: Key, before: Seen | None, after: Seen | None) -> None:
            for owner in {known.owner for known in (before, after) if known is not None}:
                changed(owner)

        self._informers = {
            kind: Informer(client, kind, _deployment if kind is kinds.DEPLOYMENT else _any, tell, _OURS)
            for kind in KINDS
        }

    def informers(self) -> list[Informer[Any]]:
        """All of them, to be run."""
        return list(self._informers.values())

    def live(self, kind: Kind) -> Mapping[Key, Seen]:
        """What there is of a kind."""
        return self._informers[kind].kept

    def rollout(self, key: Key) -> Rollout | None:
        """How a Deployment is getting on."""
        found = self.live(kinds.DEPLOYMENT).get(key)
        return found.more if found is not None else None


_OURS = Scope(selector=f"{MANAGED_BY}={MANAGER}")


def _any(obj: Object, _: Seen | None) -> Seen:
    return seen(obj)


def _deployment(obj: Object, _: Seen | None) -> Seen:
    return seen(obj)._replace(more=rollout(obj))
