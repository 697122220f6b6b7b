"""Templates: the agent's words win, lists are joined, circles are told once."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from kadre.base.problems import errors
from kadre.plan.build import AllPlanned, plan
from kadre.plan.lookup import Resources
from kadre.plan.types import AgentPlan, McpTools

Plan = Callable[..., AllPlanned]


def template(name: str, spec: str) -> str:
    return f"""
---
apiVersion: kagent.dev/v1alpha1
kind: AgentTemplate
metadata: {{name: {name}}}
spec: {spec}
"""


def agent(spec: str, name: str = "helper") -> str:
    return template(name, spec).replace("AgentTemplate", "Agent")


def helper(result: AllPlanned) -> AgentPlan:
    assert not errors(result.problems), result.problems
    return next(plan for key, plan in result.plans.items() if key.name == "helper")


MODEL = "model: {provider: ollama, name: qwen3}"


def test_what_the_agent_leaves_out_is_the_templates(planned: Plan) -> None:
    text = template("base", f"{{{MODEL}, systemPrompt: from base, description: from base, maxSteps: 3}}")
    plan = helper(planned(text + agent("{templateRef: base, description: mine}")))
    assert (plan.system_prompt, plan.description) == ("from base", "mine")
    assert plan.limits.max_steps == 3
    assert plan.model.model == "qwen3"


def test_lists_are_joined_and_an_entry_of_the_same_name_is_the_agents(planned: Plan) -> None:
    text = template(
        "base",
        f"{{{MODEL}, tools: [{{name: a, endpoint: 'http://base/a'}}, {{name: b, endpoint: 'http://base/b'}}]}}",
    )
    mine = "{templateRef: base, tools: [{name: c, endpoint: 'http://my/c'}, {name: a, endpoint: 'http://my/a'}]}"
    tools = helper(planned(text + agent(mine))).tools
    assert [(tool.name, tool.url) for tool in tools if isinstance(tool, McpTools)] == [
        ("b", "http://base/b"),
        ("c", "http://my/c"),
        ("a", "http://my/a"),
    ]


def test_a_templates_bare_tool_is_mended_by_the_agents_endpoint(planned: Plan) -> None:
    text = template("base", f"{{{MODEL}, tools: [kubernetes-mcp]}}")
    assert errors(planned(text).problems) == []
    mine = "{templateRef: base, tools: [{name: kubernetes-mcp, endpoint: 'http://k:80'}]}"
    assert [tool.name for tool in helper(planned(text + agent(mine))).tools] == ["kubernetes-mcp"]


def test_a_problem_in_a_template_is_told_where_it_was_written_and_once(planned: Plan) -> None:
    text = template("base", f"{{{MODEL}, tools: [gone]}}")
    result = planned(text + agent("{templateRef: base}") + agent("{templateRef: base}", "second"))
    (problem,) = result.problems
    assert (problem.reason, problem.resource) == ("MissingTool", "AgentTemplate default/base")
    assert problem.source.line == 6
    assert result.plans == {}


def test_templates_have_templates(planned: Plan) -> None:
    text = template("root", f"{{{MODEL}, systemPrompt: root, maxSteps: 1}}")
    text += template("middle", "{templateRef: root, systemPrompt: middle}")
    plan = helper(planned(text + agent("{templateRef: middle}")))
    assert (plan.system_prompt, plan.limits.max_steps) == ("middle", 1)


def test_nested_fields_are_merged(planned: Plan) -> None:
    text = template(
        "base",
        f"{{{MODEL}, rateLimits: {{requestsPerMinute: 5}}, scaling: {{minReplicas: 2, metrics: "
        "[{type: cpu, target: {averageUtilization: 50}}, {type: memory, target: {averageUtilization: 60}}]}}",
    )
    mine = (
        "{templateRef: base, rateLimits: {tokensPerMinute: 7}, "
        "scaling: {maxReplicas: 4, metrics: [{type: cpu, target: {averageUtilization: 90}}]}}"
    )
    plan = helper(planned(text + agent(mine)))
    assert (plan.limits.requests_per_minute, plan.limits.tokens_per_minute) == (5, 7)
    scaling = plan.workload["scaling"]
    assert (scaling["minReplicas"], scaling["maxReplicas"]) == (2, 4)
    targets = {metric["resource"]["name"]: metric["resource"]["target"] for metric in scaling["metrics"]}
    assert {name: target["averageUtilization"] for name, target in targets.items()} == {"memory": 60, "cpu": 90}


def test_a_template_may_ask_for_more_than_the_agent_that_takes_it_over_allows(planned: Plan) -> None:
    base = template("base", f"{{{MODEL}, resources: {{requests: {{memory: 1Gi}}}}}}")
    result = planned(base + agent("{templateRef: base, resources: {limits: {memory: 512Mi}}}"))
    (problem,) = result.problems
    assert (problem.reason, problem.path) == ("InvalidRange", "spec.resources.requests.memory")
    assert problem.message == "with its templates, requests.memory 1Gi is more than limits.memory 512Mi"
    assert result.plans == {}
    assert planned(base + agent("{templateRef: base, resources: {limits: {memory: 1Gi}}}")).problems == []


def test_a_store_is_taken_whole(planned: Plan) -> None:
    text = template("base", f"{{{MODEL}, memory: {{type: in-memory, config: {{maxHistory: 7}}}}}}")
    assert helper(planned(text + agent("{templateRef: base, memory: {type: sqlite}}"))).memory.max_history == 100
    plan = helper(planned(text + agent("{templateRef: base, memory: {config: {ttl: 60}}}")))
    assert (plan.memory.type, plan.memory.session_ttl, plan.memory.max_history) == ("in-memory", 60, 7)


def test_the_agents_model_config_wins_over_the_templates_model(planned: Plan) -> None:
    config = """
