"""A plan that no ConfigMap can hold is told before the API server refuses it."""

from __future__ import annotations

from typing import cast

from kadre.api import manifest
from kadre.kube.client import Client
from kadre.operator.children.plan_map import LIMIT, encoded, fitting
from kadre.operator.cluster import Cluster
from kadre.plan.build import Planned
from kadre.plan.types import AgentKey, AgentPlan, ModelPlan


def planned(prompt: str) -> Planned:
    return Planned(AgentPlan(AgentKey("d", "a"), ModelPlan(provider="scripted", model="m"), system_prompt=prompt), ())


def test_a_plan_is_left_as_it_is_up_to_the_limit_and_is_a_problem_beyond() -> None:
    least = planned("x").plan
    assert least is not None
    room = LIMIT - len(encoded(least)) + 1
    assert fitting(planned("x" * room)) == planned("x" * room)
    made = fitting(planned("x" * (room + 1)))
    (problem,) = made.problems
    assert made.plan is None
    assert (problem.reason, problem.severity, problem.resource) == ("PlanTooLarge", "error", "Agent d/a")
    assert f"takes {LIMIT + 1} bytes" in problem.message
    assert "spec.systemMessage" in problem.fix


async def test_the_controller_and_the_webhook_plan_nothing_that_does_not_fit() -> None:
    def agent(prompt: str) -> object:
        spec = {"model": {"provider": "scripted", "name": "m"}, "systemMessage": prompt}
        metadata = {"name": "a", "namespace": "d"}
        return {"apiVersion": "kagent.dev/v1alpha1", "kind": "Agent", "metadata": metadata, "spec": spec}

    cluster = Cluster(cast("Client", None), lambda *_: None)  # nothing is fetched for an agent that refers to nothing
    for prompt, reasons in (("short", []), ("x" * LIMIT, ["PlanTooLarge"])):
        resource, problems = manifest.parse(agent(prompt))
        assert resource is not None
        assert problems == []
        found, _ = await cluster.plan(resource, lambda _: None)
        assert [problem.reason for problem in found.problems] == reasons
        assert (found.plan is None) is bool(reasons)
