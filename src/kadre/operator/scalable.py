"""What is said of how an agent scales: whether what it scales by is there."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from kadre.api.conditions import State
from kadre.kube.kinds import SCALED_OBJECT, Object
from kadre.operator.children import scaling
from kadre.plan.types import AgentPlan

APIS = frozenset(scaling.METRIC_APIS.values())
"""API groups that others bring and that metrics come from."""
GROUPS = APIS | {SCALED_OBJECT.group}
"""All those that scaling depends on."""
_WHOSE = ("app.kubernetes.io/part-of", "app.kubernetes.io/name", "app.kubernetes.io/instance", "helm.sh/chart")
_BRINGERS = {
    "metrics.k8s.io": "metrics-server",
    "custom.metrics.k8s.io": "an adapter such as prometheus-adapter",
    "external.metrics.k8s.io": "KEDA, or an adapter such as prometheus-adapter",
}


class Apis(Protocol):
    """What the cluster has of API groups that others bring; None where we are not shown."""

    def serves(self, group: str) -> bool | None:
        """Whether it is served."""
        ...

    def is_kedas(self, group: str) -> bool | None:
        """Whether it is KEDA that is named as who serves it, though nobody may do so just now."""
        ...


def by_keda(api: Object) -> bool:
    """Whether an APIService is KEDA's: by the Service that it names, or by labels where that was given another name."""
    metadata, spec = api["metadata"], api.get("spec") or {}
    service, labels = spec.get("service") or {}, metadata.get("labels") or {}
    told = [service.get("name"), *(labels.get(key) for key in _WHOSE)]
    return any("keda" in str(word) for word in told)


def has_keda(apis: Apis, *, scaled: bool) -> bool:
    """Whether an agent is KEDA's to scale. `scaled`: it has a ScaledObject, and stays KEDA's until that is uninstalled.

    What KEDA serves other adapters serve too, and while it restarts nobody does: that alone moves nothing. Its kinds
    may stay when it is uninstalled; who serves external metrics is nobody then, or another adapter.
    """
    there, named = apis.serves(SCALED_OBJECT.group), apis.is_kedas(scaling.KEDA_API)
    if scaled:
        return there is not False and named is not False
    return bool(there and named and apis.serves(scaling.KEDA_API))


def scalable(plan: AgentPlan, serves: Callable[[str], bool | None], *, keda: bool) -> State | None:
    """The condition; None where the number of pods is fixed, and where nobody shows us what the cluster serves.

    `serves`: whether the cluster serves an API group; `keda`: whether an agent that wants it has KEDA.
    """
    if not scaling.is_scaled(plan) or any(serves(group) is None for group in APIS):
        return None
    wants = scaling.wants_keda(plan)
    if wants and not keda:
        message = (
            "there is no KEDA in the cluster: an autoscaler follows the other metrics; install KEDA, or take keda out"
        )
        return State("Scalable", "False", "MissingKeda", message)
    if wants and not serves(scaling.KEDA_API):
        message = f"KEDA does not serve {scaling.KEDA_API} just now: the number of pods follows it again once it does"
        return State("Scalable", "False", "KedaUnavailable", message)
    left = scaling.untriggered(plan) if wants else []
    if left:
        message = f"KEDA has no trigger for metrics of type {', '.join(left)}: write one in keda.triggers instead"
        return State("Scalable", "False", "UnsupportedMetric", message)
    lacking = {} if wants else _lacking(plan, serves)
    if lacking:
        what = "; ".join(f"{', '.join(kinds)} metrics come from {group}" for group, kinds in sorted(lacking.items()))
        fix = "; ".join(f"install {_BRINGERS[group]}" for group in sorted(lacking))
        return State("Scalable", "False", "MetricsUnavailable", f"{what}, which nothing serves; {fix}")
    if not scaling.is_bounded(plan):
        return State("Scalable", "False", "NoRoom", "maxReplicas is not more than minReplicas: raise maxReplicas")
    return State("Scalable", "True", "Scaled", "by KEDA" if wants else "")


def by_another(scaler: str) -> State:
    """The condition of an agent whose pods an autoscaler counts that is not ours."""
    message = (
        f"HorizontalPodAutoscaler {scaler} says how many pods there are, and spec.replicas is not applied: delete it,"
        f" or write spec.scaling instead"
    )
    return State("Scalable", "True", "ScaledByAnother", message)


def _lacking(plan: AgentPlan, serves: Callable[[str], bool | None]) -> dict[str, list[str]]:
    """API groups that are away, each with the types of metrics that come from it."""
    found: dict[str, list[str]] = {}
    for kind in sorted({metric["type"] for metric in scaling.metrics(plan)}):
        group = scaling.METRIC_APIS[kind]
        if not serves(group):
            found.setdefault(group, []).append(kind)
    return found
