"""Kinds that an agent host does not run are checked all the same."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from kadre.base.problems import Problem
from kadre.plan.build import AllPlanned
from kadre.plan.types import ModelPlan, Override

Plan = Callable[..., AllPlanned]

AGENT = """
---
apiVersion: kagent.dev/v1alpha1
kind: Agent
metadata: {name: writer}
spec: {model: {provider: ollama, name: m}}
"""


def document(kind: str, name: str, spec: str) -> str:
    return f"""
---
apiVersion: kagent.dev/v1alpha1
kind: {kind}
metadata: {{name: {name}}}
spec: {spec}
"""


WORKFLOW = document(
    "Workflow", "flow", "{input: [{name: topic, required: true}], steps: [{name: write, agent: writer}]}"
)


def only(result: AllPlanned) -> Problem:
    (problem,) = result.problems
    return problem


def test_a_step_whose_agent_is_missing_is_a_problem(planned: Plan) -> None:
    assert planned(AGENT + WORKFLOW).problems == []
    problem = only(planned(AGENT + WORKFLOW.replace("agent: writer", "agent: write")))
    assert (problem.reason, problem.path) == ("MissingAgent", "spec.steps[0].agent")
    assert "did you mean writer?" in problem.message


def test_a_run_needs_its_workflow(planned: Plan) -> None:
    problem = only(planned(AGENT + WORKFLOW + document("WorkflowRun", "run", "{workflowRef: {name: flaw}}")))
    assert problem.reason == "MissingWorkflow"
    assert "did you mean flow?" in problem.message


def test_a_runs_input_is_what_its_workflow_declares(planned: Plan) -> None:
    text = AGENT + WORKFLOW + document("WorkflowRun", "run", "{workflowRef: flow, input: {topik: x}}")
    found = [(problem.reason, problem.path, problem.resource) for problem in planned(text).problems]
    assert found == [
        ("UnknownInput", "spec.input.topik", "WorkflowRun default/run"),
        ("MissingField", "spec.input.topic", "WorkflowRun default/run"),
    ]


def test_a_notifications_secret_may_still_be_missing(planned: Plan) -> None:
    handling = (
        "errorHandling: {onWorkflowFailure: notify, notificationChannel: {type: slack, webhook: "
        "{secretRef: {name: slack, key: url}}}}, steps"
    )
    problem = only(planned(AGENT + WORKFLOW.replace("steps", handling)))
    assert (problem.reason, problem.severity) == ("MissingSecret", "warning")


def test_a_model_config_nobody_uses_is_checked(planned: Plan) -> None:
    text = document("ModelConfig", "gpt", "{provider: openai, model: m, apiKeySecretRef: {name: s, key: k}}")
    problem = only(planned(text))
    assert (problem.reason, problem.path) == ("MissingSecret", "spec.apiKeySecretRef")
    override = Override(model=ModelPlan(provider="scripted", model="m"))
    assert planned(text, None, override).problems == []


@pytest.mark.parametrize(
    ("kind", "spec", "path"),
    [
        ("Tool", "{type: mcp, mcp: {command: [x], env: [E]}}", "spec.mcp.env[0].valueFrom.secretKeyRef"),
        (
            "MemoryStore",
            "{type: redis, redis: {host: h, auth: {secretRef: {name: s, passwordKey: k}}}}",
            "spec.redis.auth.secretRef",
        ),
        (
            "MemoryStore",
            "{type: sqlite, policy: {longTermMemory: {vectorStore: {type: milvus, secretRef: {name: s, key: k}}}}}",
            "spec.policy.longTermMemory.vectorStore.secretRef",
        ),
        (
            "Tool",
            (
                "{type: retrieval, retrieval: {vectorStore: {type: milvus, host: h, collection: c}, embedding: "
                "{provider: openai, model: m, apiKeySecretRef: {name: s, key: k}}}}"
            ),
            "spec.retrieval.embedding.apiKeySecretRef",
        ),
    ],
)
def test_every_secret_is_looked_for(planned: Plan, kind: str, spec: str, path: str) -> None:
    variable = "{name: E, valueFrom: {secretKeyRef: {name: s, key: k}}}"
    problem = only(planned(document(kind, "x", spec.replace("[E]", f"[{variable}]"))))
    assert (problem.reason, problem.path) == ("MissingSecret", path)


def test_a_server_nobody_uses_is_checked(planned: Plan) -> None:
    spec = "{type: python-runtime, config: {mcp: a, env: [{name: E, valueFrom: {secretKeyRef: {name: s, key: k}}}]}}"
    text = document("MCPServer", "x", spec).replace("kagent.dev", "kaos.tools")
    assert only(planned(text)).path == "spec.config.env[0].valueFrom.secretKeyRef"
