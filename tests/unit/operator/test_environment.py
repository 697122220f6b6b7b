"""Pods are made anew when what their environment was read from is another one, and only then."""

from __future__ import annotations

from typing import Any

from kadre.operator.children import server
from kadre.operator.children.environment import environment, read_from
from kadre.plan.types import AgentKey, AgentPlan, ModelPlan, SecretRef, ServerPlan

ENV: list[dict[str, Any]] = [
    {"name": "LEVEL", "value": "debug"},
    {"name": "TOKEN", "valueFrom": {"secretKeyRef": {"name": "tokens", "key": "a"}}},
    {"name": "OTHER", "valueFrom": {"secretKeyRef": {"name": "tokens", "key": "b"}}},
    {"name": "URL", "valueFrom": {"configMapKeyRef": {"name": "urls", "key": "u"}}},
    {"name": "POD", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}},
]
VERSIONS = {("Secret", "tokens"): "81", ("ConfigMap", "urls"): "7"}


def read(versions: dict[tuple[str, str], str], live: str = "") -> str:
    model = ModelPlan(provider="scripted", model="m")
    plan = AgentPlan(key=AgentKey("team", "helper"), model=model, workload={"env": ENV})
    return environment(plan, lambda kind, name: versions.get((kind, name), ""), live)


def test_it_says_each_source_once_with_its_version() -> None:
    assert read(VERSIONS) == "ConfigMap/urls@7, Secret/tokens@81"


def test_what_has_gone_is_told_as_it_was_so_that_pods_that_run_go_on() -> None:
    assert (
        read({("Secret", "tokens"): "90"}, "ConfigMap/urls@7, Secret/tokens@81") == "ConfigMap/urls@7, Secret/tokens@90"
    )
    assert read({}) == ""


def test_an_environment_that_is_written_there_is_read_from_nowhere() -> None:
    plan = AgentPlan(key=AgentKey("team", "helper"), model=ModelPlan(provider="scripted", model="m"))
    assert environment(plan, lambda *_: "1", "Secret/tokens@81") == ""


def test_what_a_server_runs_out_of_a_secret_is_read_as_its_environment_is() -> None:
    file = SecretRef(namespace="team", name="code", key="tools.py")
    plan = ServerPlan(type="launch", service="s", namespace="team", name="s", url="http://s", file=file)
    owner = server.ServerOwner(plan, "MCPServer", "kaos.tools/v1alpha1", "uid")
    assert read_from(server.sources(owner), lambda *_: "7", "") == "Secret/code@7"
