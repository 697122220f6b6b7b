"""Who may reach an agent's pods, and what they may reach."""

from __future__ import annotations

from typing import Any

import pytest

from kadre.operator.children.common import Owner, Settings
from kadre.operator.children.network_policy import network_policy
from kadre.plan.types import AgentKey, AgentPlan, AgentTool, CodeTool, ModelPlan

pytestmark = pytest.mark.requirement("network-policies")
DATABASE = {"to": [{"ipBlock": {"cidr": "10.0.0.0/8"}}]}
FRIENDS = {"podSelector": {"matchLabels": {"app": "shop"}}}
GATEWAY = {
    "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "kagent"}},
    "podSelector": {"matchLabels": {"app.kubernetes.io/component": "gateway"}},
}


def spec(settings: Settings, *tools: AgentTool | CodeTool) -> dict[str, Any]:
    asked = {"networkPolicy": {"enabled": True, "allowFrom": [FRIENDS], "egress": [DATABASE]}}
    model = ModelPlan(provider="scripted", model="m")
    plan = AgentPlan(key=AgentKey("team", "helper"), model=model, tools=tools, workload=asked)
    made = network_policy(Owner(plan, "Agent", "kagent.dev/v1alpha1", "uid"), settings)
    assert made is not None
    found: dict[str, Any] = made.manifest["spec"]
    return found


def test_the_gateway_comes_in_whoever_else_does() -> None:
    (doors, *_) = spec(Settings(home="kagent", gateway_service="kagent"))["ingress"]
    assert doors["from"] == [FRIENDS, GATEWAY]
    (doors, *_) = spec(Settings(home="kagent"))["ingress"]
    assert doors["from"] == [FRIENDS]


def test_an_agent_that_asks_others_reaches_the_gateway_and_no_other_does() -> None:
    settings = Settings(home="kagent", gateway_service="kagent")
    asked = AgentTool(name="other", agent=AgentKey("team", "other"))
    database, gateway, _ = spec(settings, asked)["egress"]
    assert (database, gateway["to"]) == (DATABASE, [GATEWAY])
    assert [each for each in spec(settings)["egress"] if each.get("to") == [GATEWAY]] == []


@pytest.mark.requirement("tool-code-cluster")
def test_an_agent_that_has_code_run_reaches_the_code_runner_and_no_other_does() -> None:
    runner = {"podSelector": {"matchLabels": {"app": "kagent-code-runner"}}}
    _, code, _ = spec(Settings(), CodeTool(name="python"))["egress"]
    assert code == {"to": [runner], "ports": [{"port": 8080, "protocol": "TCP"}]}
    assert [each for each in spec(Settings())["egress"] if each.get("to") == [runner]] == []
