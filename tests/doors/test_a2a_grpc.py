"""A2A over gRPC, at a port of its own: the SDK's own client is the judge."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import grpc
import httpx
import pytest
from a2a import types
from a2a.client import A2AClientError, Client, ClientCallContext, ClientConfig, ClientFactory
from a2a.utils.errors import TaskNotFoundError, UnsupportedOperationError

from kadre.plan.types import Limits
from kadre.server.gateway.visitors import Reception
from tests.doors.test_a2a import DOORS, answer, message, states
from tests.doors.test_gateway import A, Fixed, People, Person
from tests.support.gateway import gateway
from tests.support.scene import Asking, Scene
from tests.support.serving import serving
from tests.support.upping import free_port, up

AGENT = """
apiVersion: kagent.dev/v1alpha1
kind: Agent
metadata: {name: a}
spec: {model: {provider: openai, name: m}}
"""
pytestmark = pytest.mark.requirement("a2a-grpc")


@asynccontextmanager
async def a2a(url: str, *, agent: str = "a", stream: bool = True) -> AsyncIterator[Client]:
    """The SDK's client of an agent, that speaks gRPC alone."""
    async with httpx.AsyncClient() as http:
        config = ClientConfig(
            httpx_client=http,
            supported_protocol_bindings=["GRPC"],
            streaming=stream,
            grpc_channel_factory=grpc.aio.insecure_channel,
        )
        client = await ClientFactory(config).create_from_url(f"{url}/agents/{agent}")
        yield client
        await client.close()


@asynccontextmanager
async def served(where: str, scene: Scene, folder: Path) -> AsyncIterator[str]:
    if where == "host":
        async with serving(scene, grpc_port=free_port()) as url:
            yield url
        return
    async with gateway(folder, {"a": [scene]}, grpc_port=free_port()) as (http, _):
        yield str(http._build_url("/")).rstrip("/")


def write() -> str:
    """Write."""
    return "written"


@pytest.mark.parametrize("where", DOORS)
async def test_agents_are_asked_over_grpc_as_the_card_says(where: str, tmp_path: Path) -> None:
    scene = Scene()
    await scene.says("one", "two words", [("write", {})], asyncio.Event(), tools=[Asking(write)])
    async with served(where, scene, tmp_path) as url:
        async with a2a(url, stream=False) as client:
            (told,) = [each async for each in client.send_message(message("hi"))]
            assert answer(told.task) == "one"
            assert await client.get_task(types.GetTaskRequest(id=told.task.id)) == told.task
            listed = await client.list_tasks(types.ListTasksRequest())
            assert [task.id for task in listed.tasks] == [told.task.id]
            with pytest.raises(TaskNotFoundError):
                await client.get_task(types.GetTaskRequest(id="run-none"))
        async with a2a(url) as client:
            streamed = [each async for each in client.send_message(message("again"))]
            assert states(streamed)[-1] == "COMPLETED"
            waiting = [each async for each in client.send_message(message("write"))]
            assert states(waiting)[-1] == "INPUT_REQUIRED"
            with pytest.raises(UnsupportedOperationError, match="a person decides"):
                await anext(aiter(client.send_message(message("yes", task=waiting[0].task.id))))
            following = aiter(client.subscribe(types.SubscribeToTaskRequest(id=waiting[0].task.id)))
            assert (await anext(following)).task.status.state == types.TaskState.TASK_STATE_INPUT_REQUIRED
            cancelled = await client.cancel_task(types.CancelTaskRequest(id=waiting[0].task.id))
            assert cancelled.status.state == types.TaskState.TASK_STATE_CANCELED
            assert states([each async for each in following])[-1] == "CANCELED"


@pytest.mark.parametrize("where", DOORS)
async def test_a_bound_is_told_as_grpc_has_it(where: str, tmp_path: Path) -> None:
    scene = Scene()
    await scene.says(asyncio.Event(), limits=Limits(max_concurrent_runs=1))
    async with served(where, scene, tmp_path) as url, a2a(url) as client:
        begun = await anext(aiter(client.send_message(message("hi"))))
        with pytest.raises(A2AClientError, match="RESOURCE_EXHAUSTED"):
            await anext(aiter(client.send_message(message("hi"))))
        await client.cancel_task(types.CancelTaskRequest(id=begun.task.id))


async def test_through_the_gateway_a_caller_is_known_by_their_metadata(tmp_path: Path) -> None:
    scene = Scene()
    await scene.says("from a", "from a")
    ada = Person("user:ada", ("chat", A))
    eve = Person("user:eve")
    reception = Reception(Fixed(bob="key-of-bob"), reviewer=People(ada, eve), trust_local=False)
    async with AsyncExitStack() as stack:
        at = gateway(tmp_path, {"a": [scene]}, reception, grpc_port=free_port())
        http, _ = await stack.enter_async_context(at)
        client = await stack.enter_async_context(a2a(str(http._build_url("/")).rstrip("/"), stream=False))
        tasks = []
        for token in ("token-user:ada", "key-of-bob"):
            (told,) = [each async for each in client.send_message(message("hi"), context=bearing(token))]
            assert answer(told.task) == "from a"
            tasks.append(told.task.id)
            listed = await client.list_tasks(types.ListTasksRequest(), context=bearing(token))
            assert [task.id for task in listed.tasks] == [told.task.id]
        with pytest.raises(TaskNotFoundError):
            await client.get_task(types.GetTaskRequest(id=tasks[0]), context=bearing("key-of-bob"))
        for token, told_as in (("token-user:eve", "PERMISSION_DENIED"), ("nobody", "UNAUTHENTICATED"), ("", "UNAUTH")):
            with pytest.raises(A2AClientError, match=told_as):
                await anext(aiter(client.send_message(message("hi"), context=bearing(token))))


def bearing(token: str) -> ClientCallContext:
    return ClientCallContext(service_parameters={"authorization": f"Bearer {token}"} if token else {})


async def test_kadre_up_serves_it_where_it_is_told_to(tmp_path: Path) -> None:
    (tmp_path / "agent.yaml").write_text(AGENT)
    port = free_port()
    async with up(tmp_path, "--model", "scripted", "--grpc-port", str(port)) as upped, a2a(upped.url) as client:
        told = [each async for each in client.send_message(message("repeat: hello"))]
        assert states(told)[-1] == "COMPLETED"
        again = up(tmp_path, "--model", "scripted", "--data-dir", tmp_path / "2", "--grpc-port", str(port), ready=False)
        async with again as other:
            await other.until_said(f"cannot listen on 127.0.0.1:{port} for gRPC")
