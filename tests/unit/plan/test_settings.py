"""Limits, what only a cluster uses, and what isn't built yet."""

from __future__ import annotations

from collections.abc import Callable

import msgspec
import pytest

from kadre.base.problems import errors
from kadre.plan.build import AllPlanned
from kadre.plan.types import AgentPlan, Limits

Plan = Callable[..., AllPlanned]


def agent(spec: str) -> str:
    return f"""
apiVersion: kagent.dev/v1alpha1
kind: Agent
metadata: {{name: helper, labels: {{app: support}}}}
spec: {{model: {{provider: ollama, name: m}}, {spec}}}
"""


def kaos(spec: str) -> str:
    return f"""
apiVersion: kaos.tools/v1alpha1
kind: ModelAPI
metadata: {{name: api}}
spec: {{mode: Hosted, hostedConfig: {{model: m}}}}
---
apiVersion: kaos.tools/v1alpha1
kind: Agent
metadata: {{name: helper}}
spec: {{modelAPI: api, {spec}}}
"""


def helper(result: AllPlanned) -> AgentPlan:
    assert not errors(result.problems), result.problems
    (plan,) = result.plans.values()
    return plan


def test_what_is_not_written_has_a_bound_all_the_same(planned: Plan) -> None:
    assert helper(planned(agent("description: x"))).limits == Limits()


def test_every_limit_that_is_written_is_kept(planned: Plan) -> None:
    spec = (
        "maxSteps: 2, maxToolCalls: 0, timeout: 1m, maxOutputBytes: 9, onBusy: reject, queueLimit: 3, "
        "maxConcurrentRuns: 4, "
        "rateLimits: {requestsPerMinute: 60, tokensPerMinute: 100000}"
    )
    assert helper(planned(agent(spec))).limits == Limits(
        max_steps=2,
        max_tool_calls=0,
        deadline=60,
        max_output_bytes=9,
        on_busy="reject",
        queue_limit=3,
        max_concurrent_runs=4,
        requests_per_minute=60,
        tokens_per_minute=100000,
    )


@pytest.mark.parametrize(
    ("spec", "tokens"),
    [
        ("toolBudget: 0.5", 64_000),
        ("toolBudget: 0", 0),
        ("model: {provider: openai, name: m, contextWindow: 1000}", 100),
        ("toolBudget: 0.25, model: {provider: openai, name: m, contextWindow: 1000}", 250),
        ("model: {provider: local, name: m}", 819),
    ],
)
def test_tools_may_take_a_share_of_the_models_context(planned: Plan, spec: str, tokens: int) -> None:
    text = agent(spec)
    if "model:" in spec:
        text = text.replace("model: {provider: ollama, name: m}, ", "")
    assert helper(planned(text, {"OPENAI_API_KEY": "k"})).limits.max_tool_tokens == tokens


def test_a_kaos_agents_limits_are_kept(planned: Plan) -> None:
    plan = helper(planned(kaos("gatewayRoute: {timeout: 120s}, config: {reasoningLoopMaxSteps: 7}")))
    assert (plan.limits.deadline, plan.limits.max_steps) == (120, 7)


def test_what_only_a_cluster_uses_is_plain_json(planned: Plan) -> None:
    spec = (
        "scaling: {minReplicas: 1, maxReplicas: 5, targetCPUUtilization: 70}, resources: {limits: {cpu: 1}}, "
        "healthCheck: {path: /health}, serviceAccountName: sa, env: [{name: A, value: b}], replicas: 2"
    )
    plan = helper(planned(agent(spec)))
    target = {"type": "Utilization", "averageUtilization": 70}
    assert plan.workload == {
        "scaling": {
            "minReplicas": 1,
            "maxReplicas": 5,
            "metrics": [{"type": "Resource", "resource": {"name": "cpu", "target": target}}],
        },
        "resources": {"limits": {"cpu": "1"}},
        "healthCheck": {"path": "/health"},
        "serviceAccountName": "sa",
        "env": [{"name": "A", "value": "b"}],
        "replicas": 2,
    }
    assert plan.labels == {"app": "support"}


def test_kaoss_own_fields_are_kept_for_the_cluster(planned: Plan) -> None:
    spec = "gatewayRoute: {timeout: 5s, retries: 2}, podSpec: {a: b}, container: {args: [x]}, replicas: 3"
    assert helper(planned(kaos(spec))).workload == {
        "gatewayRoute": {"timeout": 5.0, "retries": 2},
        "podSpec": {"a": "b"},
        "container": {"command": [], "args": ["x"]},
        "replicas": 3,
    }


def test_what_has_no_effect_of_what_kaos_knows_says_so(planned: Plan) -> None:
    made = helper(planned(kaos("gatewayRoute: {timeout: 5s, retries: 2}, container: {command: [x]}")))
    assert {notice.reason for notice in made.notices} == {"NotSupportedYet"}
    message = "\n".join(notice.message for notice in made.notices)
    assert "gatewayRoute.retries" in message
    assert "container.command" in message


def test_of_two_variables_of_one_name_the_containers_is_set(planned: Plan) -> None:
    spec = "config: {env: [{name: A, value: b}, {name: C, value: d}]}, container: {env: [{name: A, value: e}]}"
    made = helper(planned(kaos(spec))).workload["env"]
    assert made == [{"name": "A", "value": "e"}, {"name": "C", "value": "d"}]


def test_what_is_not_built_yet_says_so(planned: Plan) -> None:
    spec = "observability: {tracing: {enabled: true, provider: langfuse}}, runtime: {image: mine}"
    notices = helper(planned(agent(spec))).notices
    assert {notice.reason for notice in notices} == {"NotSupportedYet"}
    message = "\n".join(notice.message for notice in notices)
    assert "langfuse" in message
    assert "runtime.image" in message
    (notice,) = helper(planned(kaos("config: {autonomous: {goal: work}}"))).notices
    assert "autonomous" in notice.message


def test_a_secret_in_the_environment_that_is_missing_is_a_problem(planned: Plan) -> None:
    spec = "env: [{name: TOKEN, valueFrom: {secretKeyRef: {name: keys, key: token}}}]"
    (problem,) = planned(agent(spec)).problems
    assert (problem.reason, problem.path) == ("MissingSecret", "spec.env[0].valueFrom.secretKeyRef")
    assert "the line TOKEN=… in .env (the environment is not read for it)" in problem.fix
    assert planned(agent(spec), {"TOKEN": "t"}).problems == []
    (problem,) = planned(agent(spec), exported={"TOKEN": "t", "KEYS_TOKEN": "t"}).problems
    assert problem.reason == "MissingSecret"


def test_a_plan_is_the_same_after_it_was_json(planned: Plan) -> None:
    plan = helper(planned(agent("maxSteps: 2, tools: [{name: a, endpoint: 'http://a'}], scaling: {maxReplicas: 2}")))
    assert msgspec.json.decode(msgspec.json.encode(plan), type=AgentPlan) == plan


def test_what_has_no_effect_in_a_pool_is_said(planned: Plan) -> None:
    spec = "runtime: {mode: Pooled}, replicas: 2, env: [{name: LLM_MODEL, value: m}, {name: A, value: b}]"
    told = planned(agent(spec)).problems
    assert [(each.severity, each.reason, each.path) for each in told] == [
        ("warning", "FieldNotUsed", "spec.replicas"),
        ("warning", "FieldNotUsed", "spec.env[1]"),
    ]
    (told_alone,) = planned(agent("runtime: {pool: p}")).problems
    assert (told_alone.severity, told_alone.path) == ("warning", "spec.runtime.pool")
