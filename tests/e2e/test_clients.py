"""Clients that know nothing of Kadre, with tokens of the cluster and with keys: the libraries are the judges."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager

import aiohttp
import httpx2
import openai
import pytest
from mcp import Client
from mcp.client.streamable_http import streamable_http_client
from openai.types.chat import ChatCompletionMessageParam

from tests.e2e.calling import CALLERS, asked, bearing, gateways
from tests.e2e.conftest import Terminal, install

pytestmark = [pytest.mark.timeout(300), pytest.mark.requirement("clients-on-a-cluster")]
AGENTS = """
apiVersion: kagent.dev/v1alpha1
kind: Agent
metadata: {name: helper}
spec: {model: {provider: scripted, name: script}}
---
apiVersion: v1
kind: ServiceAccount
metadata: {name: colleague}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata: {name: talk-too}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: Role, name: talk}
subjects: [{kind: ServiceAccount, name: colleague}]
"""
KEYS = "create secret generic callers --from-literal=ci=key-of-ci-0123456789"


@pytest.fixture
def keyed(installed: Terminal) -> Iterator[str]:
    """A key that the gateway knows."""
    installed.kubectl(*KEYS.split())
    install(installed, "auth.apiKeys.existingSecret=callers")
    yield "key-of-ci-0123456789"
    install(installed)
    installed.kubectl("delete", "secret", "callers")


def helped(terminal: Terminal) -> Terminal:
    """The terminal's namespace, with an agent to which two may talk."""
    terminal.kubectl("apply", "-f", "-", stdin=CALLERS + "---" + AGENTS)
    terminal.kubectl("wait", "--for=condition=Ready", "agent/helper", "--timeout=60s")
    return terminal


@pytest.fixture
def helper(terminal: Terminal) -> Terminal:
    """See helped."""
    return helped(terminal)


@asynccontextmanager
async def mcp(url: str, token: str) -> AsyncIterator[Client]:
    """A session of the SDK's client."""
    bearer = httpx2.AsyncClient(headers={"Authorization": f"Bearer {token}"})
    async with bearer, Client(streamable_http_client(f"{url}/mcp", http_client=bearer)) as client:
        yield client


def token(terminal: Terminal, account: str) -> str:
    return bearing(terminal, account)["Authorization"].removeprefix("Bearer ")


async def test_clients_of_openai_and_mcp_are_who_their_token_or_key_says(helper: Terminal, keyed: str) -> None:
    (url, *_) = gateways(helper).values()
    agent = f"{helper.namespace}/helper"
    said: list[ChatCompletionMessageParam] = [{"role": "user", "content": "repeat: hello there"}]
    for secret in (token(helper, "caller"), keyed):
        async with openai.AsyncOpenAI(base_url=f"{url}/v1", api_key=secret, max_retries=0) as client:
            models = [model.id async for model in await client.models.list()]
            assert {"helper", agent} & {*models}  # the short name where no other has it
            words = ""
            async for chunk in await client.chat.completions.create(model=agent, messages=said, stream=True):
                words += "".join(choice.delta.content or "" for choice in chunk.choices)
            assert words == "hello there"
        async with mcp(url, secret) as tools:
            names = {tool.name for tool in (await tools.list_tools()).tools}
            assert "read_run" in names
            (name,) = [each for each in names if each.removeprefix(f"{helper.namespace}_") == "helper"]
            answer = await tools.call_tool(name, {"message": "repeat: hello again"})
            assert "hello again" in str(answer.content)
    for wrong in ("no-such-key", keyed + "0"):
        async with openai.AsyncOpenAI(base_url=f"{url}/v1", api_key=wrong, max_retries=0) as client:
            with pytest.raises(openai.AuthenticationError):
                await client.chat.completions.create(model=agent, messages=said)
    async with openai.AsyncOpenAI(base_url=f"{url}/v1", api_key=token(helper, "stranger"), max_retries=0) as client:
        assert [model.id async for model in await client.models.list()] == []
        with pytest.raises(openai.PermissionDeniedError):
            await client.chat.completions.create(model=agent, messages=said)
    async with mcp(url, token(helper, "stranger")) as tools:
        assert [tool.name for tool in (await tools.list_tools()).tools] == ["read_run"]


async def test_of_two_who_may_talk_to_an_agent_each_sees_their_own_runs(helper: Terminal) -> None:
    (url, *_) = gateways(helper).values()
    async with mcp(url, token(helper, "caller")) as tools:
        ours = (await tools.call_tool("helper", {"message": "repeat: a secret"})).structured_content
        assert ours is not None
        assert not (await tools.call_tool("read_run", {"run_id": ours["run_id"]})).is_error
    async with mcp(url, token(helper, "colleague")) as tools:
        assert (await tools.call_tool("read_run", {"run_id": ours["run_id"]})).is_error
        again = await tools.call_tool("helper", {"message": "what was said?", "session_id": ours["session_id"]})
        assert "a secret" not in str(again.content)


@pytest.mark.requirement("multi-tenant")
async def test_a_team_reaches_nothing_of_its_neighbours(helper: Terminal, neighbour: Terminal) -> None:
    helped(neighbour)
    (url, *_) = gateways(helper).values()
    ours, theirs = f"{helper.namespace}/helper", f"{neighbour.namespace}/helper"
    async with aiohttp.ClientSession(url) as http:
        status, reply = await asked(
            http, f"/agents/{theirs}/chat", json={"message": "hi"}, headers=bearing(neighbour, "caller")
        )
        assert status == 200
        as_us = bearing(helper, "caller")
        _, listed = await asked(http, "/agents", headers=as_us)
        assert [f"{each['namespace']}/{each['name']}" for each in listed["agents"]] == [ours]
        status, told = await asked(http, f"/agents/{theirs}/chat", json={"message": "hi"}, headers=as_us)
        assert (status, told["error"]["reason"]) == (403, "NotAllowed")
        assert (await asked(http, f"/runs/{reply['run_id']}", headers=as_us))[0] == 404
        # A bare name that both have is ours: of theirs nothing is told.
        assert (await asked(http, "/agents/helper/chat", json={"message": "hi"}, headers=as_us))[0] == 200
    # Nor does an agent's pod have a right, there or at home.
    account = f"--as=system:serviceaccount:{helper.namespace}:helper"
    for namespace in (helper.namespace, neighbour.namespace):
        for deed in ("get secrets", "list pods", "get configmaps", "create agents.kagent.dev"):
            words = ["kubectl", "auth", "can-i", *deed.split(), account, "-n", namespace]
            assert helper.run("sh", "-c", f"{' '.join(words)} || true").strip() == "no"