apiVersion: kagent.dev/v1alpha1
kind: ModelConfig
metadata: {name: mine}
spec: {provider: vllm, model: mine}
"""
    text = config + template("base", "{model: {provider: ollama, name: qwen3, temperature: 1}}")
    plan = helper(planned(text + agent("{templateRef: base, modelConfig: mine}")))
    assert (plan.model.provider, plan.model.model, plan.model.params) == ("vllm", "mine", {})


def test_the_agents_temperature_is_laid_over_the_templates_model(planned: Plan) -> None:
    text = template("base", f"{{{MODEL}}}") + agent("{templateRef: base, model: {temperature: 0.1}}")
    model = helper(planned(text)).model
    assert (model.model, model.params) == ("qwen3", {"temperature": 0.1})


def test_a_missing_template_is_the_only_problem_it_causes(planned: Plan) -> None:
    (problem,) = planned(template("base", f"{{{MODEL}}}") + agent("{templateRef: bases}")).problems
    assert problem.reason == "MissingTemplate"
    assert "did you mean base?" in problem.message


@pytest.mark.parametrize("mine", ["templateRef: bases", "templateRef: bases, model: {temperature: 0.1}"])
def test_of_a_model_that_a_missing_template_may_have_nothing_is_said(
    lookup: Callable[..., Resources], mine: str
) -> None:
    found = lookup(agent(f"{{{mine}}}"))
    made = plan(next(iter(found.all())), found)
    assert [problem.reason for problem in made.problems] == ["MissingTemplate"]
    assert [each.kind for each in made.dependencies] == ["template"]


def test_a_circle_of_templates_is_told_once_from_its_least_name(planned: Plan) -> None:
    text = template("b", "{templateRef: c}") + template("c", "{templateRef: a}") + template("a", "{templateRef: b}")
    result = planned(text + agent("{templateRef: b}") + agent("{templateRef: c}", "second"))
    (problem,) = result.problems
    assert problem.reason == "TemplateCycle"
    assert "a → b → c → a" in problem.message
    assert problem.resource == "AgentTemplate default/a"
    assert result.plans == {}


def test_a_template_nobody_uses_is_checked(planned: Plan) -> None:
    result = planned(template("base", "{modelConfig: gone, memory: {storeRef: gone}}"))
    assert [problem.reason for problem in result.problems] == ["MissingModelConfig", "MissingMemoryStore"]
