"""The documents' own manifests run under `kadre up` and answer at the documents' own addresses.

The model is the scripted one, put in by `--model`; everything else is as written.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.architecture import code
from tests.docs.test_seeds import FENCE, FLATTENED, document
from tests.support.faulty import FaultyModel, faulty_model
from tests.support.redis import RedisServer
from tests.support.tickets import TOKEN, tickets
from tests.support.upping import Upped, up

pytestmark = pytest.mark.timeout(150)

# What the documents make with `kubectl create secret`, and what they name beside.
SECRETS = """
apiVersion: v1
kind: Secret
metadata: {name: openai-api-key, namespace: ai-agents}
stringData: {api-key: sk-your-api-key-here}
---
apiVersion: v1
kind: Secret
metadata: {name: redis-credentials, namespace: ai-agents}
stringData: {password: your-redis-password}
---
apiVersion: v1
kind: Secret
metadata: {name: redis-tls-cert, namespace: ai-agents}
stringData: {ca.crt: whom to trust}
"""
HELLO = {"model": "assistant", "messages": [{"role": "user", "content": "Hello!"}]}


@pytest.fixture
async def model() -> AsyncIterator[FaultyModel]:
    """A model's API that keeps what it was asked."""
    async with faulty_model() as served:
        yield served


@pytest.fixture
def redis() -> Iterator[str]:
    """The Redis server that the documents name, with their password; how `kadre up` is told where it is."""
    with RedisServer("--requirepass", "your-redis-password", address="127.0.0.1") as server:
        yield f"--map=redis-master.ai-data.svc.cluster.local:6379=127.0.0.1:{server.port}"


def manifests(seeds: Path, number: str, *wanted: str) -> str:
    """The YAML blocks of a document in which one of these patterns is found, as one file."""
    blocks = [text for language, text in FENCE.findall(document(seeds, number)) if language == "yaml"]
    return "\n---\n".join(text for text in blocks if any(re.search(pattern, text, re.MULTILINE) for pattern in wanted))


async def asked(running: Upped, path: str, body: dict[str, Any]) -> str:
    """What is answered at an address, whichever door it is."""
    status, reply = await running.post(path, body)
    assert status == 200, reply
    return str(reply["response"] if "response" in reply else reply["choices"][0]["message"]["content"])


@pytest.mark.requirement("kaos-quickstart", "kaos-instructions", "gitops-declarative")
async def test_the_kaos_quickstart_answers_as_a_model_and_calls_its_tool(seeds: Path, tmp_path: Path) -> None:
    (tmp_path / "simple-agent.yaml").write_text(manifests(seeds, "004", "^# simple-agent.yaml"))
    async with up(tmp_path, "--model", "scripted") as running:
        assert "Hello!" in await asked(running, "/v1/chat/completions", HELLO)
        assert "hello" in await asked(running, "/chat", {"message": "Please repeat: hello"})
        newest = (await running.get("/runs"))["runs"][0]
        events = (await running.get(f"/runs/{newest['run_id']}"))["events"]
    assert [event["name"] for event in events if event["type"] == "tool_end"] == ["echo"]


@pytest.mark.requirement("kaos-delegation", "openai-agent-route")
async def test_the_kaos_team_delegates_and_calculates(seeds: Path, tmp_path: Path) -> None:
    (tmp_path / "multi-agent-gateway.yaml").write_text(manifests(seeds, "004", "^# multi-agent-gateway.yaml"))
    question = {"messages": [{"role": "user", "content": "Ask the analyst: calculate 6 * 7"}]}
    async with up(tmp_path, "--model", "scripted") as running:
        assert "42" in await asked(running, "/coordinator/v1/chat/completions", question)
        agents = {run["agent"] for run in (await running.get("/runs"))["runs"]}
    assert agents == {"default/coordinator.kaos.tools", "default/analyst.kaos.tools"}


