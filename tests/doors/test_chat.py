"""The chat door: addresses, replies, refusals."""

from __future__ import annotations

import asyncio
import io
import json
from collections.abc import Sequence
from typing import Any

import aiohttp
import pytest

from kadre.base.errors import ModelError, ToolError
from kadre.engine.messages import ToolSpec
from kadre.engine.tools.functions import Functions
from kadre.plan.types import Limits
from tests.support.scene import Asking, Scene

Http = aiohttp.ClientSession
MIB = 1024 * 1024


async def post(http: Http, path: str, body: Any = None, **more: Any) -> tuple[int, Any]:
    async with http.post(path, json=body if body is not None else {"message": "hi"}, **more) as answer:
        return answer.status, await answer.json()


@pytest.mark.parametrize("path", ["/chat", "/agents/a/chat", "/agents/default/a/chat"])
async def test_every_address_of_an_agent_answers(scene: Scene, http: Http, path: str) -> None:
    await scene.says("hello")
    status, reply = await post(http, path)
    assert status == 200
    assert reply["response"] == "hello"
    assert reply["usage"] == {"prompt_tokens": 10, "completion_tokens": 2, "total_tokens": 12}
    assert set(reply) == {"response", "session_id", "run_id", "usage"}


async def test_a_session_id_continues_the_conversation(scene: Scene, http: Http) -> None:
    model = await scene.says("hello", "again")
    _, first = await post(http, "/chat")
    _, second = await post(http, "/chat", {"message": "more", "session_id": first["session_id"]})
    assert second["session_id"] == first["session_id"]
    assert [message.content for message in model.requests[1].messages] == ["hi", "hello", "more"]


async def test_with_several_agents_chat_needs_a_name_and_says_which_there_are(scene: Scene, http: Http) -> None:
    await scene.says("x", name="a")
    await scene.says("y", name="b")
    status, body = await post(http, "/chat")
    assert status == 409
    assert body["error"]["candidates"] == ["default/a", "default/b"]


async def test_agents_that_are_replaced_are_found_by_name_and_the_others_no_more(scene: Scene, http: Http) -> None:
    await scene.says("x", name="a")
    assert (await post(http, "/agents/a/chat"))[0] == 200
    before = dict(scene.host.agents)
    await scene.says("y", name="b")
    assert (await post(http, "/agents/b/chat"))[0] == 200
    await scene.host.replace({key: agent for key, agent in scene.host.agents.items() if key not in before})
    assert (await post(http, "/agents/a/chat"))[0] == 404
    assert (await post(http, "/agents/b/chat"))[0] == 500  # it has nothing more to say


async def test_an_unknown_agent_is_404_with_the_nearest_name(scene: Scene, http: Http) -> None:
    await scene.says("x", name="assistant")
    status, body = await post(http, "/agents/asistant/chat")
    assert status == 404
    assert body["error"]["message"] == "there is no agent 'asistant'; did you mean assistant?"


async def test_an_unknown_agent_that_is_like_none_is_404_with_those_there_are(scene: Scene, http: Http) -> None:
    for number in range(12):
        await scene.says("x", name=f"agent-{number:02}")
    status, body = await post(http, "/agents/zzz/chat")
    assert status == 404
    assert body["error"]["message"].startswith("there is no agent 'zzz'; there is agent-00, agent-01, ")
    assert body["error"]["message"].endswith(", agent-09 and 2 more")


class Gone(Functions):
    """A server that is not there."""

    async def specs(self) -> Sequence[ToolSpec]:
        raise ToolError("desk: nothing answers at 127.0.0.1:9")


async def test_an_agent_shows_which_of_its_tools_are_not_there(scene: Scene, http: Http) -> None:
    await scene.says("hello", tools=[Gone()])
    await post(http, "/chat")
    async with http.get("/agents") as answer:
        (notice,) = (await answer.json())["agents"][0]["notices"]
    assert notice == {"reason": "ToolsUnavailable", "message": "desk: nothing answers at 127.0.0.1:9"}


async def test_events_are_sent_to_who_accepts_them(scene: Scene, http: Http) -> None:
    await scene.says("hello you")
    headers = {"Accept": "text/event-stream"}
    async with http.post("/chat", json={"message": "hi"}, headers=headers) as answer:
        assert answer.content_type == "text/event-stream"
        text = await answer.text()
    events = [json.loads(line[6:]) for line in text.split("\n") if line.startswith("data: ")]
    assert [event["type"] for event in events] == [
        *("run_started", "user_message", "token", "token", "usage", "assistant_message", "run_finished")
    ]
    assert text.startswith("id: 1\nevent: run_started\n")
    assert "id: 2.1\nevent: token\n" in text
    assert all({"v", "seq", "run_id", "session_id", "time"} <= set(event) for event in events)


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b"{nope", "not valid JSON"),
        (b"", "not valid JSON"),
        (b"[]", "Expected `object`"),
        (b"{}", "missing required field `message`"),
        (b'{"message": 1}', "Expected `str`, got `int` - at `$.message`"),
        (b'{"message": "\xff"}', "not valid"),
        (b'{"message": "hi", "session_id": "../x"}', "session_id must match"),
    ],
)
async def test_a_body_that_is_not_understood_is_400_and_says_why(
    scene: Scene, http: Http, body: bytes, said: str
) -> None:
    await scene.says("never")
    async with http.post("/chat", data=body) as answer:
        assert answer.status == 400
        assert said in (await answer.json())["error"]["message"]


