"""The wire under MCP sessions, against a web server that answers byte for byte as told."""

from __future__ import annotations

import asyncio
import base64
import gzip
from collections import deque
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from pathlib import Path

import httpx2
import pytest

from kadre.engine.tools import mcp_bounds, mcp_wire
from kadre.engine.tools.mcp_http import AWAY, EXPIRED, LOST, UNSENT, Client

LATER = b"(later)"
JSON = "content-type: application/json"
EVENTS = "content-type: text/event-stream\r\ntransfer-encoding: chunked"


def response(status: str, *headers: str, body: bytes = b"") -> bytes:
    """A response as it goes over the wire."""
    return "\r\n".join([f"HTTP/1.1 {status}", *headers, f"content-length: {len(body)}", "", ""]).encode() + body


class Server:
    """A web server that gives these answers in turn, and, where it `ends`, ends its side after the last."""

    def __init__(self, answers: Iterable[bytes], ends: bool) -> None:
        self._answers = deque(answers)
        self._ends = ends
        self.heads: list[str] = []
        self.connections = 0
        self.go_on = asyncio.Event()
        """What is to come of an answer may come."""
        self.said = asyncio.Event()
        """What was to come has come."""
        self.left = asyncio.Event()
        """A client closed its connection."""
        self.port = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection."""
        self.connections += 1
        try:
            while head := (await reader.readuntil(b"\r\n\r\n")).decode():
                self.heads.append(head)
                await reader.readexactly(int(head.lower().partition("content-length: ")[2].split()[0]))
                first, *rest = self._answers.popleft().split(LATER)
                writer.write(first)
                for part in rest:
                    await self.go_on.wait()
                    self.go_on.clear()
                    writer.write(part)
                    self.said.set()
                if self._ends and not self._answers:
                    writer.write_eof()
        except asyncio.IncompleteReadError:
            self.left.set()
        finally:
            writer.close()


@asynccontextmanager
async def saying(*answers: bytes, ends: bool = False) -> AsyncIterator[Server]:
    """That server, listening."""
    server = Server(answers, ends)
    listening = await asyncio.start_server(server.serve, "127.0.0.1", 0)
    server.port = listening.sockets[0].getsockname()[1]
    try:
        yield server
    finally:
        listening.close()


@asynccontextmanager
async def client(heard: Server, user: str = "") -> AsyncIterator[tuple[Client, str]]:
    """A client of that server, and the address to use."""
    url = f"http://{user}127.0.0.1:{heard.port}/mcp"
    async with Client(url, {"x-key": "k"}) as http:
        yield http, url


async def test_a_body_is_unpacked_and_handed_on_without_what_was_true_of_its_packing() -> None:
    packed = response("200 OK", JSON, "content-encoding: gzip", body=gzip.compress(b'{"a":1}'))
    async with saying(packed) as heard, client(heard) as (http, url):
        got = await http.post(url, json={})
        assert (got.status_code, got.json(), got.reason_phrase) == (200, {"a": 1}, "OK")
        assert "content-encoding" not in got.headers
        assert "accept-encoding: identity" in heard.heads[0].lower()
        assert "x-key: k" in heard.heads[0].lower()


async def test_a_small_body_that_unpacks_to_a_large_one_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mcp_wire, "MESSAGE_LIMIT", mcp_bounds.MESSAGE_LIMIT // 16)
    bomb = response("200 OK", JSON, "content-encoding: gzip", body=gzip.compress(b" " * mcp_bounds.MESSAGE_LIMIT))
    async with saying(bomb) as heard, client(heard) as (http, url):
        error = (await http.post(url, json={})).json()["error"]
        assert error["code"] == LOST
        assert "more than 1 MB" in error["message"]


async def test_a_name_and_password_in_an_address_are_sent_as_a_header() -> None:
    async with saying(response("200 OK", JSON, body=b"{}")) as heard, client(heard, "ann:s%20t@") as (http, url):
        await http.post(url, json={})
        assert f"authorization: basic {base64.b64encode(b'ann:s t').decode()}".lower() in heard.heads[0].lower()


async def test_a_redirect_is_told_not_followed() -> None:
    elsewhere = response("307 Temporary Redirect", "location: /other")
    async with saying(elsewhere) as heard, client(heard) as (http, url):
        got = await http.post(url, json={})
        assert got.next_request is not None
        assert got.next_request.url.path == "/other"
        assert len(heard.heads) == 1


async def test_one_connection_serves_one_answered_stream_after_the_other() -> None:
    """The SDK leaves a stream as soon as its answer is there, before the end of the body has been read."""
    event = b"data: {}\n\n"
    whole = f"HTTP/1.1 200 OK\r\n{EVENTS}\r\n\r\n{len(event):x}\r\n".encode() + event + LATER + b"\r\n0\r\n\r\n"
    async with saying(*[whole] * 5) as heard, client(heard) as (http, url):
        for _ in range(5):
            async with http.stream("POST", url, json={}) as got:
                assert await anext(got.aiter_bytes()) == event
                heard.go_on.set()
        assert heard.connections == 1


async def test_a_stream_that_goes_on_is_left_at_once_by_closing_its_connection() -> None:
    endless = f"HTTP/1.1 200 OK\r\n{EVENTS}\r\n\r\n3\r\n: \n\r\n".encode()
    async with saying(endless) as heard, client(heard) as (http, url):
        async with asyncio.timeout(5):
            async with http.stream("POST", url, json={}) as got:
                assert await anext(got.aiter_bytes()) == b": \n"
            await heard.left.wait()


async def test_a_server_elsewhere_is_reached_through_the_environments_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    async with saying(response("200 OK", JSON, body=b"{}")) as proxy:
        monkeypatch.setenv("HTTP_PROXY", f"http://127.0.0.1:{proxy.port}")
        for name in ("NO_PROXY", "no_proxy", "http_proxy"):
            monkeypatch.delenv(name, raising=False)
        async with Client("http://mcp.example.test/mcp", {}) as http:
            await http.post("http://mcp.example.test/mcp", json={})
        assert proxy.heads[0].startswith("POST http://mcp.example.test/mcp ")


@pytest.mark.parametrize(
    "answer",
    [b"SSH-2.0-OpenSSH_9\r\n\r\n", b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n{", b""],
    ids=["no HTTP", "broken off", "nothing"],
)
async def test_an_answer_that_is_none_is_a_lost_one(answer: bytes) -> None:
    async with saying(answer, ends=True) as heard, client(heard) as (http, url):
        error = (await http.post(url, json={})).json()["error"]
    assert error["code"] == LOST
    assert "the connection was lost" in error["message"]


async def test_what_a_server_says_unasked_is_nobodys_answer() -> None:
    """It would be taken for the answer to the next call, whose id the SDK puts in the place of whatever is there."""
    twice = response("200 OK", JSON, body=b'{"call":1}') + LATER + response("200 OK", JSON, body=b'{"call":1}')
    async with saying(twice, response("200 OK", JSON, body=b'{"call":2}')) as heard, client(heard) as (http, url):
        assert (await http.post(url, json={})).json() == {"call": 1}
        heard.go_on.set()
        await heard.said.wait()
        assert (await http.post(url, json={})).json() == {"call": 2}
        assert heard.connections == 2


@pytest.mark.parametrize("kind", [JSON, "content-type: text/event-stream"])
async def test_a_body_that_is_malformed_further_on_is_lost_and_not_waited_for(kind: str) -> None:
    head = f"HTTP/1.1 200 OK\r\n{kind}\r\ntransfer-encoding: chunked\r\n\r\n3\r\n: \n\r\n".encode()
    async with saying(head + LATER + b"zz\r\n", ends=True) as heard, client(heard) as (http, url):
        async with asyncio.timeout(5):
            heard.go_on.set()
            try:
                async with http.stream("POST", url, json={}) as got:
                    said = b"".join([part async for part in got.aiter_bytes()])
            except httpx2.TransportError as error:
                said = str(error).encode()
        assert b"breaks off" in said or b"lost" in said


async def test_an_odd_answer_to_one_call_leaves_the_others_alone() -> None:
    odd = "HTTP/1.1 503 Indisponibl\xe9\r\ncontent-length: 0\r\n\r\n".encode("latin-1")
    large = response("401 Unauthorized", f"set-cookie: {'x' * 20_000}")
    switched = b"HTTP/1.1 101 Switching Protocols\r\nupgrade: x\r\nconnection: upgrade\r\n\r\n"
    async with saying(odd, large, switched) as heard, client(heard) as (http, url):
        codes = [(await http.post(url, json={})).json()["error"]["code"] for _ in range(3)]
    assert codes == [AWAY, EXPIRED, LOST]


@pytest.mark.parametrize("header", ["k\n", "k\0"])
async def test_a_key_that_cannot_be_a_header_is_told_as_such(header: str) -> None:
    async with saying() as heard, client(heard) as (http, url):
        error = (await http.post(url, json={}, headers={"x-key": header})).json()["error"]
    assert "control character" in error["message"].lower()
    assert heard.heads == []


async def test_credentials_of_other_programs_are_not_sent(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / ".netrc").write_text("default login bob password pw\n")
    (tmp_path / ".netrc").chmod(0o600)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("NETRC", str(tmp_path / ".netrc"))
    async with saying(response("200 OK", JSON, body=b"{}")) as proxy:
        monkeypatch.setenv("ALL_PROXY", f"127.0.0.1:{proxy.port}")
        for name in ("HTTP_PROXY", "http_proxy", "NO_PROXY", "no_proxy"):
            monkeypatch.delenv(name, raising=False)
        async with Client("http://mcp.example.test/mcp", {}) as http:
            await http.post("http://mcp.example.test/mcp", json={})
        assert "authorization" not in proxy.heads[0].lower()


@pytest.mark.parametrize("url", ["ftp://127.0.0.1/mcp", "http://exa_mple..com/", f"http://{'a' * 70}.test/"])
async def test_an_address_that_nothing_can_be_sent_to_was_sent_nothing(url: str) -> None:
    async with Client("http://127.0.0.1/mcp", {}) as http:
        assert (await http.post(url, json={})).json()["error"]["code"] == UNSENT


async def test_a_proxy_that_cannot_be_used_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", "socks5://127.0.0.1:9")
    monkeypatch.delenv("NO_PROXY", raising=False)
    async with Client("http://mcp.example.test/mcp", {}) as http:
        error = (await http.post("http://mcp.example.test/mcp", json={})).json()["error"]
    assert error["code"] == UNSENT
    assert "socks5" in error["message"]
