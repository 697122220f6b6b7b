"""How many pods an agent runs in: a fixed number, or an autoscaler's; and how many of them may be away at once."""

from __future__ import annotations

from collections.abc import Iterator

from kadre.kube.kinds import AUTOSCALER, DEPLOYMENT, DISRUPTION_BUDGET, SCALED_OBJECT, Object
from kadre.operator.children.common import Child, Owner, Settings, selector
from kadre.plan.types import AgentPlan

CPU_TARGET = 80
"""Percent of the CPU that pods request, where the author names bounds and nothing to scale by."""
ACTIVE = "agent_active_sessions"
"""The metric that KEDA scales by where the author asks Prometheus and does not say for what."""
KEDA_API = "external.metrics.k8s.io"
"""The API that KEDA serves where it is installed."""
METRIC_APIS = {
    "Resource": "metrics.k8s.io",
    "ContainerResource": "metrics.k8s.io",
    "Pods": "custom.metrics.k8s.io",
    "Object": "custom.metrics.k8s.io",
    "External": KEDA_API,
}
"""The API that a metric of each type comes from."""


def fewest(plan: AgentPlan) -> int:
    """The fewest pods there are to be."""
    return int(_scaling(plan).get("minReplicas", plan.workload.get("replicas", 1)))


def most(plan: AgentPlan) -> int:
    """The most pods there may be."""
    scaling: Object = plan.workload.get("scaling", {})
    return max(fewest(plan), int(scaling.get("maxReplicas", 0)))


def is_scaled(plan: AgentPlan) -> bool:
    """Whether the number of pods is an autoscaler's to say."""
    scaling = _scaling(plan)
    return int(scaling.get("maxReplicas", 0)) > fewest(plan) or bool(scaling.get("metrics")) or wants_keda(plan)


def wants_keda(plan: AgentPlan) -> bool:
    """Whether KEDA is to scale it."""
    return bool(_scaling(plan).get("keda", {}).get("enabled"))


def is_bounded(plan: AgentPlan) -> bool:
    """Whether there is room to scale in."""
    return int(_scaling(plan).get("maxReplicas", 0)) > fewest(plan)


def metrics(plan: AgentPlan) -> list[Object]:
    """What the number of pods follows, besides KEDA's triggers, as in autoscaling/v2."""
    cpu = {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": CPU_TARGET}}
    written: list[Object] = _scaling(plan).get("metrics", [])
    return written or [{"type": "Resource", "resource": cpu}]


def untriggered(plan: AgentPlan) -> list[str]:
    """Types of the author's metrics that KEDA has no trigger for."""
    written: list[Object] = _scaling(plan).get("metrics", [])
    return sorted({metric["type"] for metric in written if not list(_trigger(metric))})


def autoscaler(owner: Owner, settings: Settings, *, keda: bool) -> Child | None:
    """The autoscaler; None where the number is fixed. `keda`: whether there is KEDA, which brings its own."""
    plan = owner.plan
    if not is_scaled(plan):
        return None
    if wants_keda(plan) and keda:
        return _scaled_object(owner, settings)
    scaling = _scaling(plan)
    least = max(1, fewest(plan))
    spec: Object = {
        "scaleTargetRef": {"apiVersion": DEPLOYMENT.api_version, "kind": DEPLOYMENT.kind, "name": plan.key.name},
        "minReplicas": least,
        "maxReplicas": max(least, int(scaling.get("maxReplicas", least))),
        "metrics": metrics(plan),
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


def _scaled_object(owner: Owner, settings: Settings) -> Child:
    """What KEDA makes an autoscaler of: its triggers, and the author's other metrics as triggers.

    An agent that may have no pods is scaled up, too, by somebody who waits for it at the gateway.
    """
    plan = owner.plan
    scaling = _scaling(plan)
    keda = scaling["keda"]
    least = fewest(plan)
    spec: Object = {
        "scaleTargetRef": {"apiVersion": DEPLOYMENT.api_version, "kind": DEPLOYMENT.kind, "name": plan.key.name},
        "minReplicaCount": least,
        "maxReplicaCount": max(1, least, int(scaling.get("maxReplicas", least))),
        "triggers": [
            *(_completed(trigger, plan, settings) for trigger in keda.get("triggers", ())),
            *(trigger for metric in scaling.get("metrics", ()) for trigger in _trigger(metric)),
            *([_awaited(settings.scaler)] if least == 0 and settings.scaler else []),
        ],
    }
    spec |= {field: keda[field] for field in ("pollingInterval", "cooldownPeriod") if field in keda}
    if scaling.get("behavior"):
        spec["advanced"] = {"horizontalPodAutoscalerConfig": {"behavior": scaling["behavior"]}}
    manifest = {
        "apiVersion": SCALED_OBJECT.api_version,
        "kind": SCALED_OBJECT.kind,
        "metadata": owner.metadata(plan.key.name),
        "spec": spec,
    }
    return Child(SCALED_OBJECT, manifest)


def _completed(trigger: Object, plan: AgentPlan, settings: Settings) -> Object:
    """An author's trigger; one that leaves out where Prometheus is, or what to ask it, means the agent's own series."""
    if trigger["type"] != "prometheus":
        return trigger
    given = trigger["metadata"]
    # Not every Prometheus says of which namespace a series is.
    pods = f'agent_name="{plan.key.name}",namespace=~"{plan.key.namespace}|"'
    query = f"sum({given.get('metricName', ACTIVE)}{{{pods}}})"
    return {**trigger, "metadata": {"serverAddress": settings.prometheus, "query": query, **given}}


def _awaited(scaler: str) -> Object:
    """KEDA's trigger of those that somebody waits for."""
    return {"type": "external-push", "metadata": {"scalerAddress": scaler}}


def _trigger(metric: Object) -> Iterator[Object]:
    """A metric as KEDA's trigger; none where it has no such one."""
    part: Object = metric.get("resource") or metric.get("containerResource") or {}
    target = part.get("target", {})
    value = target.get("averageUtilization") or target.get("averageValue")
    if part.get("name") not in {"cpu", "memory"} or value is None:
        return
    container = {"containerName": part["container"]} if "container" in part else {}
    yield {"type": part["name"], "metricType": target["type"], "metadata": {"value": str(value), **container}}


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


def _scaling(plan: AgentPlan) -> Object:
    scaling: Object = plan.workload.get("scaling", {})
    return scaling