@pytest.mark.parametrize("size", [11 * MIB, 40 * MIB])
@pytest.mark.parametrize("declared", [True, False])
async def test_a_body_that_is_too_large_is_413_and_the_client_sees_it(
    scene: Scene, http: Http, size: int, declared: bool
) -> None:
    await scene.says("hello")

    async def pieces() -> Any:
        for _ in range(size // MIB):
            yield b"x" * MIB

    data = io.BytesIO(b"x" * size) if declared else pieces()
    async with http.post("/chat", data=data) as answer:
        assert answer.status == 413
        assert (await answer.json())["error"]["reason"] == "BodyTooLarge"
    status, _ = await post(http, "/chat")
    assert status == 200


async def test_a_page_of_another_origin_is_refused(scene: Scene, http: Http, url: str) -> None:
    await scene.says("hello")
    for origin in ("https://evil.example", "null", "http://127.0.0.1:1"):
        status, body = await post(http, "/chat", headers={"Origin": origin})
        assert (status, body["error"]["reason"]) == (403, "ForeignOrigin")
    status, _ = await post(http, "/chat", headers={"Origin": url})
    assert status == 200


async def test_a_caller_that_is_not_on_this_machine_is_refused(scene: Scene, http: Http) -> None:
    await scene.says("never")
    for headers, expected in (
        ({"X-Forwarded-For": "127.0.0.1"}, (401, "NotLocal")),
        ({"Forwarded": "for=10.0.0.1"}, (401, "NotLocal")),
        ({"Host": "rebound.example:8080"}, (403, "ForeignHost")),
    ):
        status, body = await post(http, "/chat", headers=headers)
        assert (status, body["error"]["reason"]) == expected
        assert status != 401 or "kubectl port-forward" in body["error"]["message"]


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (ModelError("no key", reason="ModelAuth"), 502),
        (ModelError("too slow", reason="ModelTimeout"), 504),
        (ModelError("slow down", reason="ModelRateLimited"), 429),
    ],
)
async def test_a_run_that_fails_is_an_error_status_with_its_ids(
    scene: Scene, http: Http, error: ModelError, status: int
) -> None:
    await scene.says(error)
    got, body = await post(http, "/chat")
    assert got == status
    assert body["error"]["message"] == str(error)
    assert body["error"]["run_id"].startswith("run-")


async def test_when_the_models_provider_asks_for_patience_so_does_the_door(scene: Scene, http: Http) -> None:
    await scene.says(ModelError("slow down", reason="ModelRateLimited", retry_after=6.2), ModelError("no key"))
    async with http.post("/chat", json={"message": "hi"}) as answer:
        assert (answer.status, answer.headers["Retry-After"]) == (429, "7")
    async with http.post("/chat", json={"message": "hi"}) as answer:
        assert (answer.status, answer.headers.get("Retry-After")) == (502, None)


async def test_past_a_rate_the_answer_is_429_with_retry_after(scene: Scene, http: Http) -> None:
    await scene.says("hello", limits=Limits(requests_per_minute=1))
    await post(http, "/chat")
    async with http.post("/chat", json={"message": "hi"}) as answer:
        assert answer.status == 429
        assert answer.headers["Retry-After"] == "60"


async def test_a_run_that_waits_for_a_person_is_202_with_what_it_asks(scene: Scene, http: Http) -> None:
    def write(text: str) -> str:
        """Write it down."""
        return text

    await scene.says([("write", {"text": "x"})], "done", tools=[Asking(write)])
    status, body = await post(http, "/chat")
    assert status == 202
    assert body["status"] == "waiting"
    (approval,) = body["approvals"]
    status, _ = await post(
        http, f"/runs/{body['run_id']}/approve", {"approval_id": approval["id"], "decision": "allow"}
    )
    assert status == 200
    run = await scene.host.open(body["run_id"])
    await asyncio.wait_for(run.wait(), 5)
    assert run.answer() == "done"


async def test_a_path_or_method_that_is_not_served_says_what_is(scene: Scene, http: Http) -> None:
    await scene.says("never")
    async with http.get("/nope") as answer:
        assert answer.status == 404
        assert "see /agents" in (await answer.json())["error"]["message"]
    async with http.get("/chat") as answer:
        assert answer.status == 405


async def test_metrics_have_the_names_dashboards_expect(scene: Scene, http: Http) -> None:
    await scene.says("hello", labels={"app": "support"})
    await post(http, "/chat")
    async with http.get("/metrics") as answer:
        text = await answer.text()
    assert 'agent_request_total{agent="support",agent_name="a"} 1.0' in text
    assert 'agent_request_duration_seconds_bucket{agent="support",agent_name="a",le="0.1"} 1.0' in text
    assert 'llm_tokens_total{agent="support",agent_name="a",model="m",token_type="prompt"} 10.0' in text
    assert 'agent_active_sessions{agent="support",agent_name="a"} 0.0' in text


async def test_health_and_the_list_of_agents_are_open(scene: Scene, http: Http) -> None:
    await scene.says("hello")
    async with http.get("/health") as answer:
        assert (await answer.json())["status"] == "ok"
    async with http.get("/agents") as answer:
        (agent,) = (await answer.json())["agents"]
        assert (agent["name"], agent["status"]) == ("a", "Ready")
