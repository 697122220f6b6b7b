"""Requests that were made to hurt: each is refused in words, and none is a fault of ours."""

from __future__ import annotations

import asyncio

import aiohttp
import pytest

from kadre.server import protocol
from tests.support.scene import Scene

pytestmark = pytest.mark.requirement("bodies-bounded")

Http = aiohttp.ClientSession
DEEP = "[" * 100_000 + "]" * 100_000


@pytest.mark.parametrize("path", ["/chat", "/runs", "/v1/chat/completions"])
async def test_json_that_is_nested_too_deeply_is_refused(scene: Scene, http: Http, path: str) -> None:
    await scene.says()
    async with http.post(path, data=f'{{"message": "hi", "messages": [], "tools": {DEEP}, "more": {DEEP}}}') as answer:
        assert answer.status == 400
        assert "nested too deeply" in await answer.text()


@pytest.mark.parametrize("origin", ["http://[", "http://[::1", "null"])
async def test_an_origin_that_is_no_origin_is_foreign(http: Http, origin: str) -> None:
    async with http.get("/agents", headers={"Origin": origin}) as answer:
        assert (answer.status, (await answer.json())["error"]["reason"]) == (403, "ForeignOrigin")


@pytest.mark.parametrize("limit", ["²", "9" * 5000, "0", "-1", "", "1e3"])
async def test_a_limit_that_is_no_number_of_runs_is_refused(http: Http, limit: str) -> None:
    async with http.get("/runs", params={"limit": limit}) as answer:
        assert (answer.status, (await answer.json())["error"]["reason"]) == (400, "BadLimit")


@pytest.mark.parametrize("last_id", ["9" * 5000, "3.", "3.x", "-1"])
async def test_a_last_event_id_that_is_none_begins_at_the_beginning(scene: Scene, http: Http, last_id: str) -> None:
    await scene.says("hello")
    async with http.post("/runs", json={"message": "hi", "run_id": "run-1"}) as answer:
        assert answer.status == 202
    live = await scene.host.open("run-1")
    await asyncio.wait_for(live.wait(), 5)
    async with http.get("/runs/run-1/events", headers={"Last-Event-ID": last_id}) as answer:
        assert (await answer.text()).startswith("id: 1\n")


async def answer_to(http: Http, head: bytes) -> bytes:
    """What is answered to a request of which no more than that comes."""
    assert http._base_url is not None
    reader, writer = await asyncio.open_connection(http._base_url.host, http._base_url.port)
    writer.write(head)
    try:
        async with asyncio.timeout(5):
            return await reader.read(65536)
    finally:
        writer.transport.abort()


@pytest.mark.parametrize("head", [b"GET /" + b"x" * 1_000_000, b"GET /health HTTP/1.1\r\n" + b"A: b\r\n" * 200_000])
async def test_headers_that_do_not_end_are_refused(http: Http, head: bytes) -> None:
    assert b"400 Bad Request" in await answer_to(http, head)


@pytest.mark.parametrize("head", [b"", b"GET /health HTTP/1.1\r\nHost: loc"])
async def test_headers_that_do_not_arrive_in_time_are_refused(
    http: Http, monkeypatch: pytest.MonkeyPatch, head: bytes
) -> None:
    monkeypatch.setattr(protocol, "HEAD_SECONDS", 0.1)
    assert b"did not arrive within 0.1 s" in await answer_to(http, head)


async def test_a_connection_with_whole_requests_outlives_the_time_for_headers(
    scene: Scene, http: Http, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(protocol, "HEAD_SECONDS", 0.1)
    go_on = asyncio.Event()
    await scene.says(go_on, "late but whole")
    asked = asyncio.create_task(http.post("/chat", json={"message": "hi"}))
    asyncio.get_running_loop().call_later(0.3, go_on.set)
    assert (await (await asked).json())["response"] == "late but whole"


async def test_a_message_that_says_nothing_is_refused(scene: Scene, http: Http) -> None:
    await scene.says()
    for path in ("/chat", "/runs"):
        async with http.post(path, json={"message": "", "agent": "a"}) as answer:
            assert (answer.status, (await answer.json())["error"]["reason"]) == (400, "InvalidBody")


async def test_a_body_far_larger_than_headers_may_be_is_read_and_so_is_the_request_after_it(
    scene: Scene, http: Http
) -> None:
    await scene.says("one", "two")
    for expected in ("one", "two"):
        async with http.post("/chat", json={"message": "x" * 1_000_000}) as answer:
            assert (await answer.json())["response"] == expected


async def test_a_status_that_no_run_has_is_refused_with_those_there_are(http: Http) -> None:
    async with http.get("/runs", params={"status": "stuck"}) as answer:
        assert (answer.status, (await answer.json())["error"]["reason"]) == (400, "BadStatus")
        assert "queued, running, waiting, completed" in (await answer.json())["error"]["message"]
