"""Remote A2A agents as tools: agents made with the SDK, and agents of another Kadre."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest
from a2a import types
from a2a.helpers import get_message_text, new_data_part, new_text_part
from a2a.server.agent_execution import AgentExecutor, RequestContext
from a2a.server.events import EventQueue
from a2a.server.request_handlers import DefaultRequestHandler
from a2a.server.routes import create_agent_card_routes, create_jsonrpc_routes, create_rest_routes
from a2a.server.tasks import InMemoryTaskStore, TaskUpdater
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route, Router
from starlette.types import ASGIApp, Receive, Scope, Send

from kadre.base.errors import ToolError
from kadre.engine.tools import a2a_client
from kadre.engine.tools.a2a import A2aToolset
from kadre.engine.tools.port import CallContext
from kadre.plan.types import A2aTool, AgentKey, AgentPlan, ModelPlan, SecretRef
from tests.contract.tools.conftest import Secrets
from tests.support.scene import Asking, Scene
from tests.support.serving import answering, serving
from tests.support.upping import hosting, up

pytestmark = pytest.mark.requirement("a2a")
CONTEXT = CallContext(run_id="run-1", session_id="ses-1", key="run-1/1")
MANIFEST = """
apiVersion: kagent.dev/v1alpha1
kind: Tool
metadata: {{name: far}}
spec:
  type: a2a
  description: Knows what is far.
  a2a:
    endpoint: {url}
    secretHeaders: {{Authorization: {{name: far-token, key: header}}}}
---
apiVersion: kagent.dev/v1alpha1
kind: Agent
metadata: {{name: near}}
spec:
  model: {{provider: openai, name: m}}
  tools: [far]
