"""How many pods an agent runs in: a fixed number, or an autoscaler's; and how many of them may be away at once."""

from __future__ import annotations

from kadre.kube.kinds import AUTOSCALER, DEPLOYMENT, DISRUPTION_BUDGET, Object
from kadre.operator.children.common import Child, Owner, selector
from kadre.plan.types import AgentPlan

CPU_TARGET = 80
"""Percent of the CPU that pods request, where the author names bounds and nothing to scale by."""


def fewest(plan: AgentPlan) -> int:
    """The fewest pods there are to be."""
    scaling: Object = plan.workload.get("scaling", {})
    return int(scaling.get("minReplicas", plan.workload.get("replicas", 1)))


def most(plan: AgentPlan) -> int:
    """The most pods there may be."""
    scaling: Object = plan.workload.get("scaling", {})
    return max(fewest(plan), int(scaling.get("maxReplicas", 0)))


def is_scaled(plan: AgentPlan) -> bool:
    """Whether the number of pods is an autoscaler's to say."""
    scaling: Object = plan.workload.get("scaling", {})
    return int(scaling.get("maxReplicas", 0)) > fewest(plan) or bool(scaling.get("metrics"))


def autoscaler(owner: Owner) -> Child | None:
    """The autoscaler; None where the number is fixed."""
    plan = owner.plan
    if not is_scaled(plan):
        return None
    scaling: Object = plan.workload["scaling"]
    least = max(1, fewest(plan))
    cpu = {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": CPU_TARGET}}
    spec: Object = {
        "scaleTargetRef": {"apiVersion": DEPLOYMENT.api_version, "kind": DEPLOYMENT.kind, "name": plan.key.name},
        "minReplicas": least,
        "maxReplicas": max(least, int(scaling.get("maxReplicas", least))),
        "metrics": scaling.get("metrics") or [{"type": "Resource", "resource": cpu}],
    }
    if scaling.get("behavior"):
        spec["behavior"] = scaling["behavior"]
    manifest = {
        "apiVersion": AUTOSCALER.api_version,
        "kind": AUTOSCALER.kind,
        "metadata": owner.metadata(plan.key.name),
        "spec": spec,
    }
    return Child(AUTOSCALER, manifest)


def disruption_budget(owner: Owner) -> Child | None:
    """At most one pod away at a time; None for a single pod, which it would keep on its node for ever."""
    plan = owner.plan
    if fewest(plan) < 2:
        return None
    manifest = {
        "apiVersion": DISRUPTION_BUDGET.api_version,
        "kind": DISRUPTION_BUDGET.kind,
        "metadata": owner.metadata(plan.key.name),
        "spec": {"maxUnavailable": 1, "selector": {"matchLabels": selector(plan)}},
    }
    return Child(DISRUPTION_BUDGET, manifest)
