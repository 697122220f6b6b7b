"""MCP servers that the labels of Services choose: which they are, where, and what is said of those that cannot be."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from kadre.api import manifest
from kadre.api.services import tool_service
from kadre.base.problems import errors
from kadre.plan.build import AllPlanned
from kadre.plan.types import McpTools

Plan = Callable[..., AllPlanned]
AGENT = """
apiVersion: kagent.dev/v1alpha1
kind: Agent
metadata: {name: helper}
spec: {model: {provider: ollama, name: m}, tools: [%s]}
"""


def tool(mcp: str, rest: str = "") -> str:
    return (
        "\n---\n{apiVersion: kagent.dev/v1alpha1, kind: Tool, metadata: {name: desk},"
        f" spec: {{type: mcp, mcp: {{{mcp}}}{rest}}}}}"
    )


def service(name: str, labels: str = "", spec: str = "ports: [{port: 8080}]", metadata: str = "") -> str:
    return (
        f"\n---\n{{apiVersion: v1, kind: Service, metadata: {{name: {name}, {metadata}"
        f"labels: {{kagent.dev/mcp: 'true', {labels}}}}}, spec: {{{spec}}}}}"
    )


def made(result: AllPlanned) -> tuple[Any, ...]:
    assert not errors(result.problems), result.problems
    (plan,) = result.plans.values()
    return plan.tools


def test_the_services_that_have_the_labels_are_servers_of_which_nobody_named_the_tools(planned: Plan) -> None:
    text = AGENT % "desk" + tool("selector: {matchLabels: {team: a}}, timeout: 5s", ", capabilities: [read]")
    text += service(
        "two", "team: a", "ports: [{name: metrics, port: 9}, {name: http, port: 80}, {name: mcp, port: 81}]"
    )
    text += service("one", "team: a", metadata="annotations: {kagent.dev/mcp-path: /tools/mcp}, ")
    text += service("other", "team: b") + service("far", "team: a", metadata="namespace: elsewhere, ")
    text += (
        "\n---\n{apiVersion: v1, kind: Service, metadata: {name: plain, labels: {team: a}}, spec: {ports: [{port: 1}]}}"
    )
    result = planned(text)
    assert made(result) == (
        McpTools(name="desk/one", url="http://one.default:8080/tools/mcp", capabilities=("read",), timeout=5.0),
        McpTools(name="desk/two", url="http://two.default:81", capabilities=("read",), timeout=5.0),
    )
    assert result.problems == []


def test_that_there_is_none_is_a_warning_that_says_how_there_is_one(planned: Plan) -> None:
    result = planned(AGENT % "desk" + tool("selector: {matchLabels: {team: a}}"))
    assert made(result) == ()
    (problem,) = result.problems
    assert (problem.reason, problem.severity, problem.path) == ("NoServices", "warning", "spec.mcp.selector")
    assert problem.fix == "kubectl label service NAME -n default kagent.dev/mcp=true,team=a"


@pytest.mark.parametrize(
    ("spec", "metadata", "said"),
    [
        ("type: ExternalName, externalName: evil.example.com, ports: [{port: 80}]", "", "leads out of the cluster"),
        ("ports: [{name: a, port: 1}, {name: b, port: 2}]", "", "no port named mcp or http"),
        ("clusterIP: None", "", "it has no port"),
        ("ports: [{port: 80}]", "annotations: {kagent.dev/mcp-path: '@evil.example.com/'}, ", "is no path"),
    ],
)
def test_a_service_that_cannot_be_asked_is_told_and_the_others_are(
    planned: Plan, spec: str, metadata: str, said: str
) -> None:
    result = planned(AGENT % "desk" + tool("selector: {}") + service("odd", "", spec, metadata) + service("good"))
    assert [each.name for each in made(result)] == ["desk/good"]
    (problem,) = result.problems
    assert (problem.reason, problem.severity) == ("UnusableService", "warning")
    assert problem.message.startswith("the Service default/odd is not asked: ")
    assert said in problem.message


def test_of_very_many_the_first_are_asked(planned: Plan) -> None:
    result = planned(AGENT % "desk" + tool("selector: {}") + "".join(service(f"s{n:02}") for n in range(51)))
    assert [each.name for each in made(result)] == [f"desk/s{n:02}" for n in range(50)]
    assert [problem.reason for problem in result.problems] == ["TooManyServices"]


@pytest.mark.parametrize(
    ("mcp", "reason"),
    [
        ("selector: {}, endpoint: 'http://x'", "ConflictingFields"),
        ("selector: {}, command: [x]", "ConflictingFields"),
        ("timeout: 5s", "ConflictingFields"),
        ("selector: {}, secretHeaders: {Authorization: {name: keys, key: token}}", "SecretToAnyHost"),
    ],
)
def test_a_selector_stands_alone_and_sends_no_secret(mcp: str, reason: str) -> None:
    assert [problem.reason for problem in manifest.load(tool(mcp), "tool.yaml").problems] == [reason]


@pytest.mark.parametrize(
    "value",
    [{}, {"metadata": 1, "spec": []}, {"metadata": {"labels": {"kagent.dev/mcp": True}}, "spec": {"ports": 7}}],
)
def test_whatever_a_service_holds_is_borne(value: Any) -> None:
    assert tool_service(value, "default", "x") is None
    marked = tool_service(
        {
            "metadata": {"labels": {"kagent.dev/mcp": "true", "a": 1}},
        },
        "default",
        "x",
    )
    assert marked is not None
    assert marked.fault == "it has no port"


def test_of_many_that_cannot_be_asked_a_few_are_told(planned: Plan) -> None:
    text = AGENT % "desk" + tool("selector: {}") + "".join(service(f"s{n}", spec="ports: []") for n in range(300))
    result = planned(text)
    assert made(result) == ()
    told = [problem.message for problem in result.problems]
    assert len(told) == 6
    assert told[-1] == "295 more Services that are chosen are not asked"
