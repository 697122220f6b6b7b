"""The support desk of documents 001 and 003: the servers that its Tools and its MemoryStore name, and one story there.

All of them are real and on this machine: Redis behind TLS and a password, Milvus, the ticket and customer services, and
an endpoint of OpenAI's API for answers and embeddings.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, ExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route, Router

from kadre.engine.memory.longterm import ASKED
from tests.cluster.certificates import Authority
from tests.support.embeddings import embedded
from tests.support.milvus import Milvus
from tests.support.redis import RedisServer
from tests.support.serving import answering
from tests.support.tickets import TOKEN, Tickets, tickets

T = TypeVar("T")
PASSWORD = "redis-canary-1"
KEY = "sk-canary-1"
NAMESPACE = "ai-agents"
NAME = "support-desk"
REDIS, MILVUS = "redis-master.ai-data.svc.cluster.local", "milvus.ai-data.svc.cluster.local"
TICKETS, CUSTOMERS = "ticketing-service.support.svc", "customer-service.crm.svc"
FAQ = "---\ncategory: faq\n---\nReturns: an unopened item goes back within thirty days.\n"
FACT = "The user is Ada, customer ABCD1234"
SECONDS = 60.0
# What the documents leave to their reader: an agent that has all of it, and the Secrets that are named.
AGENT = f"""
---
apiVersion: kagent.dev/v1alpha1
kind: Agent
metadata: {{name: {NAME}, namespace: {NAMESPACE}}}
spec:
  model: {{provider: openai, name: gpt-4-turbo}}
  tools: [{{name: search-knowledge-base}}, {{name: create-ticket}}, {{name: get-customer-info}}]
  memory: {{storeRef: agent-memory-redis}}
  approvals: {{policy: [{{action: ask, tools: [create-ticket]}}]}}
"""
SECRET = """
---
apiVersion: v1
kind: Secret
metadata: {{name: {name}, namespace: {namespace}}}
stringData: {{{key}: {value}}}
"""


@contextmanager
def beside(manager: AbstractAsyncContextManager[T]) -> Iterator[T]:
    """What an asynchronous manager gives, kept by a thread of its own while the caller waits for other things."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    try:
        made = asyncio.run_coroutine_threadsafe(manager.__aenter__(), loop).result(SECONDS)
        try:
            yield made
        finally:
            asyncio.run_coroutine_threadsafe(manager.__aexit__(None, None, None), loop).result(SECONDS)
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join(SECONDS)
        loop.close()


class Model:
    """Calls the tool it is told to, and says back what the tool told it; else says what it has been told.

    `heard`: every request's body, as it came.
    """

    def __init__(self) -> None:
        self.heard: list[str] = []
        self.url = ""

    async def chat(self, request: Request) -> Response:
        """A chat completion."""
        if request.headers.get("authorization") != f"Bearer {KEY}":
            return JSONResponse({"error": {"message": "no key"}}, 401)
        self.heard.append((await request.body()).decode())
        asked = await request.json()
        usage = {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5}
        message = {"role": "assistant", **self._answer(asked["messages"])}
        choice = {"index": 0, "finish_reason": "stop"}
        if not asked.get("stream"):
            return JSONResponse({"choices": [{**choice, "message": message}], "usage": usage})
        chunks = [{"choices": [{**choice, "delta": message}]}, {"choices": [], "usage": usage}]
        lines = [*(json.dumps(chunk) for chunk in chunks), "[DONE]"]
        return Response("".join(f"data: {line}\n\n" for line in lines), media_type="text/event-stream")

    async def embed(self, request: Request) -> Response:
        """Vectors: texts are alike by the words they share."""
        body = await request.json()
        self.heard.append(json.dumps(body))
        return JSONResponse(await embedded(body))

    @staticmethod
    def _answer(messages: list[dict[str, Any]]) -> dict[str, Any]:
        last = messages[-1]
        if messages[0]["content"].startswith(ASKED[:40]):
            found = re.search(r"I am (\w+), customer (\w+)", last["content"])
            return {"content": json.dumps([f"The user is {found[1]}, customer {found[2]}"] if found else [])}
        if last["role"] == "tool":
            return {"content": f"It says: {last['content']}"}
        if called := re.fullmatch(r"call (\S+) (\{.*\})", last["content"], re.DOTALL):
            function = {"name": called[1], "arguments": called[2]}
            return {
                "content": None,
                "tool_calls": [{"index": 0, "id": "call-1", "type": "function", "function": function}],
            }
        return {"content": "I was told: " + " ".join(str(message["content"]) for message in messages)}


@asynccontextmanager
async def model(address: str) -> AsyncIterator[Model]:
    """Serve one."""
    served = Model()
    routes = [
        Route("/v1/chat/completions", served.chat, methods=["POST"]),
        Route("/v1/embeddings", served.embed, methods=["POST"]),
    ]
    async with answering(Router(routes), address) as url:
        served.url = f"{url}/v1"
        yield served