---
apiVersion: v1
kind: Secret
metadata: {{name: far-token}}
stringData: {{header: Bearer open}}
"""
Work = Callable[[TaskUpdater, str], Awaitable[None]]


class Doing(AgentExecutor):
    """An agent made with the SDK, that does what the test says."""

    def __init__(self, work: Work) -> None:
        self.work = work
        self.asked: list[str] = []
        self.cancelled = asyncio.Event()

    async def execute(self, context: RequestContext, event_queue: EventQueue) -> None:
        assert context.message is not None
        assert context.task_id is not None
        assert context.context_id is not None
        text = get_message_text(context.message)
        self.asked.append(text)
        status = types.TaskStatus(state=types.TaskState.TASK_STATE_SUBMITTED)
        await event_queue.enqueue_event(types.Task(id=context.task_id, context_id=context.context_id, status=status))
        await self.work(TaskUpdater(event_queue, context.task_id, context.context_id), text)

    async def cancel(self, context: RequestContext, event_queue: EventQueue) -> None:
        self.cancelled.set()
        await TaskUpdater(event_queue, context.task_id or "", context.context_id or "").cancel()


class Guarded:
    """Lets in whoever knows the word, and shows everybody the card."""

    def __init__(self, app: ASGIApp, word: str) -> None:
        self._app = app
        self._word = word

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        known = (b"authorization", self._word.encode()) in scope["headers"]
        if known or scope["path"].endswith("agent-card.json"):
            await self._app(scope, receive, send)
        else:
            await Response(status_code=401)(scope, receive, send)


@asynccontextmanager
async def remote(
    work: Work, *, binding: str = "JSONRPC", streaming: bool = True, word: str = "", at: str = "http://elsewhere:1"
) -> AsyncIterator[tuple[str, Doing]]:
    """Its URL, and what it was asked. Its card names a host at which it is not."""
    card = types.AgentCard(
        name="far",
        description="Knows what is far.",
        version="1",
        supported_interfaces=[types.AgentInterface(url=f"{at}/", protocol_binding=binding, protocol_version="1.0")],
        capabilities=types.AgentCapabilities(streaming=streaming),
    )
    doing = Doing(work)
    handler = DefaultRequestHandler(agent_executor=doing, task_store=InMemoryTaskStore(), agent_card=card)
    routes: list[Any] = [*create_agent_card_routes(card), *create_jsonrpc_routes(handler, "/")]
    app: ASGIApp = Router([*routes, *create_rest_routes(handler)])
    async with answering(Guarded(app, word) if word else app) as url:
        yield url, doing


def tool(url: str, secrets: Secrets | None = None, **more: Any) -> A2aToolset:
    return A2aToolset(A2aTool(name="far", url=url, **more), secrets or Secrets())


async def answered(toolset: A2aToolset, message: str = "hi") -> str:
    return (await toolset.call("far", {"message": message}, CONTEXT)).content


async def says(updater: TaskUpdater, text: str) -> None:
    await updater.start_work()
    await updater.add_artifact([new_text_part(f"you said {text}, ")], artifact_id="1")
    await updater.add_artifact([new_text_part("and I heard")], artifact_id="1", append=True)
    await updater.add_artifact([new_data_part({"far": True})], artifact_id="2")
    await updater.complete()


@pytest.mark.parametrize("streaming", [True, False])
@pytest.mark.parametrize("binding", ["JSONRPC", "HTTP+JSON"])
async def test_it_is_asked_where_its_author_says_and_answers_in_text(binding: str, streaming: bool) -> None:
    async with remote(says, binding=binding, streaming=streaming) as (url, doing):
        toolset = tool(url)
        (spec,) = await toolset.specs()
        assert (spec.name, spec.description) == ("far", "Ask the agent far: Knows what is far.")
        assert await answered(toolset) == 'you said hi, and I heard\n\n{"far": true}'
        assert await answered(tool(f"{url}/.well-known/agent-card.json"), "again") == (
            'you said again, and I heard\n\n{"far": true}'
        )
        assert doing.asked == ["hi", "again"]


async def test_what_its_author_says_of_it_is_what_the_model_reads() -> None:
    (spec,) = await tool("http://127.0.0.1:1", description="Knows it all.").specs()
    assert spec.description == "Ask the agent far: Knows it all."
    (spec,) = await tool("http://127.0.0.1:1").specs()
    assert spec.description == "Ask the agent far: no description given"


async def test_one_that_asks_back_or_fails_tells_the_model_what_to_do() -> None:
    async def asks(updater: TaskUpdater, text: str) -> None:
        await updater.requires_input(updater.new_agent_message([new_text_part("Which city?")]))

    async def fails(updater: TaskUpdater, text: str) -> None:
        await updater.failed(updater.new_agent_message([new_text_part("no map")]))

    async with remote(asks) as (url, doing):
        toolset = tool(url)
        with pytest.raises(ToolError, match=r"asks for something .* Which city\? Ask it again with all of it"):
            await answered(toolset)
        await asyncio.wait_for(doing.cancelled.wait(), 5)
    async with remote(fails) as (url, _):
        with pytest.raises(ToolError, match="far ended as failed: no map"):
            await answered(tool(url))


@pytest.mark.parametrize("streaming", [True, False])
async def test_a_call_that_is_not_waited_for_ends_there_too(streaming: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    begun, taken = asyncio.Event(), a2a_client._taken

    def heard(event: types.StreamResponse, task: types.Task) -> None:
        taken(event, task)
        begun.set()

    async def hangs(updater: TaskUpdater, text: str) -> None:
        await updater.start_work()
        await asyncio.Event().wait()

    monkeypatch.setattr(a2a_client, "_taken", heard)
    async with remote(hangs, streaming=streaming) as (url, doing):
        with pytest.raises(ToolError, match="did not answer within 1 s") as late:
            await answered(tool(url, timeout=1.0))
        assert late.value.unknown
        await asyncio.wait_for(doing.cancelled.wait(), 5)
        doing.cancelled.clear()
        begun.clear()
        call = asyncio.ensure_future(answered(tool(url)))
        await asyncio.wait_for(begun.wait(), 5)
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        await asyncio.wait_for(doing.cancelled.wait(), 5)


async def test_its_secret_is_read_for_every_call() -> None:
    secrets = Secrets()
    ref = {"Authorization": SecretRef(name="far", key="word", env="FAR_WORD")}
    async with remote(says, word="Bearer open") as (url, _):
        toolset = tool(url, secrets, secret_headers=ref)
        with pytest.raises(ToolError, match="there is no key word of Secret"):
            await answered(toolset)
        secrets.values["FAR_WORD"] = "Bearer shut"
        with pytest.raises(ToolError, match=r"does not let this agent in \(401\); check the headers") as refused:
            await answered(toolset)
        assert not refused.value.unknown
        secrets.values["FAR_WORD"] = "Bearer open\n"
        assert "I heard" in await answered(toolset)


async def test_what_is_no_agent_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    async def page(request: Request) -> Response:
        return Response("<html>", media_type="text/html")

    async def long(updater: TaskUpdater, text: str) -> None:
        await updater.add_artifact([new_text_part("x" * 100_000)])
        await updater.complete()

    with pytest.raises(ToolError, match="cannot be reached; check that it is there"):
        await answered(tool("http://127.0.0.1:1"))
    async with answering(Router([Route("/a/.well-known/agent-card.json", page)])) as url:
        with pytest.raises(ToolError, match="is no agent's card; check the endpoint"):
            await answered(tool(f"{url}/a"))
        with pytest.raises(ToolError, match="answers 404; check the endpoint"):
            await answered(tool(f"{url}/b"))
    async with remote(says, binding="GRPC") as (url, _):
        with pytest.raises(ToolError, match="its card names neither"):
            await answered(tool(url))
    monkeypatch.setattr(a2a_client, "MAX_BYTES", 50_000)
    async with remote(long) as (url, _):
        with pytest.raises(ToolError, match="answers with more than"):
            await answered(tool(url))
    with pytest.raises(ToolError, match="needs an argument `message`"):
        await tool(url).call("far", {}, CONTEXT)


async def test_an_agent_asks_one_of_another_kadre() -> None:
    def write() -> str:
        """Write."""
        return "written"

    far, near = Scene(), Scene()
    await far.says("it rains", [("write", {})], description="Knows the weather.", tools=[Asking(write)])
    async with serving(far) as url:
        weather = tool(f"{url}/agents/a")
        await near.says([("far", {"message": "weather?"})], "take a coat", [("far", {"message": "write"})], "no",
                        tools=[weather])  # fmt: skip
        live = await near.ask("go out?")
        assert live.answer() == "take a coat"
        assert [end.output for end in near.tool_ends(live)] == ["it rains"]
        assert [request.messages[-1].content for request in far.models["a"].requests] == ["weather?"]
        live = await near.ask("write")
        (end,) = near.tool_ends(live)
        assert "It waits for a person to allow or deny: write" in end.error


async def test_kadre_up_and_a_pod_ask_one_that_wants_a_secret(tmp_path: Path) -> None:
    async with remote(says, word="Bearer open") as (url, doing):
        tool_and_agent = MANIFEST.format(url=url)
        (tmp_path / "agents").mkdir()
        (tmp_path / "agents" / "a.yaml").write_text(tool_and_agent)
        async with up(tmp_path / "agents", "--model", "scripted") as upped:
            status, told = await upped.post("/chat", {"message": 'call far {"message": "from up"}'})
            assert status == 200, told
            assert "you said from up" in told["response"]
        plan = AgentPlan(
            key=AgentKey("default", "near"),
            model=ModelPlan(provider="scripted", model="m"),
            tools=(
                A2aTool(
                    name="far",
                    url=url,
                    secret_headers={"Authorization": SecretRef(namespace="default", name="far-token", key="header")},
                ),
            ),
        )
        (tmp_path / "plan.json").write_bytes(msgspec.json.encode(plan))
        (tmp_path / "secrets" / "far-token").mkdir(parents=True)
        (tmp_path / "secrets" / "far-token" / "header").write_text("Bearer open")
        folders = ("--secrets", tmp_path / "secrets", "--data-dir", tmp_path / "data")
        async with hosting(tmp_path / "plan.json", *folders) as pod:
            status, told = await pod.post("/chat", {"message": 'call far {"message": "from a pod"}'})
            assert status == 200, told
            assert "you said from a pod" in told["response"]
        assert doing.asked == ["from up", "from a pod"]
