"""The documents' own manifests run under `kadre up` and answer at the documents' own addresses.

The model is the scripted one, put in by `--model`; everything else is as written.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from tests.docs.test_seeds import FENCE, FLATTENED, document
from tests.support.upping import Upped, up

pytestmark = pytest.mark.timeout(150)

# What the documents make with `kubectl create secret`.
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
"""
HELLO = {"model": "assistant", "messages": [{"role": "user", "content": "Hello!"}]}


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
async def test_customer_support_answers_and_says_what_it_does_without(seeds: Path, tmp_path: Path) -> None:
    text = manifests(seeds, "001", "name: customer-support-agent$", "^kind: Tool", "^kind: MemoryStore")
    (tmp_path / "customer-support.yaml").write_text(f"{text}\n---{SECRETS}")
    async with up(tmp_path, "--model", "scripted") as running:
        question = {"message": "Hello, I have a billing question."}
        assert question["message"] in await asked(running, "/chat", question)
        assert (await running.get("/health"))["status"] == "ok"
        newest = (await running.get("/runs"))["runs"][0]
        events = (await running.get(f"/runs/{newest['run_id']}"))["events"]
    said = " ".join(event["message"] for event in events if event["type"] == "system")
    tools = ("search-knowledge-base", "create-ticket", "get-customer-info")
    assert [tool for tool in tools if tool not in said] == []
    assert "sk-your-api-key-here" not in running.said


@pytest.mark.requirement("flattened-agent")
async def test_the_agent_of_document_003_answers_once_it_is_indented(seeds: Path, tmp_path: Path) -> None:
    tools = manifests(seeds, "001", "^kind: Tool")
    (tmp_path / "agent.yaml").write_text(f"{FLATTENED}\n---\n{tools}\n---{SECRETS}")
    async with up(tmp_path, "--model", "scripted") as running:
        assert "Hello" in await asked(running, "/agents/customer-support-agent/chat", {"message": "Hello"})
