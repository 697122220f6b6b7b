"""Two pods of one agent over a PostgreSQL server beside the cluster: one conversation, whichever pod is asked."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from tests.cluster.node import Node
from tests.e2e.conftest import Terminal, post
from tests.support.postgres import Cluster

pytestmark = [pytest.mark.timeout(400), pytest.mark.needs("postgres")]
MANIFEST = """
apiVersion: v1
kind: Secret
metadata: {{name: chats}}
stringData: {{url: "{journal}"}}
---
apiVersion: kagent.dev/v1alpha1
kind: Agent
metadata: {{name: my-agent}}
spec:
  model: {{provider: vllm, name: m, endpoint: "{model}"}}
  memory: {{type: postgres, secretRef: {{name: chats, key: url}}}}
  replicas: 2
"""


class Listener(ThreadingHTTPServer):
    """An OpenAI endpoint that answers with what it heard people say; to `slowly`, when `go` is set."""

    def __init__(self, address: str) -> None:
        super().__init__((address, 0), _Answer)
        self.asked, self.go = threading.Event(), threading.Event()
        self.url = f"http://{address}:{self.server_port}/v1"


class _Answer(BaseHTTPRequestHandler):
    server: Listener

    def do_POST(self) -> None:
        sent = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        said = [message["content"] for message in sent["messages"] if message["role"] == "user"]
        if "slowly" in said[-1]:
            self.server.asked.set()
            self.server.go.wait(200)
        message = {"role": "assistant", "content": ", ".join(said)}
        body = json.dumps({"choices": [{"message": message, "finish_reason": "stop"}]}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - http.server's name for it
        """Say nothing."""


@pytest.fixture
def listener(node: Node) -> Iterator[Listener]:
    with Listener(node.address) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server
        server.go.set()
        server.shutdown()
        thread.join()


@pytest.fixture
def agent(node: Node, terminal: Terminal, listener: Listener) -> Iterator[Terminal]:
    """The agent, ready."""
    with Cluster(node.address) as cluster:
        terminal.kubectl("apply", "-f", "-", stdin=MANIFEST.format(journal=cluster.dsn(), model=listener.url))
        terminal.kubectl("wait", "--for=condition=Durable", "agent/my-agent", "--timeout=60s")
        terminal.kubectl("rollout", "status", "deployment/my-agent", "--timeout=120s")
        yield terminal
        terminal.kubectl("delete", "agent", "my-agent")


def pods(terminal: Terminal) -> list[str]:
    """The names of those that are there to stay."""
    found = terminal.get("pods", "-l", "app=my-agent")["items"]
    return [pod["metadata"]["name"] for pod in found if "deletionTimestamp" not in pod["metadata"]]


def chat(url: str, message: str) -> str:
    response: str = post(f"{url}/chat", {"message": message, "session_id": "s"}, 200)["response"]
    return response


@pytest.mark.requirement("memory-postgres", "replicas-share-sessions")
def test_a_conversation_goes_on_whichever_pod_is_asked_and_though_one_is_deleted(agent: Terminal) -> None:
    first, second = pods(agent)
    with ExitStack() as stack:
        urls = [stack.enter_context(agent.forwarded(f"pod/{name}", 8080)) for name in (first, second)]
        assert [chat(urls[number % 2], f"m{number}") for number in range(4)][-1] == "m0, m1, m2, m3"
    agent.kubectl("delete", "pod", first)
    agent.kubectl("rollout", "status", "deployment/my-agent", "--timeout=120s")
    assert len(pods(agent)) == 2
    for number, name in enumerate(pods(agent), 4):
        with agent.forwarded(f"pod/{name}", 8080) as url:
            assert chat(url, f"m{number}") == ", ".join(f"m{earlier}" for earlier in range(number + 1))


@pytest.mark.requirement("operator-rolling-update", "replicas-share-sessions")
def test_a_turn_in_flight_during_a_rolling_update_finishes(agent: Terminal, listener: Listener) -> None:
    before = pods(agent)
    with ThreadPoolExecutor(1) as pool, agent.forwarded(f"pod/{before[0]}", 8080) as url:
        turn = pool.submit(chat, url, "slowly")
        assert listener.asked.wait(60)
        agent.kubectl("patch", "agent", "my-agent", "--type=merge", "-p", '{"spec": {"systemPrompt": "Anew."}}')
        agent.kubectl("wait", "--for=jsonpath={.status.revision}=2", "agent/my-agent", "--timeout=60s")
        agent.kubectl("rollout", "status", "deployment/my-agent", "--timeout=120s")
        assert not set(before) & set(pods(agent))
        listener.go.set()
        assert turn.result(60) == "slowly"
    with agent.forwarded("svc/my-agent", 8080) as url:
        assert chat(url, "again") == "slowly, again"
    agent.kubectl("wait", "--for=delete", *(f"pod/{name}" for name in before), "--timeout=60s")
