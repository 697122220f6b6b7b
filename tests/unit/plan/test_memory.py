"""Where an agent's conversations are kept."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from msgspec.structs import replace

from kadre.base.problems import errors
from kadre.plan.build import AllPlanned
from kadre.plan.types import (
    AgentPlan,
    CompressionPlan,
    EmbeddingPlan,
    LongTermPlan,
    MemoryPlan,
    ModelPlan,
    PostgresPlan,
    RedisPlan,
    SecretRef,
    VectorsPlan,
)

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


@pytest.mark.requirement("memory-redis")
def test_a_redis_server_may_be_written_in_place(planned: Plan) -> None:
    config = "{host: r, port: 6380, database: 2, username: u, ttl: 60, maxHistory: 5, tls: {enabled: true}}"
    text = agent(f"{{type: redis, config: {config}, secretRef: {{name: s, key: k}}}}")
    plan = helper(planned(text, {"S_K": "x"}))
    assert plan.memory == MemoryPlan(
        type="redis",
        session_ttl=60,
        max_history=5,
        redis=RedisPlan(host="r", port=6380, database=2, user="u", password=secret("s", "k", "S_K"), tls=True),
    )
    assert plan.notices == ()
    assert helper(planned(agent("{type: redis, config: {host: r}}"))).memory.redis == RedisPlan(host="r")


@pytest.mark.requirement("memory-failure-mode")
@pytest.mark.parametrize("section", ["redis", "postgres"])
def test_what_becomes_of_a_message_while_the_server_is_away_is_the_stores_to_say(planned: Plan, section: str) -> None:
    for written, mode in (("", "Fail"), (", failureMode: Fail", "Fail"), (", failureMode: Continue", "Continue")):
        text = store(f"{{type: {section}, {section}: {{host: h}}{written}}}")
        assert helper(planned(text + agent("{storeRef: store}"))).memory.failure_mode == mode


@pytest.mark.requirement("memory-redis")
def test_a_memory_stores_redis_and_login_are_kept(planned: Plan) -> None:
    login = "auth: {secretRef: {name: s, passwordKey: pw}}, tls: {enabled: true, secretRef: {name: t}}"
    text = store(f"{{type: redis, redis: {{host: r, database: 1, {login}}}, policy: {{sessionTTL: 3600}}}}")
    wanted = MemoryPlan(
        type="redis",
        session_ttl=3600,
        redis=RedisPlan(
            host="r",
            database=1,
            password=secret("s", "pw", "S_PW"),
            tls=True,
            ca=secret("t", "ca.crt", "T_CA_CRT"),
        ),
    )
    values = {"S_PW": "x", "T_CA_CRT": "pem"}
    for named in (agent("{storeRef: store}"), kaos("{type: redis, memoryStore: store}")):
        assert helper(planned(text + named, values)).memory == wanted


@pytest.mark.parametrize("kind", ["redis", "postgres"])
def test_a_servers_secret_that_is_missing_is_an_error(planned: Plan, kind: str) -> None:
    (problem,) = planned(agent(f"{{type: {kind}, config: {{host: r}}, secretRef: {{name: s, key: k}}}}")).problems
    assert (problem.reason, problem.severity, problem.path) == ("MissingSecret", "error", "spec.memory.secretRef")


def test_a_redis_servers_whole_address_may_be_in_a_secret(planned: Plan) -> None:
    text = agent("{type: redis, secretRef: {name: s, key: url}}")
    assert helper(planned(text, {"S_URL": "x"})).memory.redis == RedisPlan(url=secret("s", "url", "S_URL"))


def test_a_missing_store_is_a_problem(planned: Plan) -> None:
    (problem,) = planned(store("{type: sqlite}") + agent("{storeRef: stor}")).problems
    assert (problem.reason, problem.path) == ("MissingMemoryStore", "spec.memory.storeRef")
    assert "did you mean store?" in problem.message
    (problem,) = planned(store("{type: sqlite}") + kaos("{memoryStore: stor}")).problems
    assert problem.path == "spec.config.memory.memoryStore"


def test_policies_that_are_not_built_yet_say_so(planned: Plan) -> None:
    text = store("{type: sqlite, policy: {longTermMemory: {enabled: true, vectorStore: {type: qdrant}}}}")
    assert "long-term memory in qdrant" in told(helper(planned(text + agent("{storeRef: store}"))))


def remembers(planned: Plan, written: str) -> LongTermPlan | None:
    return helper(planned(agent(f"{{type: sqlite, config: {{longTermMemory: {written}}}}}"))).memory.long_term


@pytest.mark.requirement("memory-long-term")
def test_memories_are_kept_where_it_is_written_and_else_in_a_file(planned: Plan) -> None:
    local = EmbeddingPlan(model=ModelPlan(provider="local", model="all-minilm-l6-v2"), dimension=384)
    there = remembers(planned, "{enabled: true}")
    assert there == LongTermPlan(vectors=VectorsPlan(type="sqlite", collection="memories"), embedding=local)
    milvus = "vectorStore: {type: milvus, host: milvus, collection: m}"
    embedding = "embedding: {provider: vllm, model: e, endpoint: 'http://e:1/v1'}"
    there = remembers(planned, f"{{enabled: true, {milvus}, {embedding}}}")
    assert there is not None
    assert (there.vectors.type, there.vectors.host, there.embedding.model.model) == ("milvus", "milvus", "e")
    assert remembers(planned, "{enabled: false}") is None
    pinecone = "vectorStore: {type: pinecone, collection: m, database: waiters, secretRef: {name: s, key: k}}"
    written = agent(f"{{type: sqlite, config: {{longTermMemory: {{enabled: true, {pinecone}, {embedding}}}}}}}")
    there = helper(planned(written, {"S_K": "x"})).memory.long_term
    assert there is not None
    key = secret("s", "k", "S_K")
    assert there.vectors == VectorsPlan(type="pinecone", collection="m", database="waiters", secret=key)


@pytest.mark.requirement("memory-long-term")
def test_a_store_that_is_nowhere_is_a_warning_and_nothing_is_remembered(planned: Plan) -> None:
    written = "{enabled: true, vectorStore: {type: milvus, collection: agent-memories}}"
    result = planned(agent(f"{{type: sqlite, config: {{longTermMemory: {written}}}}}"))
    (problem,) = result.problems
    assert (problem.reason, problem.severity) == ("MissingField", "warning")
    assert problem.path == "spec.memory.config.longTermMemory.vectorStore"
    assert helper(result).memory.long_term is None


SEARCHED = """
---
apiVersion: kagent.dev/v1alpha1
kind: Tool
metadata: {{name: {0}}}
spec:
  type: retrieval
  retrieval:
    vectorStore: {{type: milvus, host: {0}, port: 19531, collection: knowledge, secretRef: {{name: s, key: k}}}}
    embedding: {{provider: vllm, model: e, endpoint: "http://e:1/v1"}}
