"""Rules, trust and people of an agent's plan."""

from __future__ import annotations

from collections.abc import Callable

import msgspec
import pytest

from kadre.api import manifest
from kadre.base.problems import errors
from kadre.plan.build import AllPlanned
from kadre.plan.types import USUAL_APPROVALS, AgentPlan, ApprovalPlan, ApprovalRule, HumanTool, McpTools

Plan = Callable[..., AllPlanned]
MODEL = "model: {provider: ollama, name: qwen3}"
ENDPOINT = "{name: k, endpoint: 'http://k'}"


def document(kind: str, name: str, spec: str) -> str:
    return f"""
---
apiVersion: kagent.dev/v1alpha1
kind: {kind}
metadata: {{name: {name}}}
spec: {spec}
"""


def agent(more: str) -> str:
    return document("Agent", "helper", f"{{{MODEL}, {more}}}")


def helper(result: AllPlanned) -> AgentPlan:
    assert not errors(result.problems), result.problems
    return next(plan for key, plan in result.plans.items() if key.name == "helper")


@pytest.mark.requirement("approval-policy")
def test_rules_are_taken_as_they_are_written(planned: Plan) -> None:
    text = agent(
        "approvals: {expires: 10m, onExpiry: allow, policy: [{action: ask, tools: [k/create_*], message: ' why '}, "
        "{action: deny, capabilities: [exec], arguments: {command: rm}}]}"
    )
    assert helper(planned(text)).approvals == ApprovalPlan(
        expires=600.0,
        on_expiry="allow",
        rules=(
            ApprovalRule(action="ask", tools=("k/create_*",), message="why"),
            ApprovalRule(action="deny", capabilities=("exec",), arguments={"command": "rm"}),
        ),
    )


@pytest.mark.requirement("approval-policy")
def test_an_agents_rules_come_before_its_templates(planned: Plan) -> None:
    base = "{approvals: {expires: 1m, policy: [{action: deny, tools: [a]}]}}"
    near = "{templateRef: base, approvals: {expires: 2m, policy: [{action: ask, tools: [a]}]}}"
    text = document("AgentTemplate", "base", base) + document("AgentTemplate", "near", near)
    mine = agent("templateRef: near, approvals: {policy: [{action: allow, tools: [a]}]}")
    plan = helper(planned(text + mine)).approvals
    assert [rule.action for rule in plan.rules] == ["allow", "ask", "deny"]
    assert (plan.expires, plan.on_expiry) == (120.0, "deny")


@pytest.mark.requirement("approval-policy")
def test_an_agent_without_any_has_the_plan_it_had_before_there_were_rules(planned: Plan) -> None:
    plan = helper(planned(agent(f"tools: [{ENDPOINT}]")))
    assert plan.approvals is USUAL_APPROVALS
    assert b"approvals" not in msgspec.json.encode(plan)
    assert b"trusted" not in msgspec.json.encode(plan)


@pytest.mark.requirement("approval-policy")
@pytest.mark.parametrize(
    ("approvals", "reason", "path"),
    [
        (
            "{policy: [{action: ask}, {action: deny, arguments: {a: '('}}]}",
            "InvalidPattern",
            "spec.approvals.policy[1].arguments.a",
        ),
        ("{policy: [{action: block}]}", "InvalidValue", "spec.approvals.policy[0].action"),
        ("{policy: [{action: ask, capabilities: [delete]}]}", "InvalidValue", "spec.approvals.policy[0].capabilities"),
        ("{policy: [{tools: [a]}]}", "MissingField", "spec.approvals.policy[0]"),
        ("{expires: 0s}", "InvalidValue", "spec.approvals.expires"),
    ],
)
def test_a_mistake_in_them_says_where_it_is(approvals: str, reason: str, path: str) -> None:
    (problem,) = errors(manifest.load(agent(f"approvals: {approvals}"), "agents.yaml").problems)
    assert (problem.reason, problem.path.startswith(path)) == (reason, True), problem


@pytest.mark.requirement("text-from-outside")
@pytest.mark.parametrize(
    ("tool", "reference", "trusted"),
    [
        ("", ENDPOINT, False),
        ("", "{name: k, endpoint: 'http://k', trusted: true}", True),
        ("trusted: true, ", "k", True),
        ("", "k", False),
        ("", "{name: k, trusted: true}", True),
        ("trusted: true, ", "{name: k, trusted: false}", False),
    ],
)
def test_who_vouches_for_a_tool_is_its_author_unless_the_agents_says_otherwise(
    planned: Plan, tool: str, reference: str, trusted: bool
) -> None:
    text = document("Tool", "k", f"{{type: mcp, {tool}mcp: {{endpoint: 'http://k'}}}}") + agent(f"tools: [{reference}]")
    (made,) = helper(planned(text)).tools
    assert isinstance(made, McpTools)
    assert made.trusted is trusted


@pytest.mark.requirement("tool-human")
def test_a_person_is_a_tool(planned: Plan) -> None:
    spec = (
        "{type: human, description: Ask the desk, human: {prompt: A guest waits, timeout: 5m, default: none}, "
        "parameters: [{name: topic, required: true}]}"
    )
    (whole,) = helper(planned(document("Tool", "front.desk", spec) + agent("tools: [front.desk]"))).tools
    assert whole == HumanTool(
        name="front_desk",
        description="Ask the desk",
        prompt="A guest waits",
        timeout=300.0,
        default="none",
        parameters={
            "type": "object",
            "properties": {"topic": {"type": "string"}},
            "required": ["topic"],
            "additionalProperties": False,
        },
    )
    (plain,) = helper(planned(agent("tools: [{name: desk, type: human}]"))).tools
    assert plain == HumanTool(name="desk")
