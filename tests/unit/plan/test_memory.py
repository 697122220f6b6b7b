"""Where an agent's conversations are kept."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from kadre.base.problems import errors
from kadre.plan.build import AllPlanned
from kadre.plan.types import AgentPlan, MemoryPlan, SecretRef

Plan = Callable[..., AllPlanned]


def agent(memory: str) -> str:
    return f"""
---
apiVersion: kagent.dev/v1alpha1
kind: Agent
metadata: {{name: helper}}
spec: {{model: {{provider: ollama, name: m}}, memory: {memory}}}
"""


def kaos(memory: str) -> str:
    return f"""
---
apiVersion: kaos.tools/v1alpha1
kind: ModelAPI
metadata: {{name: api}}
spec: {{mode: Hosted, hostedConfig: {{model: m}}}}
---
apiVersion: kaos.tools/v1alpha1
kind: Agent
metadata: {{name: helper}}
spec: {{modelAPI: api, config: {{memory: {memory}}}}}
"""


def store(spec: str) -> str:
    return f"""
---
apiVersion: kagent.dev/v1alpha1
kind: MemoryStore
metadata: {{name: store}}
spec: {spec}
"""


def helper(result: AllPlanned) -> AgentPlan:
    assert not errors(result.problems), result.problems
    (plan,) = result.plans.values()
    return plan


def told(plan: AgentPlan) -> str:
    assert {notice.reason for notice in plan.notices} <= {"NotSupportedYet"}
    return "\n".join(notice.message for notice in plan.notices)


@pytest.mark.parametrize("kind", ["in-memory", "sqlite"])
def test_a_store_written_in_place_keeps_its_policy(planned: Plan, kind: str) -> None:
    plan = helper(planned(agent(f"{{type: {kind}, config: {{ttl: 1h, maxHistory: 0}}}}")))
    assert (plan.memory.type, plan.memory.session_ttl, plan.memory.max_history) == (kind, 3600, 0)
    assert plan.notices == ()


def test_a_memory_store_is_followed(planned: Plan) -> None:
    text = store("{type: sqlite, policy: {sessionTTL: 60, maxConversationHistory: 9}}")
    assert helper(planned(text + agent("{storeRef: store}"))).memory == MemoryPlan(
        type="sqlite", session_ttl=60, max_history=9
    )
    assert helper(planned(text + kaos("{memoryStore: store}"))).memory.max_history == 9


def test_a_store_that_is_not_built_yet_falls_back_and_keeps_its_settings(planned: Plan) -> None:
    text = agent("{type: redis, config: {host: r, port: 1, ttl: 60, maxHistory: 5}, secretRef: {name: s, key: k}}")
    result = planned(text)
    plan = helper(result)
    assert plan.memory == MemoryPlan(
        session_ttl=60,
        max_history=5,
        settings={"type": "redis", "host": "r", "port": 1},
        secret=SecretRef(namespace="default", name="s", key="k", env="S_K"),
    )
    assert "memory of type redis is not supported yet" in told(plan)
    assert [(problem.reason, problem.severity) for problem in result.problems] == [("MissingSecret", "warning")]


def test_a_memory_stores_server_and_login_are_kept(planned: Plan) -> None:
    text = store("{type: postgres, postgres: {host: p, auth: {username: u, secretRef: {name: s}}}}")
    plan = helper(planned(text + agent("{storeRef: store}"), {"S_PASSWORD": "x"}))
    assert plan.memory.settings["type"] == "postgres"
    assert plan.memory.settings["host"] == "p"
    assert plan.memory.secret == SecretRef(namespace="default", name="s", key="password", env="S_PASSWORD")


def test_a_missing_store_is_a_problem(planned: Plan) -> None:
    (problem,) = planned(store("{type: sqlite}") + agent("{storeRef: stor}")).problems
    assert (problem.reason, problem.path) == ("MissingMemoryStore", "spec.memory.storeRef")
    assert "did you mean store?" in problem.message
    (problem,) = planned(store("{type: sqlite}") + kaos("{memoryStore: stor}")).problems
    assert problem.path == "spec.config.memory.memoryStore"


def test_policies_that_are_not_built_yet_say_so(planned: Plan) -> None:
    text = store("{type: sqlite, policy: {compression: {enabled: true}, longTermMemory: {enabled: true}}}")
    message = told(helper(planned(text + agent("{storeRef: store}"))))
    assert "compression" in message
    assert "long-term memory" in message


def test_a_kaos_agent_may_remember_nothing(planned: Plan) -> None:
    assert helper(planned(kaos("{enabled: false}"))).memory == MemoryPlan(type="in-memory", max_history=0)


def test_kaos_fields_that_are_not_built_yet_say_so(planned: Plan) -> None:
    message = told(helper(planned(kaos("{type: redis, contextLimit: 3, maxSessions: 4, maxSessionEvents: 5}"))))
    for part in ("type redis", "contextLimit", "maxSessions", "maxSessionEvents"):
        assert part in message
