"""Agents as other agents' tools."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from kadre.base.problems import errors
from kadre.plan.build import AllPlanned, plan
from kadre.plan.lookup import Resources
from kadre.plan.types import KAOS_GROUP, AgentKey, AgentTool

Plan = Callable[..., AllPlanned]

API = """
apiVersion: kaos.tools/v1alpha1
kind: ModelAPI
metadata: {name: api}
spec: {mode: Hosted, hostedConfig: {model: m}}
"""


def native(name: str, spec: str = "") -> str:
    return f"""
---
apiVersion: kagent.dev/v1alpha1
kind: Agent
metadata: {{name: {name}}}
spec: {{model: {{provider: ollama, name: m}}{spec}}}
"""


def kaos(name: str, access: str = "", more: str = "") -> str:
    return f"""
---
apiVersion: kaos.tools/v1alpha1
kind: Agent
metadata: {{name: {name}}}
spec: {{modelAPI: api, agentNetwork: {{access: [{access}]{more}}}, config: {{description: about {name}}}}}
"""


def tools_of(result: AllPlanned, name: str) -> tuple[object, ...]:
    assert not errors(result.problems), result.problems
    return next(made.tools for key, made in result.plans.items() if key.name == name)


def test_an_agent_it_has_access_to_is_a_tool_described_by_itself(planned: Plan) -> None:
    result = planned(API + kaos("coordinator", "researcher, analyst") + kaos("researcher") + kaos("analyst"))
    assert tools_of(result, "coordinator") == tuple(
        AgentTool(name=name, agent=AgentKey("default", name, KAOS_GROUP), description=f"about {name}")
        for name in ("researcher", "analyst")
    )


def test_both_spellings_of_the_list_are_joined(planned: Plan) -> None:
    text = native("a", ", agents: [b], agentNetwork: {access: [c, b]}") + native("b") + native("c")
    assert sorted(tool.name for tool in tools_of(planned(text), "a") if isinstance(tool, AgentTool)) == ["b", "c"]


def test_a_description_may_come_from_the_other_agents_template(planned: Plan) -> None:
    template = """
---
apiVersion: kagent.dev/v1alpha1
kind: AgentTemplate
metadata: {name: base}
spec: {description: from base}
"""
    (tool,) = tools_of(planned(template + native("a", ", agents: [b]") + native("b", ", templateRef: base")), "a")
    assert isinstance(tool, AgentTool)
    assert tool.description == "from base"


def test_an_agent_of_the_same_dialect_comes_before_one_of_the_other(planned: Plan) -> None:
    text = API + kaos("a", "b") + kaos("b") + native("b") + native("c", ", agents: [b]") + native("only")
    result = planned(text + kaos("d", "only"))
    keys = {name: tool.agent for name in "acd" for tool in tools_of(result, name) if isinstance(tool, AgentTool)}
    assert (keys["a"].group, keys["c"].group, keys["d"].group) == (KAOS_GROUP, "kagent.dev", "kagent.dev")


def test_a_missing_agent_is_told_with_the_nearest_name(planned: Plan) -> None:
    (problem,) = planned(API + kaos("coordinator", "reseacher") + kaos("researcher")).problems
    assert (problem.reason, problem.path) == ("MissingAgent", "spec.agentNetwork.access[0]")
    assert "did you mean researcher?" in problem.message


def test_an_agent_that_is_not_exposed_is_not_called(planned: Plan) -> None:
    (problem,) = planned(API + kaos("a", "b") + kaos("b", more=", expose: false")).problems
    assert problem.reason == "AgentNotExposed"
    assert "expose: true" in problem.fix


def test_delegation_that_is_switched_off_is_no_tool(planned: Plan) -> None:
    off = kaos("a", "b").replace("description: about a", "agenticLoop: {enableDelegation: false}")
    assert tools_of(planned(API + off + kaos("b")), "a") == ()


def test_a_circle_is_told_once_with_its_whole_path(planned: Plan) -> None:
    text = native("b", ", agents: [c]") + native("c", ", agents: [a]") + native("a", ", agents: [b]")
    result = planned(text + native("outside", ", agents: [a]"))
    (problem,) = result.problems
    assert problem.reason == "DelegationCycle"
    assert "a → b → c → a" in problem.message
    assert (problem.resource, problem.path) == ("Agent default/a", "spec.agents[0]")
    assert [key.name for key in result.plans] == ["outside"]


@pytest.mark.parametrize("name", ["a", "b"])
def test_every_agent_of_a_circle_gets_the_same_problem(lookup: Callable[..., Resources], name: str) -> None:
    look = lookup(API + kaos("a", "b") + kaos("b", "a"))
    agent = look.get("Agent", "default", name, KAOS_GROUP)
    assert agent is not None
    made = plan(agent, look)
    assert made.plan is None
    assert [(problem.reason, problem.resource) for problem in made.problems] == [("DelegationCycle", "Agent default/a")]


def test_a_circle_through_a_template_is_found(planned: Plan) -> None:
    template = """
---
apiVersion: kagent.dev/v1alpha1
kind: AgentTemplate
metadata: {name: base}
spec: {agents: [b]}
"""
    result = planned(template + native("a", ", templateRef: base") + native("b", ", agents: [a]"))
    (problem,) = result.problems
    assert (problem.reason, problem.resource) == ("DelegationCycle", "AgentTemplate default/base")
