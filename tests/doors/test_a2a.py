"""Agents as A2A servers, at a host and through the gateway: the SDK's own client is the judge."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import httpx
import pytest
from a2a import types
from a2a.client import A2ACardResolver, A2AClientError, Client, ClientConfig, ClientFactory
from a2a.helpers import new_text_message
from a2a.utils.errors import (
    ContentTypeNotSupportedError,
    InvalidParamsError,
    TaskNotCancelableError,
    TaskNotFoundError,
    UnsupportedOperationError,
)

from kadre.base.errors import ModelError
from kadre.engine.tools.functions import Functions
from kadre.plan.types import AgentKey, Limits
from kadre.server.body import MAX_BODY
from kadre.server.gateway.visitors import Reception
from tests.doors.test_gateway import A, B, Fixed, People, Person
from tests.support.gateway import gateway
from tests.support.scene import Asking, Scene
from tests.support.serving import serving

pytestmark = pytest.mark.requirement("a2a-outward")
DOORS = ["host", "gateway"]
BINDINGS = ["JSONRPC", "HTTP+JSON"]


@asynccontextmanager
async def a2a(
    url: str, binding: str = "JSONRPC", token: str = "", *, agent: str = "a", stream: bool = True
) -> AsyncIterator[Client]:
    """The SDK's client of an agent."""
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    async with httpx.AsyncClient(headers=headers) as http:
        config = ClientConfig(httpx_client=http, supported_protocol_bindings=[binding], streaming=stream)
        client = await ClientFactory(config).create_from_url(f"{url}/agents/{agent}")
        yield client
        await client.close()


@asynccontextmanager
async def served(where: str, scene: Scene, folder: Path) -> AsyncIterator[str]:
    """The base URL at which the scene's agent a is."""
    if where == "host":
        async with serving(scene) as url:
            yield url
        return
    async with gateway(folder, {"a": [scene]}) as (http, _):
        yield str(http._build_url("/")).rstrip("/")


def message(text: str, context: str = "", task: str = "") -> types.SendMessageRequest:
    said = new_text_message(text, context_id=context or None, task_id=task or None, role=types.Role.ROLE_USER)
    return types.SendMessageRequest(message=said)


def file() -> types.SendMessageRequest:
    sent = message("look at this")
    sent.message.parts.append(types.Part(raw=b"...", media_type="image/png"))
    return sent


def states(told: Iterable[types.StreamResponse]) -> list[str]:
    """What the task came to be, one after the other."""
    found = []
    for each in told:
        if not each.HasField("artifact_update"):
            status = each.task.status if each.HasField("task") else each.status_update.status
            found.append(types.TaskState.Name(status.state).removeprefix("TASK_STATE_"))
    return found


def ids(told: Sequence[types.StreamResponse]) -> str:
    """The task's id."""
    return told[0].task.id


def answer(task: types.Task) -> str:
    return "".join(part.text for artifact in task.artifacts for part in artifact.parts)


@pytest.mark.parametrize("binding", BINDINGS)
@pytest.mark.parametrize("where", DOORS)
async def test_a_message_is_answered_and_the_next_goes_on_with_its_context(
    where: str, binding: str, tmp_path: Path
) -> None:
    scene = Scene()
    await scene.says("one", "two", description="Knows things.")
    async with served(where, scene, tmp_path) as url, a2a(url, binding, stream=False) as client:
        (told,) = [each async for each in client.send_message(message("hi"))]
        assert told.task.status.state == types.TaskState.TASK_STATE_COMPLETED
        assert answer(told.task) == "one"
        assert [part.text for said in told.task.history for part in said.parts] == ["hi"]
        (again,) = [each async for each in client.send_message(message("again", told.task.context_id))]
        assert answer(again.task) == "two"
        assert again.task.context_id == told.task.context_id
        found = await client.get_task(types.GetTaskRequest(id=told.task.id))
        assert found == told.task
    assert [said.content for said in scene.models["a"].requests[1].messages][-3:] == ["hi", "one", "again"]


@pytest.mark.parametrize("binding", BINDINGS)
@pytest.mark.parametrize("where", DOORS)
async def test_an_answer_is_streamed_piece_by_piece(where: str, binding: str, tmp_path: Path) -> None:
    def look() -> str:
        """Look."""
        return "seen"

    scene = Scene()
    await scene.says([("look", {})], "three small words", tools=[Functions(look)])
    async with served(where, scene, tmp_path) as url, a2a(url, binding) as client:
        told = [each async for each in client.send_message(message("hi"))]
        assert told[0].HasField("task")
        assert states(told)[-1] == "COMPLETED"
        pieces = [each.artifact_update for each in told if each.HasField("artifact_update")]
        assert [part.text for piece in pieces for part in piece.artifact.parts] == ["three ", "small ", "words"]
        assert [(piece.append, piece.last_chunk) for piece in pieces] == [(False, False), (True, False), (True, True)]


