"""Every field that says how an agent is run in a cluster reaches an object, or is said to have no effect."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any, get_args

import pytest
from pydantic import BaseModel

from kadre.api import manifest
from kadre.api.kinds.agent import Agent, AgentSpec
from kadre.operator.children.agent import children
from kadre.operator.children.common import Owner, Settings
from kadre.operator.children.environment import environment
from kadre.operator.scalable import scalable
from kadre.plan.build import plan
from kadre.plan.lookup import Resources

Steps = tuple[str | int, ...]
KEDA: dict[str, Any] = {
    "enabled": True,
    "pollingInterval": 15,
    "cooldownPeriod": 60,
    "triggers": [
        {
            "type": "prometheus",
            "name": "sessions",
            "metadata": {"threshold": "50"},
            "metricType": "AverageValue",
            "authenticationRef": {"name": "prometheus"},
        }
    ],
}
METRICS: list[dict[str, Any]] = [
    {"type": "Resource", "resource": {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": 70}}},
    {"type": "Resource", "resource": {"name": "memory", "target": {"type": "AverageValue", "averageValue": "1Gi"}}},
    {"type": "Resource", "resource": {"name": "disk", "target": {"type": "Value", "value": "1Gi"}}},
    {"type": "Pods", "pods": {"metric": {"name": "rate"}, "target": {"type": "AverageValue", "averageValue": "1"}}},
    {"type": "Object", "object": {"metric": {"name": "hits"}, "target": {"type": "Value", "value": "9"}}},
    {"type": "External", "external": {"metric": {"name": "queue"}, "target": {"type": "Value", "value": "9"}}},
    {"type": "ContainerResource", "containerResource": {"name": "cpu", "container": "agent"}},
]
SECTIONS: dict[str, Any] = {
    "replicas": 3,
    "scaling": {
        "minReplicas": 2,
        "maxReplicas": 10,
        "metrics": METRICS,
        "behavior": {"scaleDown": {"stabilizationWindowSeconds": 300}},
        "keda": KEDA,
    },
    "resources": {"requests": {"cpu": "250m"}, "limits": {"memory": "1Gi"}},
    "env": [
        {"name": "LEVEL", "value": "debug"},
        {"name": "TOKEN", "valueFrom": {"secretKeyRef": {"name": "tokens", "key": "a", "optional": True}}},
        {"name": "URL", "valueFrom": {"configMapKeyRef": {"name": "urls", "key": "u", "optional": True}}},
        {"name": "POD", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}},
        {"name": "CPUS", "valueFrom": {"resourceFieldRef": {"resource": "limits.cpu"}}},
    ],
    "healthCheck": {
        "enabled": True,
        "path": "/ready",
        "port": 8081,
        "initialDelaySeconds": 5,
        "periodSeconds": 20,
        "timeoutSeconds": 7,
        "failureThreshold": 4,
    },
    "observability": {
        "tracing": {
            "enabled": True,
            "provider": "langfuse",
            "sampleRate": 0.5,
            "endpoint": "http://langfuse:3000",
            "secretRef": {"name": "langfuse", "key": "token", "optional": False},
        },
        "metrics": {"enabled": True, "port": 9100},
    },
    "serviceAccountName": "somebody",
    "serviceAccountAnnotations": {"eks.amazonaws.com/role-arn": "arn"},
    "networkPolicy": {"enabled": True, "allowFrom": [{"podSelector": {}}], "egress": [{"to": [{"podSelector": {}}]}]},
}
"""Every field of these sections, each with a value that makes a difference."""
NOTICED = ("observability.tracing",)
"""Sections of which it is said that they have no effect yet: all of them, whatever is in them."""


def becomes(sections: dict[str, Any]) -> list[Any]:
    """The objects an agent becomes, in a cluster with KEDA and in one without, and all that is said of it."""
    metadata = {"name": "helper", "namespace": "team", "uid": "uid"}
    spec = {"model": {"provider": "scripted", "name": "m"}, **sections}
    written = {"apiVersion": "kagent.dev/v1alpha1", "kind": "Agent", "metadata": metadata, "spec": spec}
    agent, problems = manifest.parse(written)
    if not isinstance(agent, Agent):
        return problems
    planned = plan(agent, Resources([agent]), bearing={"MissingSecret", "MissingConfigMap"})
    assert planned.plan is not None, planned.problems
    read = environment(planned.plan, lambda *_: "1", "")
    owner = Owner(planned.plan, "Agent", "kagent.dev/v1alpha1", "uid", read)
    made = [child.manifest for keda in (True, False) for child in children(owner, Settings(), keda=keda)]
    served = "external.metrics.k8s.io"
    told = [scalable(planned.plan, {group}.__contains__, keda=group == served) for group in ("", served)]
    return [problems, planned.problems, planned.notices, made, told]


def model_of(annotation: Any) -> type[BaseModel] | None:
    """The model in a field's type, as in `list[Metric] | None`."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next(filter(None, map(model_of, get_args(annotation))), None)


def declared(model: type[BaseModel], path: str = "") -> Iterator[str]:
    """Paths of all fields of a model, those of lists without their numbers."""
    for name, field in model.model_fields.items():
        here = f"{path}.{field.alias or name}".lstrip(".")
        inner = model_of(field.annotation)
        yield from declared(inner, here) if inner is not None else (here,)


def written(value: Any, steps: Steps = ()) -> Iterator[Steps]:
    """Every step into a value."""
    if steps:
        yield steps
    for step, inner in (
        value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    ):
        yield from written(inner, (*steps, step))


def named(steps: Steps) -> str:
    """The path of a field, without numbers."""
    return ".".join(step for step in steps if isinstance(step, str))


def altered(value: Any, steps: Steps) -> Any:
    """The value less what is there; with the opposite of what is true or false."""
    made = copy.deepcopy(value)
    place = made
    for step in steps[:-1]:
        place = place[step]
    if isinstance(place[steps[-1]], bool):
        place[steps[-1]] = not place[steps[-1]]
    elif steps[-2:] == ("target", "type"):  # it follows from the value where it is not written
        place[steps[-1]] = "Value" if place[steps[-1]] != "Value" else "AverageValue"
    else:
        del place[steps[-1]]
    return made


def test_the_example_has_every_field() -> None:
    fields = {field for field in declared(AgentSpec) if field.partition(".")[0] in SECTIONS}
    known = {named(steps) for steps in written(SECTIONS)}
    assert fields - known == set()


@pytest.mark.requirement("operator-fields")
@pytest.mark.parametrize("steps", list(written(SECTIONS)), ids=lambda steps: ".".join(map(str, steps)))
def test_a_field_makes_a_difference(steps: Steps) -> None:
    name = str(steps[0])
    section = {name: SECTIONS[name]}
    if any(named(steps).startswith(f"{each}.") for each in NOTICED):
        steps = steps[:2]
    assert becomes(altered(section, steps)) != becomes(section)
