"""Webhooks of runs: told of what becomes of a run, and never a way to where a caller may not go."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from a2a import types
from a2a.utils.errors import InvalidParamsError, TaskNotFoundError
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route, Router

from kadre.base.addresses import Policy
from kadre.server import webhooks
from tests.doors.test_a2a import DOORS, a2a, message
from tests.support.gateway import gateway
from tests.support.scene import Asking, Scene
from tests.support.serving import answering, serving

pytestmark = pytest.mark.requirement("webhooks")
PRIVATE = [
    *("127.0.0.1:1", "localhost:1", "169.254.169.254", "10.0.0.1", "2130706433", "[::1]", "[::ffff:10.0.0.1]"),
    "nowhere.invalid",
]
HERE = Policy.of(["127.0.0.0/8"])


class Receiver:
    """A server that is told: what came, and what it answers next."""

    def __init__(self) -> None:
        self.told: asyncio.Queue[tuple[Any, dict[str, str]]] = asyncio.Queue()
        self.answers: list[Response] = []
        self.elsewhere = 0
        self.url = ""

    async def post(self, request: Request) -> Response:
        self.told.put_nowait((await request.json(), dict(request.headers)))
        return self.answers.pop(0) if self.answers else Response(status_code=204)

    async def other(self, request: Request) -> Response:
        self.elsewhere += 1
        return Response()

    async def until(self, state: str) -> list[str]:
        """The states that the task has come to, up to this one."""
        found: list[str] = []
        async with asyncio.timeout(5):
            while not found or found[-1] != state:
                told, _ = await self.told.get()
                found.append(
                    told.get("statusUpdate", {}).get("status", {}).get("state", "").removeprefix("TASK_STATE_")
                )
        return found


@asynccontextmanager
async def receiving() -> AsyncIterator[Receiver]:
    receiver = Receiver()
    routes = [Route("/told", receiver.post, methods=["POST"]), Route("/other", receiver.other, methods=["GET", "POST"])]
    async with answering(Router(routes)) as url:
        receiver.url = f"{url}/told"
        yield receiver


@asynccontextmanager
async def served(where: str, scene: Scene, folder: Path, policy: Policy | None = HERE) -> AsyncIterator[str]:
    if where == "host":
        async with serving(scene, policy=policy) as url:
            yield url
        return
    async with gateway(folder, {"a": [scene]}, policy=policy) as (http, _):
        yield str(http._build_url("/")).rstrip("/")


def write() -> str:
    """Write."""
    return "written"


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("where", DOORS)
async def test_a_message_names_who_is_told_of_it(where: str, stream: bool, tmp_path: Path) -> None:
    scene = Scene()
    await scene.says("one two")
    async with receiving() as receiver, served(where, scene, tmp_path) as url, a2a(url, stream=stream) as client:
        sent = message("hi")
        wanted = types.TaskPushNotificationConfig(url=receiver.url, token="known")
        wanted.authentication.CopyFrom(types.AuthenticationInfo(scheme="Bearer", credentials="secret"))
        sent.configuration.task_push_notification_config.CopyFrom(wanted)
        told = [each async for each in client.send_message(sent)]
        assert told
        working, headers = await asyncio.wait_for(receiver.told.get(), 5)
        assert working["statusUpdate"]["status"]["state"] == "TASK_STATE_WORKING"
        assert (headers["x-a2a-notification-token"], headers["authorization"]) == ("known", "Bearer secret")
        artifact, _ = await asyncio.wait_for(receiver.told.get(), 5)
        assert artifact["artifactUpdate"]["artifact"]["parts"] == [{"text": "one two"}]
        assert await receiver.until("COMPLETED") == ["COMPLETED"]


@pytest.mark.parametrize("where", DOORS)
async def test_webhooks_are_set_shown_and_taken_away(where: str, tmp_path: Path) -> None:
    scene = Scene()
    await scene.says([("write", {})], "done", tools=[Asking(write)])
    async with receiving() as receiver, served(where, scene, tmp_path) as url, a2a(url) as client:
        told = [each async for each in client.send_message(message("write"))]
        task = told[0].task.id
        config = types.TaskPushNotificationConfig(task_id=task, id="mine", url=receiver.url, token="known")
        made = await client.create_task_push_notification_config(config)
        assert (made.id, made.url, made.token) == ("mine", receiver.url, "")
        assert await receiver.until("INPUT_REQUIRED") == ["WORKING", "INPUT_REQUIRED"]
        other = await client.create_task_push_notification_config(
            types.TaskPushNotificationConfig(task_id=task, url=receiver.url)
        )
        listed = await client.list_task_push_notification_configs(
            types.ListTaskPushNotificationConfigsRequest(task_id=task)
        )
        assert [each.id for each in listed.configs] == ["mine", other.id]
        assert await receiver.until("INPUT_REQUIRED") == ["WORKING", "INPUT_REQUIRED"]
        found = await client.get_task_push_notification_config(
            types.GetTaskPushNotificationConfigRequest(task_id=task, id=other.id)
        )
        assert found == other
        await client.delete_task_push_notification_config(
            types.DeleteTaskPushNotificationConfigRequest(task_id=task, id=other.id)
        )
        with pytest.raises(TaskNotFoundError):
            await client.get_task_push_notification_config(
                types.GetTaskPushNotificationConfigRequest(task_id=task, id=other.id)
            )
        async with httpx.AsyncClient() as http:
            decided = await http.post(f"{url}/runs/{task}/approve", json={"decision": "allow"})
            assert decided.status_code == 200
            assert await receiver.until("COMPLETED") == ["WORKING", "", "COMPLETED"]
            async with asyncio.timeout(5):
                while (await http.get(f"{url}/runs/{task}/webhooks")).json()["webhooks"]:
                    pass
        assert receiver.told.empty()


@pytest.mark.parametrize("where", DOORS)
@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1:1",
        "localhost:1",
        "169.254.169.254",
        "10.0.0.1",
        "2130706433",
        "[::1]",
        "[::ffff:10.0.0.1]",
        "nowhere.invalid",
    ],
)
async def test_a_webhook_at_no_public_address_is_refused_with_its_message(
    where: str, address: str, tmp_path: Path
) -> None:
    scene = Scene()
    await scene.says(asyncio.Event())
    async with served(where, scene, tmp_path, None) as url, a2a(url) as client:
        sent = message("hi")
        sent.configuration.task_push_notification_config.url = f"http://{address}/told"
        with pytest.raises(InvalidParamsError, match="has no address that a webhook may have"):
            _ = [each async for each in client.send_message(sent)]
        listed = await client.list_tasks(types.ListTasksRequest())
        assert [task.status.state for task in listed.tasks] == [types.TaskState.TASK_STATE_CANCELED]


async def test_who_does_not_answer_is_told_again_and_who_sends_on_is_not_followed() -> None:
    scene = Scene()
    await scene.says("one")
    async with receiving() as receiver, serving(scene, policy=HERE) as url, httpx.AsyncClient() as http:
        elsewhere = {"Location": receiver.url.replace("/told", "/other")}
        receiver.answers = [Response(status_code=520), Response(status_code=307, headers=elsewhere)]
        run_id = (await scene.ask()).info.run_id
        made = await http.post(f"{url}/runs/{run_id}/webhooks", json={"url": receiver.url})
        assert made.status_code == 201
        first, _ = await asyncio.wait_for(receiver.told.get(), 5)
        again = asyncio.ensure_future(receiver.told.get())
        while not again.done():
            await scene.clock.advance(1)
            await asyncio.sleep(0)
        assert again.result()[0] == first
        assert await receiver.until("COMPLETED") == ["", "COMPLETED"]
        assert receiver.elsewhere == 0


async def test_there_are_so_many_webhooks_and_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(webhooks, "MOST_OF_A_RUN", 2)
    scene = Scene()
    await scene.says([("write", {})], tools=[Asking(write)])
    async with receiving() as receiver, serving(scene, policy=HERE) as url, httpx.AsyncClient() as http:
        live = await scene.start()
        await scene.approval(live)
        hooks = f"{url}/runs/{live.info.run_id}/webhooks"
        for name in ("one", "two", "two"):
            assert (await http.post(hooks, json={"url": receiver.url, "id": name})).status_code == 201
        assert (await http.post(hooks, json={"url": receiver.url})).status_code == 429
        for sent in ({"url": "ftp://x/"}, {"url": receiver.url, "id": "a b"}, {"url": receiver.url, "token": "a\nb"}):
            assert (await http.post(hooks, json=sent)).status_code == 400
        assert (await http.delete(f"{hooks}/one")).status_code == 200
        assert (await http.delete(f"{hooks}/one")).status_code == 404
        assert (await http.post(hooks, json={"url": receiver.url})).status_code == 201