@pytest.mark.parametrize("where", DOORS)
async def test_a_task_is_followed_again_and_cancelled(where: str, tmp_path: Path) -> None:
    scene, going_on = Scene(), asyncio.Event()
    await scene.says(going_on, "the end", asyncio.Event())
    async with served(where, scene, tmp_path) as url, a2a(url) as client:
        sent = message("hi")
        sent.configuration.return_immediately = True
        begun = await anext(aiter(client.send_message(sent)))
        task = begun.task
        assert task.status.state in {types.TaskState.TASK_STATE_SUBMITTED, types.TaskState.TASK_STATE_WORKING}
        following = aiter(client.subscribe(types.SubscribeToTaskRequest(id=task.id)))
        assert (await anext(following)).task.id == task.id
        going_on.set()
        rest = [each async for each in following]
        assert states(rest)[-1] == "COMPLETED"
        assert answer(await client.get_task(types.GetTaskRequest(id=task.id))) == "the end"
        with pytest.raises(UnsupportedOperationError, match="has ended"):
            await anext(aiter(client.subscribe(types.SubscribeToTaskRequest(id=task.id))))
        with pytest.raises(TaskNotCancelableError):
            await client.cancel_task(types.CancelTaskRequest(id=task.id))
        begun = await anext(aiter(client.send_message(message("again"))))
        cancelled = await client.cancel_task(types.CancelTaskRequest(id=begun.task.id))
        assert cancelled.status.state == types.TaskState.TASK_STATE_CANCELED


@pytest.mark.parametrize("where", DOORS)
async def test_a_run_goes_on_though_its_client_leaves(where: str, tmp_path: Path) -> None:
    scene, going_on = Scene(), asyncio.Event()
    await scene.says(going_on, "the end")
    async with served(where, scene, tmp_path) as url:
        async with a2a(url) as client:
            task = (await anext(aiter(client.send_message(message("hi"))))).task
        async with a2a(url) as client:
            following = aiter(client.subscribe(types.SubscribeToTaskRequest(id=task.id)))
            assert (await anext(following)).task.id == task.id
            going_on.set()
            assert states([each async for each in following])[-1] == "COMPLETED"
            assert answer(await client.get_task(types.GetTaskRequest(id=task.id))) == "the end"


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("where", DOORS)
async def test_no_message_decides_what_waits_for_a_person(where: str, stream: bool, tmp_path: Path) -> None:
    def write() -> str:
        """Write."""
        return "written"

    scene = Scene()
    await scene.says([("write", {})], "done", tools=[Asking(write)])
    async with served(where, scene, tmp_path) as url, a2a(url, stream=stream) as client, AsyncExitStack() as stack:
        told = [each async for each in client.send_message(message("write"))]
        assert states(told)[-1] == "INPUT_REQUIRED"
        task = await client.get_task(types.GetTaskRequest(id=ids(told)))
        asked = task.status.message
        (approval,) = asked.metadata["approvals"]
        assert approval["tool_call"]["name"] == "write"
        link = asked.metadata["approve"]
        assert link == f"{url}/runs/{task.id}/approve"
        assert approval["id"] in asked.parts[0].text
        assert link in asked.parts[0].text
        for context in (task.context_id, ""):
            with pytest.raises(UnsupportedOperationError, match="a person decides"):
                await anext(aiter(client.send_message(message("allow", context, task.id))))
        streaming = await stack.enter_async_context(a2a(url))
        following = aiter(streaming.subscribe(types.SubscribeToTaskRequest(id=task.id)))
        assert (await anext(following)).task.status.state == types.TaskState.TASK_STATE_INPUT_REQUIRED
        async with httpx.AsyncClient() as http:
            decided = await http.post(link, json={"decision": "allow", "approval_id": approval["id"]})
            assert decided.status_code == 200
        rest = [each async for each in following]
        assert states(rest) == ["WORKING", "COMPLETED"]
        assert answer(await client.get_task(types.GetTaskRequest(id=task.id))) == "done"


@pytest.mark.parametrize("where", DOORS)
async def test_a_run_that_failed_says_why(where: str, tmp_path: Path) -> None:
    scene = Scene()
    await scene.says(ModelError("the model is tired"), ModelError("still"))
    async with served(where, scene, tmp_path) as url:
        async with a2a(url, stream=False) as client:
            (told,) = [each async for each in client.send_message(message("hi"))]
            assert told.task.status.state == types.TaskState.TASK_STATE_FAILED
            assert "the model is tired" in told.task.status.message.parts[0].text
        async with a2a(url) as client:
            streamed = [each async for each in client.send_message(message("hi"))]
            assert states(streamed)[-1] == "FAILED"
            assert "still" in streamed[-1].status_update.status.message.parts[0].text


