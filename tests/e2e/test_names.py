"""Agents of one name, and a Service that has an agent's: asked is who was meant, and nothing of anybody's is taken."""

from __future__ import annotations

import aiohttp
import pytest

from tests.e2e.calling import asked
from tests.e2e.conftest import Terminal
from tests.e2e.test_kaos import KEYS, MODEL, PROXY

pytestmark = [pytest.mark.timeout(300), pytest.mark.requirement("names-on-a-cluster")]
NATIVE = """
apiVersion: kagent.dev/v1alpha1
kind: Agent
metadata: {name: assistant}
spec: {model: {provider: scripted, name: script}}
"""
OF_KAOS = """
apiVersion: kaos.tools/v1alpha1
kind: Agent
metadata: {name: assistant}
spec: {modelAPI: models, config: {env: [{name: MODEL_NAME, value: tooly}]}}
"""
FOREIGN = """
apiVersion: v1
kind: Service
metadata: {name: assistant}
spec: {selector: {app: outside}, ports: [{port: 8080}]}
"""
TAKEN = "--for=jsonpath={.status.conditions[?(@.type=='Stalled')].reason}=NameTaken"


async def said(http: aiohttp.ClientSession, agent: str) -> str:
    """What the agent answers to a greeting, at both kinds of address."""
    status, reply = await asked(http, f"/agents/{agent}/chat", json={"message": "Hello!"})
    assert status == 200, reply
    messages = {"model": agent, "messages": [{"role": "user", "content": "Hello!"}]}
    _, completion = await asked(http, "/v1/chat/completions", json=messages)
    assert completion["choices"][0]["message"]["content"] == reply["response"]
    return str(reply["response"])


def native_ready(terminal: Terminal) -> None:
    terminal.kubectl("wait", "--for=condition=Ready", "agents.kagent.dev/assistant", "--timeout=90s")


async def test_agents_of_one_name_in_both_groups_and_two_namespaces_are_told_apart(
    installed: Terminal, terminal: Terminal, neighbour: Terminal, litellm: None
) -> None:
    terminal.kubectl("apply", "-f", "-", stdin=MODEL + "---" + KEYS + "---" + PROXY + "---" + OF_KAOS)
    neighbour.kubectl("apply", "-f", "-", stdin=NATIVE)
    native_ready(neighbour)
    terminal.kubectl("wait", "--for=jsonpath={.status.ready}=true", "agents.kaos.tools/assistant", "--timeout=115s")
    theirs, ours = f"{terminal.namespace}/assistant", f"{neighbour.namespace}/assistant"
    with installed.forwarded("svc/kagent", 80) as url:
        async with aiohttp.ClientSession(url) as http:
            status, told = await asked(http, "/agents/assistant/chat", json={"message": "Hello!"})
            assert (status, told["error"]["reason"]) == (409, "AmbiguousAgent")
            assert set(told["error"]["candidates"]) == {theirs, ours}
            assert "tooly says" in await said(http, theirs)
            assert "tooly" not in await said(http, ours)
            # A second one in a namespace is told that the name is taken, and the first goes on to answer to it.
            terminal.kubectl("apply", "-f", "-", stdin=NATIVE)
            terminal.kubectl("wait", TAKEN, "agents.kagent.dev/assistant", "--timeout=30s")
            assert "tooly says" in await said(http, theirs)
            # Of a bare name, the one in the installation's own namespace is meant.
            installed.kubectl("apply", "-f", "-", stdin=NATIVE)
            try:
                native_ready(installed)
                assert "tooly" not in await said(http, "assistant")
            finally:
                installed.kubectl("delete", "agents.kagent.dev/assistant")
            # Once the first has gone the second is what it says.
            terminal.kubectl("delete", "agents.kaos.tools/assistant")
            native_ready(terminal)
            assert "tooly" not in await said(http, theirs)


async def test_a_service_of_somebodys_that_has_the_agents_name_stays_theirs(
    installed: Terminal, terminal: Terminal
) -> None:
    terminal.kubectl("apply", "-f", "-", stdin=MODEL + "---" + FOREIGN)
    before = terminal.get("service", "assistant")
    terminal.kubectl("apply", "-f", "-", stdin=NATIVE)
    terminal.kubectl("wait", TAKEN, "agent/assistant", "--timeout=30s")
    assert terminal.get("service", "assistant") == before
    told = {each["type"]: each for each in terminal.get("agent", "assistant")["status"]["conditions"]}["Stalled"]
    assert "delete that Service" in told["message"]
    agent = f"{terminal.namespace}/assistant"
    with installed.forwarded("svc/kagent", 80) as url:
        async with aiohttp.ClientSession(url) as http:
            # What is behind it is asked nothing.
            status, refused = await asked(http, f"/agents/{agent}/chat", json={"message": "Hello!"})
            assert (status, refused["error"]["reason"]) == (503, "AgentNotReady")
            terminal.kubectl("delete", "service", "assistant")
            native_ready(terminal)
            assert "Hello!" in await said(http, agent)