@pytest.mark.requirement("agent-model-config", "gateway-chat")
async def test_the_agent_and_model_config_of_document_000_answer_at_the_gateways_address(
    seeds: Path, tmp_path: Path
) -> None:
    (tmp_path / "my-agent.yaml").write_text(manifests(seeds, "000", "name: my-agent", "^kind: ModelConfig"))
    async with up(tmp_path, "--model", "scripted") as running:
        question = {"message": "List all pods in default namespace"}
        assert question["message"] in await asked(running, "/agents/my-agent/chat", question)


@pytest.mark.requirement("customer-support-runs", "agent-unsupported-said", "chat-at-agent", "health-at-agent")
@pytest.mark.requirement("metrics-active-sessions", "metrics-latency-buckets", "metrics-names")
async def test_customer_support_answers_and_says_what_it_does_without(seeds: Path, tmp_path: Path, redis: str) -> None:
    text = manifests(seeds, "001", "name: customer-support-agent$", "^kind: Tool", "^kind: MemoryStore")
    (tmp_path / "customer-support.yaml").write_text(f"{text}\n---{SECRETS}")
    async with up(tmp_path, "--model", "scripted", redis) as running:
        question = {"message": "Hello, I have a billing question."}
        assert question["message"] in await asked(running, "/chat", question)
        assert (await running.get("/health"))["status"] == "ok"
        newest = (await running.get("/runs"))["runs"][0]
        events = (await running.get(f"/runs/{newest['run_id']}"))["events"]
        async with running.http.get("/metrics") as answer:
            metrics = await answer.text()
    said = " ".join(event["message"] for event in events if event["type"] == "system")
    assert "tracing" in said
    assert "sk-your-api-key-here" not in running.said
    labels = 'agent="customer-support",agent_name="customer-support-agent"'
    assert f"agent_active_sessions{{{labels}}} 0.0" in metrics
    assert f'agent_request_duration_seconds_bucket{{{labels},le="30.0"}} 1.0' in metrics


@pytest.mark.requirement("tool-api", "tool-api-path", "tool-api-auth", "tool-parameters", "tool-output-schema")
async def test_customer_support_files_a_ticket_and_looks_a_customer_up(seeds: Path, tmp_path: Path, redis: str) -> None:
    text = manifests(seeds, "001", "name: customer-support-agent$", "^kind: Tool")
    (tmp_path / "customer-support.yaml").write_text(f"{text}\n---{SECRETS}")
    (tmp_path / ".env").write_text(f"TICKETING_API_TOKEN_TOKEN={TOKEN}\nCRM_API_TOKEN_TOKEN={TOKEN}\n")
    ticket = {"title": "Charged twice", "description": "…", "category": "billing", "customer_id": "ABCD1234"}
    async with tickets() as services:
        hosts = ("ticketing-service.support.svc:8080", "customer-service.crm.svc:8080")
        maps = ",".join(f"{host}=127.0.0.1:{services.port}" for host in hosts)
        async with up(tmp_path, "--model", "scripted", "--map", maps, redis) as running:
            assert "T-1" in await asked(running, "/chat", {"message": f"call create-ticket {json.dumps(ticket)}"})
            wanted = {"message": 'call get-customer-info {"customer_id": "ABCD1234"}'}
            assert "ada@example.com" in await asked(running, "/chat", wanted)
    assert services.filed == [ticket | {"priority": "medium"}]
    assert services.asked == ["ABCD1234"]


@pytest.mark.needs("redis")
@pytest.mark.requirement("flattened-agent")
async def test_the_agent_of_document_003_answers_once_it_is_indented(seeds: Path, tmp_path: Path) -> None:
    tools = manifests(seeds, "001", "^kind: Tool")
    (tmp_path / "agent.yaml").write_text(f"{FLATTENED}\n---\n{tools}\n---{SECRETS}")
    with RedisServer(address="127.0.0.1") as server:
        there = f"--map=redis-master.ai-data.svc.cluster.local:6379=127.0.0.1:{server.port}"
        async with up(tmp_path, "--model", "scripted", there) as running:
            assert "Hello" in await asked(running, "/agents/customer-support-agent/chat", {"message": "Hello"})


