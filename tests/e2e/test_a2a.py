"""A2A on a real cluster: the SDK's client through the gateway, and an agent that asks another one by it."""

from __future__ import annotations

import httpx
import pytest
from a2a import types
from a2a.client import A2AClientError, Client, ClientConfig, ClientFactory
from a2a.helpers import new_text_message

from tests.e2e.calling import CALLERS, bearing, gateways
from tests.e2e.conftest import INSTALLED, Terminal, post

pytestmark = [pytest.mark.timeout(300), pytest.mark.requirement("a2a-on-a-cluster")]
AGENTS = """
apiVersion: kagent.dev/v1alpha1
kind: Agent
metadata: {{name: far}}
spec:
  description: Says back what it hears.
  model: {{provider: scripted, name: script}}
---
apiVersion: kagent.dev/v1alpha1
kind: Tool
metadata: {{name: remote}}
spec:
  type: a2a
  a2a:
    endpoint: http://kagent.{installed}/agents/{namespace}/far
    secretHeaders: {{Authorization: {{name: caller-token, key: header}}}}
---
apiVersion: kagent.dev/v1alpha1
kind: Agent
metadata: {{name: near}}
spec:
  model: {{provider: scripted, name: script}}
  tools: [remote]
"""


@pytest.fixture
def asking(terminal: Terminal) -> Terminal:
    """Two agents, of which one asks the other as a remote one."""
    agents = AGENTS.format(installed=INSTALLED, namespace=terminal.namespace)
    terminal.kubectl("apply", "-f", "-", stdin=agents + "---" + CALLERS)
    header = bearing(terminal, "caller")["Authorization"]
    terminal.kubectl("create", "secret", "generic", "caller-token", f"--from-literal=header={header}")
    for agent in ("far", "near"):
        terminal.kubectl("wait", "--for=condition=Ready", f"agent/{agent}", "--timeout=90s")
    return terminal


async def said(client: Client, text: str) -> str:
    """What the agent answers, as it is streamed."""
    sent = new_text_message(text, role=types.Role.ROLE_USER)
    found = ""
    async for told in client.send_message(types.SendMessageRequest(message=sent)):
        found += "".join(part.text for part in told.artifact_update.artifact.parts)
    return found


async def test_the_sdk_s_client_asks_an_agent_as_whoever_has_a_token(asking: Terminal) -> None:
    (gateway, *_) = gateways(asking).values()
    url = f"{gateway}/agents/{asking.namespace}/far"
    for account in ("caller", "stranger"):
        async with httpx.AsyncClient(headers=bearing(asking, account)) as http:
            client = await ClientFactory(ClientConfig(httpx_client=http)).create_from_url(url)
            if account == "caller":
                assert await said(client, "repeat: hello there") == "hello there"
                listed = await client.list_tasks(types.ListTasksRequest())
                assert [task.status.state for task in listed.tasks] == [types.TaskState.TASK_STATE_COMPLETED]
            else:
                with pytest.raises(A2AClientError, match="403"):
                    await said(client, "repeat: hello")


def test_an_agent_asks_a_remote_one_with_a_token_of_a_secret(asking: Terminal) -> None:
    with asking.forwarded("svc/near", 8080) as url:
        told = post(f"{url}/chat", {"message": 'call remote {"message": "repeat: from afar"}'})
        assert "from afar" in told["response"]