@dataclass(frozen=True)
class Desk:
    """The servers, at an address of this machine."""

    address: str
    redis: RedisServer
    milvus: Milvus
    services: Tickets
    model: Model
    authority: Path

    @property
    def places(self) -> dict[str, tuple[int, int]]:
        """By the name of a service: its port as the documents have it, and the one of this machine."""
        return {
            REDIS: (6379, self.redis.port),
            MILVUS: (19530, self.milvus.port),
            TICKETS: (8080, self.services.port),
            CUSTOMERS: (8080, self.services.port),
        }

    @property
    def maps(self) -> str:
        """How a laptop is told where they are."""
        found = (f"{name}:{port}={self.address}:{here}" for name, (port, here) in self.places.items())
        return f"--map={','.join(found)}"

    @property
    def manifests(self) -> str:
        """The agent, and the Secrets."""
        values = {
            ("redis-credentials", "password"): PASSWORD,
            ("redis-tls-cert", "ca.crt"): self.authority.read_text(),
            ("ticketing-api-token", "token"): TOKEN,
            ("crm-api-token", "token"): TOKEN,
        }
        made = (
            SECRET.format(name=name, namespace=NAMESPACE, key=key, value=json.dumps(value))
            for (name, key), value in values.items()
        )
        return AGENT + "".join(made)

    def ingest(self, folder: Path, manifests: Path) -> None:
        """Fill the knowledge base, as an author does."""
        (folder / "faq.md").write_text(FAQ)
        words = ["search-knowledge-base", "faq.md", "-f", str(manifests), self.maps]
        env = {**os.environ, "OPENAI_API_KEY": KEY, "OPENAI_BASE_URL": self.model.url}
        subprocess.run(
            [sys.executable, "-m", "kadre", "ingest", *words], cwd=folder, env=env, check=True, timeout=SECONDS
        )


@contextmanager
def desk(folder: Path, address: str = "127.0.0.1") -> Iterator[Desk]:
    """All of them, for as long as they are wanted."""
    authority = Authority(folder, "ca")
    certificate = authority.server("redis", [address, REDIS])
    files = ("--tls-cert-file", str(certificate), "--tls-key-file", str(certificate.with_suffix(".key")))
    with ExitStack() as stack:
        redis = RedisServer("--requirepass", PASSWORD, *files, "--tls-auth-clients", "no", address=address, tls=True)
        yield Desk(
            address,
            stack.enter_context(redis),
            stack.enter_context(Milvus(address)),
            stack.enter_context(beside(tickets(address))),
            stack.enter_context(beside(model(address))),
            authority.certificate,
        )


class Door:
    """Where the agent is asked. `root`: an address, which a new process may change; `agent`: the agent's path there."""

    def __init__(self, root: Callable[[], str], agent: str) -> None:
        self._root = root
        self.agent = agent

    def send(self, path: str, body: Any = None) -> tuple[int, Any]:
        """POST, or GET without a body: the status and what is answered."""
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self._root() + path, data, {"Content-Type": "application/json"})
        try:
            with urllib.request.urlopen(request, timeout=SECONDS) as answer:
                return answer.status, json.load(answer)
        except urllib.error.HTTPError as error:
            return error.code, json.load(error)

    def says(self, session: str, message: str) -> str:
        """What is answered."""
        status, reply = self.send(f"{self.agent}/chat", {"message": message, "session_id": session})
        assert status == 200, reply
        return str(reply["response"])

    def until(self, path: str, right: Callable[[Any], bool]) -> Any:
        """What is told there, as soon as it is right."""
        over = time.monotonic() + SECONDS
        while not right(told := self.send(path)[1]):
            assert time.monotonic() < over, f"{path}: {told}"
        return told


def story(desk: Desk, door: Door, die: Callable[[], None]) -> None:
    """A customer's two conversations. `die`: ends the agent's process at once, and waits until another one serves."""
    found = door.says("s-1", _call("search-knowledge-base", query="an unopened item goes back within"))
    assert "thirty days" in found
    ticket = {"title": "Return", "description": "Unopened", "category": "billing", "customer_id": "ABCD1234"}
    message = {"message": _call("create-ticket", **ticket), "session_id": "s-1"}
    status, waiting = door.send(f"{door.agent}/chat", message)
    assert status == 202, waiting
    (approval,) = waiting["approvals"]
    assert approval["tool_call"]["arguments"] == ticket | {"priority": "medium"}
    die()
    assert not desk.services.filed
    run = f"/runs/{waiting['run_id']}"
    status, told = door.send(f"{run}/approve", {"decision": "allow", "digest": approval["digest"]})
    assert status == 200, told
    ended = door.until(run, lambda told: told.get("status") == "completed")
    assert "T-1" in json.dumps(ended)
    assert desk.services.filed == [ticket | {"priority": "medium"}]
    door.says("s-1", "I am Ada, customer ABCD1234")
    kept = door.until(f"{door.agent}/memories", lambda told: bool(told.get("memories")))
    assert [each["text"] for each in kept["memories"]] == [FACT]
    die()
    assert FACT in door.says("s-2", "Which customer is the user?")
    assert "gold" in door.says("s-2", _call("get-customer-info", customer_id="ABCD1234"))
    kept = door.send("/sessions/s-1")[1]["messages"]
    assert [each["content"] for each in kept if each["role"] == "user"][1:] == [
        message["message"],
        "I am Ada, customer ABCD1234",
    ]
    for secret in (PASSWORD, KEY, TOKEN):
        assert secret not in "".join(desk.model.heard)
        assert secret not in json.dumps(ended)


def _call(tool: str, **arguments: str) -> str:
    return f"call {tool} {json.dumps(arguments)}"
