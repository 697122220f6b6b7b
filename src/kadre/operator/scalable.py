"""What is said of how an agent scales: whether what it scales by is there."""

from __future__ import annotations

from collections.abc import Callable

from kadre.api.conditions import State
from kadre.operator.children import scaling
from kadre.plan.types import AgentPlan

APIS = frozenset(scaling.METRIC_APIS.values())
"""API groups that others bring and that scaling depends on."""
_BRINGERS = {
    "metrics.k8s.io": "metrics-server",
    "custom.metrics.k8s.io": "an adapter such as prometheus-adapter",
    "external.metrics.k8s.io": "KEDA, or an adapter such as prometheus-adapter",
}


def scalable(plan: AgentPlan, serves: Callable[[str], bool | None]) -> State | None:
    """The condition; None where the number of pods is fixed, and where nobody shows us what the cluster serves.

    `serves`: whether the cluster serves an API group.
    """
    if not scaling.is_scaled(plan) or any(serves(group) is None for group in APIS):
        return None
    keda = scaling.wants_keda(plan)
    if keda and not serves(scaling.KEDA_API):
        message = (
            "there is no KEDA in the cluster: an autoscaler follows the other metrics; install KEDA, or take keda out"
        )
        return State("Scalable", "False", "MissingKeda", message)
    left = scaling.untriggered(plan) if keda else []
    if left:
        message = f"KEDA has no trigger for metrics of type {', '.join(left)}: write one in keda.triggers instead"
        return State("Scalable", "False", "UnsupportedMetric", message)
    lacking = {} if keda else _lacking(plan, serves)
    if lacking:
        what = "; ".join(f"{', '.join(kinds)} metrics come from {group}" for group, kinds in sorted(lacking.items()))
        fix = "; ".join(f"install {_BRINGERS[group]}" for group in sorted(lacking))
        return State("Scalable", "False", "MetricsUnavailable", f"{what}, which nothing serves; {fix}")
    if not scaling.is_bounded(plan):
        return State("Scalable", "False", "NoRoom", "maxReplicas is not more than minReplicas: raise maxReplicas")
    return State("Scalable", "True", "Scaled", "by KEDA" if keda else "")


def _lacking(plan: AgentPlan, serves: Callable[[str], bool | None]) -> dict[str, list[str]]:
    """API groups that are away, each with the types of metrics that come from it."""
    found: dict[str, list[str]] = {}
    for kind in sorted({metric["type"] for metric in scaling.metrics(plan)}):
        group = scaling.METRIC_APIS[kind]
        if not serves(group):
            found.setdefault(group, []).append(kind)
    return found
