"""What a caller at the gateway is told when an agent's pod breaks off, is away, or has gone with what it did."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from urllib.parse import urlsplit

import aiohttp
import openai
import pytest

from kadre.plan.types import AgentKey
from kadre.server.gateway import runs
from kadre.server.identity import Verifier
from tests.doors.test_gateway import A, answered, two
from tests.support.gateway import NOWHERE, gateway
from tests.support.serving import serving

pytestmark = pytest.mark.requirement("gateway-broken-pods")
BEGUN = b'id: 1\nevent: run_started\ndata: {"type":"run_started","seq":1}\n\n'
HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nX-Run-ID: run-1\r\nTransfer-Encoding: chunked\r\n\r\n"


@asynccontextmanager
async def breaking_off(after: bytes) -> AsyncIterator[tuple[str, asyncio.Event]]:
    """A pod that begins streams so; its address, and what ends one."""
    end = asyncio.Event()

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(HEAD + b"%x\r\n%b\r\n" % (len(after), after))
        await end.wait()
        end.clear()
        writer.close()

    async with await asyncio.start_server(answer, "127.0.0.1", 0) as server:
        yield "{}:{}".format(*server.sockets[0].getsockname()), end


async def streamed(http: aiohttp.ClientSession, end: asyncio.Event) -> str:
    """All that came of a stream, which was cut off when something of it was there."""
    said = b""
    asked = http.post("/agents/a/chat", json={"message": "hi"}, headers={"Accept": "text/event-stream"})
    try:
        async with asked as answer:
            async for part in answer.content.iter_any():
                said += part
                end.set()
    except aiohttp.ClientPayloadError:
        return said.decode()
    raise AssertionError(f"it was not cut off: {said!r}")


async def test_the_last_event_of_a_stream_whose_pod_broke_off_says_what_becomes_of_the_run(tmp_path: Path) -> None:
    async with gateway(tmp_path, {"a": []}) as (http, fleet), breaking_off(BEGUN) as (host, end):
        fleet.at[A] = [host]
        said = await streamed(http, end)
        assert said.startswith(BEGUN.decode() + "event: error\ndata: {")
        assert '"reason":"HostFailed","message":"the agent\'s pod broke off; if it has ended, the run is lost' in said
        assert "agent default/a keeps its runs in its pod" in said
        fleet.kept.add(A)
        said = await streamed(http, end)
        assert "the agent's pod broke off; look at /runs/run-1 for what becomes of the run" in said
        end.set()
        client = openai.AsyncOpenAI(base_url=str(http._build_url("/v1")), api_key="any", max_retries=0)
        stream = await client.chat.completions.create(
            model="a", messages=[{"role": "user", "content": "hi"}], stream=True
        )
        with pytest.raises(openai.APIError, match="the agent's pod broke off"):
            async for _ in stream:  # what came before it was cut off is there, or not
                pass
        await client.close()


async def test_nothing_is_added_to_an_event_that_broke_off_in_the_middle(tmp_path: Path) -> None:
    part = BEGUN + b'id: 2\nevent: user_message\ndata: {"type":'
    async with gateway(tmp_path, {"a": []}) as (http, fleet), breaking_off(part) as (host, end):
        fleet.at[A] = [host]
        assert await streamed(http, end) == part.decode()


async def test_a_run_of_a_pod_that_is_away_is_not_said_to_be_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runs, "UNKNOWN_SECONDS", 0)
    one, other = await two(tmp_path)
    async with gateway(tmp_path, {"a": [one], "b": [other]}) as (http, fleet):
        _, reply = await answered(http.post("/agents/a/chat", json={"message": "hi"}))
        run = f"/runs/{reply['run_id']}"
        there = fleet.at[A]
        fleet.at[A] = []
        status, _ = await answered(http.get(run))
        assert status == 200, "one that takes no message more tells what it has"
        for at in ([NOWHERE], []):
            fleet.at[A] = at
            async with http.post(f"{run}/cancel", json={}) as answer:
                assert (answer.status, answer.headers["Retry-After"]) == (503, "5")
                assert "is of agent default/a, of which no pod answers now" in await answer.text()
        fleet.at[A] = [NOWHERE]
        status, told = await answered(http.get("/runs/run-of-nobody"))
        assert (status, told["error"]["reason"]) == (503, "AgentNotReady")
        assert "may be of an agent (default/a), of which no pod answers now" in told["error"]["message"]
        fleet.at[A] = []  # of a pod that somebody has to mend
        assert (await answered(http.get("/runs/run-of-nobody")))[0] == 404
        fleet.kept.add(A)
        assert (await answered(http.get("/runs/run-of-nobody")))[0] == 503, "it may be kept where no pod can look now"
        fleet.at[A] = there
        assert (await answered(http.get(run)))[0] == 200


async def test_a_run_that_is_kept_is_not_said_to_be_none_where_its_pod_is_replaced_while_it_is_asked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, other = await two(tmp_path)
    async with gateway(tmp_path, {"a": [one], "b": [other]}) as (http, fleet):
        fleet.kept.add(A)
        hosts = fleet.hosts
        for before in ([NOWHERE], []):
            seen = [before]

            def replaced(key: AgentKey, seen: list[list[str]] = seen) -> Sequence[str]:
                return seen.pop() if key == A and seen else hosts(key)

            with monkeypatch.context() as patched:
                patched.setattr(fleet, "hosts", replaced)
                status, told = await answered(http.get(f"/runs/run-of-{len(before)}"))
            assert (status, told["error"]["reason"]) == (503, "AgentNotReady")


async def test_a_run_that_went_with_its_pod_is_said_to_be_lost(tmp_path: Path) -> None:
    one, other = await two(tmp_path)
    known = Verifier(tmp_path, "default/a".__eq__)
    async with gateway(tmp_path, {"a": []}) as (http, fleet):
        async with serving(one, known) as url:
            fleet.at[A] = [urlsplit(url).netloc]
            _, reply = await answered(http.post("/agents/a/chat", json={"message": "hi"}))
        run = f"/runs/{reply['run_id']}/events"
        async with serving(other, known) as url:
            fleet.at[A] = [urlsplit(url).netloc]
            for _ in range(2):  # it is not looked for again at once, and what is said stays
                status, told = await answered(http.get(run))
                assert (status, told["error"]["reason"]) == (404, "RunLost")
                assert "agent default/a keeps its runs in its pod (a memory of" in told["error"]["message"]
            fleet.kept.add(A)
            status, told = await answered(http.get(run))
            assert (status, told["error"]["reason"]) == (404, "NoSuchRun")