@pytest.mark.requirement("agent-inline-model", "agent-system-prompt", "model-key-from-secret", "model-sampling-fields")
async def test_what_customer_support_says_of_its_model_reaches_it(
    seeds: Path, tmp_path: Path, model: FaultyModel, redis: str
) -> None:
    text = manifests(seeds, "001", "name: customer-support-agent$", "^kind: Tool")
    (tmp_path / "customer-support.yaml").write_text(f"{text}\n---{SECRETS}")
    async with up(tmp_path, redis, OPENAI_BASE_URL=model.url) as running:
        assert await asked(running, "/chat", {"message": "Hello"}) == "all well"
    [request] = model.requests
    assert model.keys == ["Bearer sk-your-api-key-here"]
    assert (request["model"], request["temperature"], request["top_p"]) == ("gpt-4-turbo", 0.7, 0.9)
    assert (request["frequency_penalty"], request["presence_penalty"]) == (0.0, 0.0)
    assert "You are a helpful and professional customer support agent." in request["messages"][0]["content"]


@pytest.mark.requirement("keys-from-environment", "model-config-sampling", "agent-model-config")
async def test_a_key_is_taken_from_the_environment_or_from_the_file_beside_the_manifests(
    seeds: Path, tmp_path: Path, model: FaultyModel
) -> None:
    (tmp_path / "my-agent.yaml").write_text(manifests(seeds, "000", "name: my-agent", "^kind: ModelConfig"))
    async with up(tmp_path, OPENAI_BASE_URL=model.url, OPENAI_API_KEY="sk-of-the-environment") as running:
        await asked(running, "/chat", {"message": "Hello"})
    (tmp_path / ".env").write_text("OPENAI_API_KEY='sk-of-the-file'\n")
    async with up(tmp_path, OPENAI_BASE_URL=model.url, OPENAI_API_KEY="sk-of-the-environment") as running:
        await asked(running, "/chat", {"message": "Hello"})
    assert model.keys == ["Bearer sk-of-the-environment", "Bearer sk-of-the-file"]
    assert (model.requests[0]["model"], model.requests[0]["temperature"]) == ("gpt-4", 0.7)


@pytest.mark.requirement("kaos-model-name")
async def test_model_name_chooses_the_model_without_its_prefix(seeds: Path, tmp_path: Path, model: FaultyModel) -> None:
    (tmp_path / "simple-agent.yaml").write_text(manifests(seeds, "004", "^# simple-agent.yaml"))
    model.offers = ["smollm2:135m"]
    async with up(tmp_path, OLLAMA_BASE_URL=model.url) as running:
        assert await asked(running, "/v1/chat/completions", HELLO) == "all well"
    assert {request["model"] for request in model.requests} == {"smollm2:135m"}


@pytest.mark.requirement("agent-templates")
async def test_an_agent_takes_from_its_template_what_it_does_not_say_itself(tmp_path: Path, model: FaultyModel) -> None:
    example = code.ROOT / "examples" / "deepseek-r1-coder"
    async with up(example, "--data-dir", tmp_path, OLLAMA_BASE_URL=model.url) as running:
        for agent in ("deepseek-r1-coder", "deepseek-r1-reviewer"):
            await asked(running, f"/agents/{agent}/chat", {"message": "Hello"})
    coder, reviewer = model.requests
    assert (coder["model"], reviewer["model"]) == ("deepseek-r1:14b", "deepseek-r1:14b")
    assert coder["messages"][0]["content"].startswith("You are an experienced programmer.")
    assert reviewer["messages"][0]["content"].startswith("You review code.")


@pytest.mark.requirement("crds-of-the-guide")
def test_the_crds_the_guide_lists_are_printed(seeds: Path) -> None:
    listed = set(re.findall(r"^(\w+\.kagent\.dev) +\d{4}-", document(seeds, "001"), re.MULTILINE))
    assert len(listed) == 4
    words = [sys.executable, "-m", "kadre", "crds"]
    printed = subprocess.run(words, capture_output=True, text=True, check=True, timeout=45).stdout
    names = {made["metadata"]["name"] for made in yaml.safe_load_all(printed) if made}
    assert listed <= names
