"""Where an agent's conversations are kept."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from kadre.base.problems import errors
from kadre.plan.build import AllPlanned
from kadre.plan.types import AgentPlan, MemoryPlan, PostgresPlan, SecretRef

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


def secret(name: str, key: str, line: str) -> SecretRef:
    return SecretRef(namespace="default", name=name, key=key, env=line)


@pytest.mark.requirement("memory-postgres")
@pytest.mark.parametrize("section", ["postgres", "postgresql"])
def test_a_memory_stores_server_and_login_are_kept(planned: Plan, section: str) -> None:
    login = "auth: {username: u, secretRef: {name: s}}, tls: {enabled: true, secretRef: {name: t}}"
    text = store(f"{{type: {section}, {section}: {{host: p, {login}}}, policy: {{sessionTTL: 60}}}}")
    plan = helper(planned(text + agent("{storeRef: store}"), {"S_PASSWORD": "x", "T_CA_CRT": "pem"}))
    assert plan.memory == MemoryPlan(
        type="postgres",
        session_ttl=60,
        postgres=PostgresPlan(
            host="p",
            user="u",
            password=secret("s", "password", "S_PASSWORD"),
            tls=True,
            ca=secret("t", "ca.crt", "T_CA_CRT"),
        ),
    )
    assert plan.notices == ()


def test_a_login_may_be_in_the_secret_whole(planned: Plan) -> None:
    text = store("{type: postgres, postgres: {host: p, auth: {secretRef: {name: s, usernameKey: user}}}}")
    postgres = helper(planned(text + agent("{storeRef: store}"), {"S_PASSWORD": "x", "S_USER": "u"})).memory.postgres
    assert postgres is not None
    assert postgres.user_secret == secret("s", "user", "S_USER")


@pytest.mark.parametrize("kind", ["postgres", "postgresql"])
def test_a_postgres_server_may_be_written_in_place(planned: Plan, kind: str) -> None:
    config = "{host: p, port: 5433, database: chats, username: u, ttl: 60, maxHistory: 5}"
    text = agent(f"{{type: {kind}, config: {config}, secretRef: {{name: s, key: k}}}}")
    assert helper(planned(text, {"S_K": "x"})).memory == MemoryPlan(
        type="postgres",
        session_ttl=60,
        max_history=5,
        postgres=PostgresPlan(host="p", port=5433, database="chats", user="u", password=secret("s", "k", "S_K")),
    )


def test_a_postgres_servers_whole_address_may_be_in_a_secret(planned: Plan) -> None:
    text = agent("{type: postgres, secretRef: {name: s, key: url}}")
    assert helper(planned(text, {"S_URL": "x"})).memory.postgres == PostgresPlan(url=secret("s", "url", "S_URL"))
    (problem,) = planned(text).problems
    assert (problem.reason, problem.severity, problem.path) == ("MissingSecret", "error", "spec.memory.secretRef")


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