@pytest.mark.parametrize("where", DOORS)
async def test_a_long_answer_is_whole(where: str, tmp_path: Path) -> None:
    long = ("w" * 1000 + " ") * 100
    scene = Scene()
    await scene.says(long, long)
    async with served(where, scene, tmp_path) as url:
        async with a2a(url, stream=False) as client:
            (told,) = [each async for each in client.send_message(message("hi"))]
            assert answer(told.task) == long
        async with a2a(url) as client:
            said = ""
            async for each in client.send_message(message("hi")):
                if each.HasField("artifact_update"):
                    text = "".join(part.text for part in each.artifact_update.artifact.parts)
                    said = said + text if each.artifact_update.append else text
            assert said == long


@pytest.mark.parametrize("where", DOORS)
async def test_tasks_are_listed_page_by_page(where: str, tmp_path: Path) -> None:
    scene = Scene()
    await scene.says("one", ModelError("two"), "three")
    context = "ctx-1"
    async with served(where, scene, tmp_path) as url, a2a(url, stream=False) as client:
        for text in ("a", "b", "c"):
            await scene.clock.advance(1)
            _ = [each async for each in client.send_message(message(text, context if text == "c" else ""))]
        page = await client.list_tasks(types.ListTasksRequest(page_size=2))
        rest = await client.list_tasks(types.ListTasksRequest(page_size=2, page_token=page.next_page_token))
        listed = [*page.tasks, *rest.tasks]
        assert [types.TaskState.Name(task.status.state).rpartition("_")[2] for task in listed] == [
            "COMPLETED",
            "FAILED",
            "COMPLETED",
        ]
        assert not rest.next_page_token
        assert not any(task.artifacts for task in listed)
        whole = await client.list_tasks(types.ListTasksRequest(context_id=context, include_artifacts=True))
        assert [answer(task) for task in whole.tasks] == ["three"]
        failed = await client.list_tasks(types.ListTasksRequest(status=types.TaskState.TASK_STATE_FAILED))
        assert [task.id for task in failed.tasks] == [listed[1].id]
        asked = types.ListTasksRequest(status_timestamp_after=listed[0].status.timestamp)
        assert [task.id for task in (await client.list_tasks(asked)).tasks] == [listed[0].id]
        with pytest.raises(InvalidParamsError, match="pageSize"):
            await client.list_tasks(types.ListTasksRequest(page_size=101))


@pytest.mark.parametrize("binding", BINDINGS)
@pytest.mark.parametrize("where", DOORS)
async def test_what_cannot_be_done_is_told_as_the_protocol_has_it(where: str, binding: str, tmp_path: Path) -> None:
    scene = Scene()
    await scene.says(asyncio.Event(), limits=Limits(max_concurrent_runs=1))
    async with served(where, scene, tmp_path) as url, a2a(url, binding) as client:
        for asked, error in (
            (client.get_task(types.GetTaskRequest(id="run-none")), TaskNotFoundError),
            (client.cancel_task(types.CancelTaskRequest(id="run-none")), TaskNotFoundError),
            (anext(aiter(client.send_message(message("hi", "a b")))), InvalidParamsError),
            (anext(aiter(client.send_message(message(" ")))), InvalidParamsError),
            (anext(aiter(client.send_message(file()))), ContentTypeNotSupportedError),
        ):
            with pytest.raises(error):
                await asked
        begun = await anext(aiter(client.send_message(message("hi"))))
        with pytest.raises(A2AClientError, match="429"):
            await anext(aiter(client.send_message(message("hi"))))
        await client.cancel_task(types.CancelTaskRequest(id=begun.task.id))
        async with httpx.AsyncClient() as http:
            answered = await http.post(f"{url}/agents/z/a2a", json={})
            assert (answered.status_code, answered.json()["error"]["reason"]) == (404, "NoSuchAgent")
            answered = await http.post(f"{url}/agents/a/a2a", content=b"{")
            assert answered.json()["error"]["code"] == -32700
            answered = await http.post(f"{url}/agents/a/a2a", content=b"[" * 100_000)
            assert answered.json()["error"]["code"] in {-32700, -32603}
            answered = await http.post(f"{url}/agents/a/a2a", content=b" " * (MAX_BODY + 1))
            assert answered.status_code == 413