"""


@pytest.mark.requirement("memory-long-term")
@pytest.mark.parametrize(
    ("collection", "tools", "said"),
    [
        ("agent-memories", ["one"], ""),
        ("", ["one"], "nothing says which collection is meant"),
        ("agent-memories", ["one", "two"], "the agent's tools search 2 milvus servers"),
        ("knowledge", ["one"], "a tool of the agent searches the collection knowledge, for whoever asks"),
    ],
)
def test_memories_without_a_server_of_their_own_are_kept_where_the_agent_searches(
    planned: Plan, collection: str, tools: list[str], said: str
) -> None:
    store = f"{{type: milvus, collection: '{collection}'}}"
    memory = f"{{type: sqlite, config: {{longTermMemory: {{enabled: true, vectorStore: {store}}}}}}}"
    text = f"{agent(memory).rstrip().removesuffix('}')}, tools: [{', '.join(tools)}]}}"
    result = planned(text + "".join(SEARCHED.format(tool) for tool in tools), {"S_K": "x"})
    there = helper(result).memory.long_term
    if said:
        (problem,) = result.problems
        assert (problem.severity, there) == ("warning", None)
        assert said in problem.message
    else:
        assert there is not None
        assert there.vectors == VectorsPlan(
            type="milvus", host="one", port=19531, collection=collection, secret=secret("s", "k", "S_K")
        )


@pytest.mark.requirement("memory-compression")
def test_the_model_that_sums_up_is_a_modelconfig_or_of_the_agents_provider(planned: Plan) -> None:
    text = store("{type: sqlite, policy: {compression: {enabled: true, threshold: 20, model: small}}}")
    made = helper(planned(text + agent("{storeRef: store}")))
    assert made.memory.compression == CompressionPlan(threshold=20, model=replace(made.model, model="small"))
    config = """
---
apiVersion: kagent.dev/v1alpha1
kind: ModelConfig
metadata: {name: small}
spec: {provider: vllm, model: tiny, endpoint: "http://tiny:8000/v1"}
"""
    compression = helper(planned(text + config + agent("{storeRef: store}"))).memory.compression
    assert compression is not None
    assert compression.model is not None
    assert (compression.model.provider, compression.model.model) == ("vllm", "tiny")
    written = agent("{type: sqlite, config: {compression: {enabled: true}}}")
    assert helper(planned(written)).memory.compression == CompressionPlan()
    assert helper(planned(agent("{type: sqlite, config: {compression: {threshold: 9}}}"))).memory.compression is None


def test_a_threshold_that_no_conversation_reaches_is_a_warning(planned: Plan) -> None:
    config = "{type: sqlite, config: {maxHistory: 10, compression: {enabled: true, threshold: 21}}}"
    result = planned(agent(config))
    assert helper(result).memory.compression == CompressionPlan(threshold=10)
    (problem,) = result.problems
    assert (problem.reason, problem.path) == ("UnreachableThreshold", "spec.memory.config.compression.threshold")


def test_a_kaos_agent_may_remember_nothing(planned: Plan) -> None:
    assert helper(planned(kaos("{enabled: false}"))).memory == MemoryPlan(type="in-memory", max_history=0)


def test_kaos_fields_that_are_not_built_yet_say_so(planned: Plan) -> None:
    message = told(helper(planned(kaos("{type: redis, contextLimit: 3, maxSessions: 4, maxSessionEvents: 5}"))))
    for part in ("type redis", "contextLimit", "maxSessions", "maxSessionEvents"):
        assert part in message
