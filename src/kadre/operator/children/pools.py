"""What a pool and its agents know each other by: the labels of plans, and what pods tell of those that they serve.

A plan has a label for each pool that is to serve it, and not the pool's name as a value of one: an agent that moves
from one pool to another is in both until the second serves it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import msgspec

from kadre.kube.kinds import Object
from kadre.operator.children.common import IN_POOL
from kadre.plan.types import AgentPlan

DEFAULT = "default"
"""The pool of an author who names none."""
MEMBER = "member"


class Served(msgspec.Struct, omit_defaults=True):
    """What one pod tells: the plans that it serves, and those that it cannot, each by the name of the agent."""

    plans: dict[str, str] = {}
    """The hash of the plan."""
    refused: dict[str, tuple[str, str]] = {}
    """The hash of the plan, and why it cannot be served."""


_served = msgspec.json.Decoder(Served)


def pool_of(plan: AgentPlan) -> str:
    """The pool that is to serve the agent; empty: it has pods of its own."""
    runtime: Object = plan.workload.get("runtime", {})
    return str(runtime.get("pool") or DEFAULT) if runtime.get("mode") == "Pooled" else ""


def pooled(plan: AgentPlan) -> AgentPlan:
    """The plan without what only pods of its own would use."""
    return msgspec.structs.replace(plan, workload={"runtime": plan.workload.get("runtime", {})})


def labels(names: Iterable[str]) -> dict[str, str]:
    """The labels of a plan that these pools are to serve."""
    return {f"{IN_POOL}{name}": MEMBER for name in names}


def selector(name: str) -> str:
    """Chooses the plans of a pool."""
    return f"{IN_POOL}{name}={MEMBER}"


def pools_of(obj: Object) -> tuple[str, ...]:
    """The pools that are to serve the plan in a ConfigMap."""
    found = (obj["metadata"].get("labels") or {}).items()
    return tuple(
        sorted(key.removeprefix(IN_POOL) for key, value in found if key.startswith(IN_POOL) and value == MEMBER)
    )


def served(data: Mapping[str, str]) -> dict[str, Served]:
    """What every pod of a pool tells. Of what cannot be read nothing is told."""
    found = {}
    for pod, text in data.items():
        try:
            found[pod] = _served.decode(text)
        except msgspec.DecodeError:
            continue
    return found