@pytest.mark.parametrize("where", DOORS)
async def test_clients_of_the_protocol_before_are_served(where: str, tmp_path: Path) -> None:
    scene = Scene()
    await scene.says("one")
    said = {"kind": "message", "messageId": "m", "role": "user", "parts": [{"kind": "text", "text": "hi"}]}
    async with served(where, scene, tmp_path) as url, httpx.AsyncClient() as http:
        card = (await http.get(f"{url}/agents/a/.well-known/agent-card.json")).json()
        sent = {"jsonrpc": "2.0", "id": 1, "method": "message/send", "params": {"message": said}}
        told = (await http.post(card["url"], json=sent)).json()["result"]
        assert (told["kind"], told["status"]["state"]) == ("task", "completed")
        assert told["artifacts"][0]["parts"] == [{"kind": "text", "text": "one"}]


async def test_a_card_is_everybodys_and_tells_of_its_agent_alone(tmp_path: Path) -> None:
    scene = Scene()
    await scene.says(description="Knows things.", display_name="A.")
    closed = Reception(Fixed(bob="key-of-bob"), trust_local=False)
    async with gateway(tmp_path, {"a": [scene]}, closed) as (http, fleet):
        url = str(http._build_url("/")).rstrip("/")
        async with httpx.AsyncClient() as anybody:
            card = await A2ACardResolver(anybody, url).get_agent_card()
            assert card.supported_interfaces[0].url == f"{url}/agents/default/a/a2a"
            assert (await anybody.get(f"{url}/agents/default/a")).status_code == 401
            for path in ("/agents", "/agents/default/a/a2a", "/runs/run-1", "/mcp"):  # which only end as a card's do
                answered = await anybody.get(f"{url}{path}/.well-known/agent-card.json")
                assert answered.status_code == 401
            fleet.at[AgentKey("default", "b")] = fleet.at[A]
            for path in ("", "/agents/z", "/agents/other/a"):
                answered = await anybody.get(f"{url}{path}/.well-known/agent-card.json")
                assert answered.status_code == 404
                assert "b" not in answered.json()["error"]["message"].split()
    async with serving(scene) as url, httpx.AsyncClient() as anybody:
        proxied = {"X-Forwarded-For": "10.0.0.9"}
        told = await anybody.get(f"{url}/agents/a/.well-known/agent-card.json", headers=proxied)
        assert (told.json()["name"], told.json()["description"]) == ("A.", "Knows things.")
        assert (await anybody.post(f"{url}/agents/a/a2a", headers=proxied)).status_code == 401


async def test_through_the_gateway_a_caller_has_their_own_agents_and_tasks(tmp_path: Path) -> None:
    one, other = Scene(), Scene()
    await one.says("from a", "from a", "from a")
    await other.says("from b", name="b")
    ada, eve = Person("user:ada", ("chat", A), ("chat", B)), Person("user:eve", ("chat", A))
    reception = Reception(Fixed(bob="key-of-bob"), reviewer=People(ada, eve), trust_local=False)
    async with gateway(tmp_path, {"a": [one], "b": [other]}, reception) as (http, _):
        url = str(http._build_url("/")).rstrip("/")
        tasks: dict[str, str] = {}
        for token in ("token-user:ada", "token-user:eve", "key-of-bob"):
            async with a2a(url, token=token, stream=False) as client:
                (told,) = [each async for each in client.send_message(message("hi"))]
                assert answer(told.task) == "from a"
                tasks[token] = told.task.id
                listed = await client.list_tasks(types.ListTasksRequest())
                assert [task.id for task in listed.tasks] == [told.task.id]
        async with a2a(url, token="token-user:eve") as client:
            for asked in (
                client.get_task(types.GetTaskRequest(id=tasks["token-user:ada"])),
                client.cancel_task(types.CancelTaskRequest(id=tasks["token-user:ada"])),
                anext(aiter(client.subscribe(types.SubscribeToTaskRequest(id=tasks["key-of-bob"])))),
                anext(aiter(client.send_message(message("hi", task=tasks["key-of-bob"])))),
            ):
                with pytest.raises(TaskNotFoundError):
                    await asked
        async with a2a(url, agent="b", token="token-user:ada") as client:
            with pytest.raises(TaskNotFoundError):  # it is hers, and another agent's
                await client.get_task(types.GetTaskRequest(id=tasks["token-user:ada"]))
        for agent, token, status in (("b", "token-user:eve", 403), ("a", "token-nobody", 401), ("a", "", 401)):
            async with a2a(url, agent=agent, token=token) as client:
                with pytest.raises(A2AClientError, match=str(status)):
                    await anext(aiter(client.send_message(message("hi"))))


def test_the_library_is_loaded_for_its_first_client_alone() -> None:
    script = "import sys, kadre.server.app, kadre.server.gateway.app; print('a2a' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, text=True)
    assert done.stdout.strip() == "False"
