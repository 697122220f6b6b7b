"""How many pods an agent runs in: the short spellings people write, kept as autoscaling/v2 metrics."""

from collections.abc import Iterator, Mapping
from typing import Any, ClassVar, Literal

from kadre.api.parts import Count, Positive, Quantity
from kadre.api.resource import Conflict, Spec
from kadre.base.problems import Problem

SHORT_METRICS = ("cpu", "memory")
SHORT_TARGETS = {
    "targetCPUUtilization": "cpu",
    "targetCPUUtilizationPercentage": "cpu",
    "targetMemoryUtilization": "memory",
    "targetMemoryUtilizationPercentage": "memory",
}


class MetricTarget(Spec):
    """The value a metric is held at."""

    type: Literal["Utilization", "AverageValue", "Value"] | None = None
    """Percent of the request, an average over pods, or a total; the first that has a value where none is given."""
    average_utilization: Positive | None = None
    """Percent of what the pods request."""
    average_value: Quantity | None = None
    """An average over pods."""
    value: Quantity | None = None
    """A total."""

    @classmethod
    def canonical(cls, data: Any) -> Any:
        """The type follows from the value that is given."""
        if isinstance(data, dict) and data.get("type") is None:
            for field, kind in (
                ("averageUtilization", "Utilization"),
                ("averageValue", "AverageValue"),
                ("value", "Value"),
            ):
                if field in data:
                    return {**data, "type": kind}
        return data


class ResourceMetric(Spec):
    """CPU or memory of the pods."""

    name: str
    """cpu or memory."""
    target: MetricTarget
    """The value it is held at."""


class Metric(Spec):
    """What is measured, as in autoscaling/v2; `{type: cpu, target: …}` is accepted for a Resource metric."""

    type: Literal["Resource", "Pods", "Object", "External", "ContainerResource"]
    """The kind of metric."""
    resource: ResourceMetric | None = None
    """type Resource: CPU or memory of the pods."""
    pods: dict[str, Any] | None = None
    """type Pods: a metric of each pod."""
    object: dict[str, Any] | None = None
    """type Object: a metric of another object."""
    external: dict[str, Any] | None = None
    """type External: a metric from outside the cluster."""
    container_resource: dict[str, Any] | None = None
    """type ContainerResource: CPU or memory of one container."""

    accepts: ClassVar[Mapping[str, tuple[Any, str]]] = {
        "type": (
            Literal["Resource", "Pods", "Object", "External", "ContainerResource", "cpu", "memory"],
            "The kind of metric; cpu and memory are short for Resource.",
        ),
        "target": (MetricTarget, "type cpu or memory: the value it is held at."),
    }

    @classmethod
    def canonical(cls, data: Any) -> Any:
        """`{type: cpu, target: …}` is the Resource metric cpu."""
        if isinstance(data, dict) and data.get("type") in SHORT_METRICS and "resource" not in data:
            rest = {key: value for key, value in data.items() if key not in {"type", "target"}}
            resource = {"name": data["type"]} | ({"target": data["target"]} if "target" in data else {})
            return {**rest, "type": "Resource", "resource": resource}
        return data


class KedaTrigger(Spec):
    """An event source that KEDA scales by."""

    type: str
    """KEDA's name of the source, e.g. prometheus."""
    name: str | None = None
    """A name for the trigger."""
    metadata: dict[str, str]
    """The source's settings, all in quotes. Of prometheus, serverAddress and query may be left out."""
    metric_type: Literal["Utilization", "AverageValue", "Value"] | None = None
    """How the source's value is read."""
    authentication_ref: dict[str, Any] | None = None
    """A TriggerAuthentication."""


class Keda(Spec):
    """Scaling by KEDA."""

    enabled: bool | None = None
    """Whether KEDA scales this agent."""
    triggers: list[KedaTrigger] | None = None
    """What it scales by."""
    polling_interval: Positive | None = None
    """Seconds between looks at a source."""
    cooldown_period: Count | None = None
    """Seconds without work before it scales to zero."""


class Scaling(Spec):
    """How many pods run."""

    min_replicas: Count | None = None
    """The fewest pods; 0 needs KEDA. 1 where nothing is written."""
    max_replicas: Positive | None = None
    """The most pods."""
    metrics: list[Metric] | None = None
    """What the number of pods follows."""
    behavior: dict[str, Any] | None = None
    """How fast it changes, as in autoscaling/v2."""
    keda: Keda | None = None
    """Scaling by KEDA."""

    accepts: ClassVar[Mapping[str, tuple[Any, str]]] = {
        name: (Positive, f"Short for a Resource metric: percent of the {resource} that pods request.")
        for name, resource in SHORT_TARGETS.items()
    }

    @classmethod
    def canonical(cls, data: Any) -> Any:
        """`targetCPUUtilization: 70` is the Resource metric cpu, and likewise for memory."""
        if not isinstance(data, dict):
            return data
        for name, resource in SHORT_TARGETS.items():
            if name in data:
                _add_target(data, name, resource, data.pop(name))
        return data


def _add_target(data: dict[str, Any], name: str, resource: str, percent: Any) -> None:
    metrics = data.get("metrics")
    if percent is None or not (metrics is None or isinstance(metrics, list)):
        return
    for metric in metrics or ():
        known = _utilization(metric, resource)
        if known is not None:
            if known != percent:
                data["metrics"] = Conflict("metrics", name)
            return
    target = {"type": "Utilization", "averageUtilization": percent}
    data["metrics"] = [*(metrics or ()), {"type": "Resource", "resource": {"name": resource, "target": target}}]


def _utilization(metric: Any, resource: str) -> Any:
    """The percent a metric, in either spelling, holds `resource` at; None where it is about something else."""
    if not isinstance(metric, dict):
        return None
    part = metric.get("resource")
    if isinstance(part, dict) and part.get("name") == resource:
        metric = part
    elif metric.get("type") != resource:
        return None
    target = metric.get("target")
    return target.get("averageUtilization") if isinstance(target, dict) else None


def check_scaling(scaling: Scaling, path: str) -> Iterator[Problem]:
    """Bounds that cross, metrics without their section, and zero pods without KEDA."""
    fewest, most = scaling.min_replicas, scaling.max_replicas
    if fewest is not None and most is not None and fewest > most:
        yield Problem(
            "InvalidRange",
            f"minReplicas {fewest} is more than maxReplicas {most}",
            fix="exchange them, or raise maxReplicas",
            path=f"{path}.minReplicas",
        )
    keda = scaling.keda is not None and scaling.keda.enabled is True
    if fewest == 0 and not keda:
        yield Problem(
            "InvalidValue",
            "only KEDA can scale to zero",
            fix="write minReplicas: 1, or set keda.enabled: true with a trigger",
            path=f"{path}.minReplicas",
        )
    if keda and scaling.keda is not None and not (scaling.keda.triggers or scaling.metrics):
        yield Problem(
            "MissingField", "KEDA has nothing to scale by", fix="add keda.triggers or metrics", path=f"{path}.keda"
        )
    sections = {
        "Resource": "resource",
        "Pods": "pods",
        "Object": "object",
        "External": "external",
        "ContainerResource": "container_resource",
    }
    for number, metric in enumerate(scaling.metrics or ()):
        if getattr(metric, sections[metric.type]) is None:
            yield Problem(
                "MissingField",
                f"a metric of type {metric.type} needs its section",
                fix=f"add {Metric.model_fields[sections[metric.type]].alias}:",
                path=f"{path}.metrics[{number}]",
            )
