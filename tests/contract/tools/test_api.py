"""A REST API as a tool, on servers that behave badly."""

from __future__ import annotations

import asyncio
import gzip
import time
import zlib
from typing import Any

import pytest

from kadre.base.clock import FakeClock, SystemClock
from kadre.base.errors import ToolError
from kadre.engine.tools import api_wire
from kadre.engine.tools.api import ApiToolset
from kadre.engine.tools.port import CallContext
from kadre.plan.types import ApiLogin, ApiTool, SecretRef
from tests.contract.tools.conftest import Secrets
from tests.contract.tools.rough_api import Asked, answer, breaks_off, dribbles, never, rough
from tests.support.upping import free_port

pytestmark = pytest.mark.requirement("tool-api")
CONTEXT = CallContext(run_id="run-1", session_id="ses-1", key="run-1/1")
ANY = {"type": "object", "properties": {"n": {"type": "integer"}}}
OK = answer(200, {"ok": True})
REF = SecretRef(name="api", key="k", env="API_K")
SECRET = "the-secret-of-the-api"


class Hasty(SystemClock):
    """A clock that does not wait, and tells for how long it was to."""

    def __init__(self) -> None:
        self.waited: list[float] = []

    async def sleep(self, seconds: float) -> None:
        self.waited.append(seconds)


def tool(endpoint: str, **more: Any) -> ApiToolset:
    given = {name: more.pop(name) for name in ("wire", "clock") if name in more}
    secrets = more.pop("secrets", None) or Secrets(API_K=SECRET)
    return ApiToolset(ApiTool(name="t", endpoint=endpoint, parameters=ANY, **more), secrets, **given)


async def called(toolset: ApiToolset, **arguments: Any) -> str:
    try:
        return (await toolset.call("t", arguments, CONTEXT)).content
    finally:
        await toolset.aclose()


async def failed(toolset: ApiToolset, match: str, **arguments: Any) -> ToolError:
    with pytest.raises(ToolError, match=match) as raised:
        await called(toolset, **arguments)
    return raised.value


async def test_it_is_described_as_what_it_does() -> None:
    for method, reads in (("GET", True), ("HEAD", True), ("POST", False), ("DELETE", False)):
        toolset = tool("http://127.0.0.1:1/x", method=method)
        assert toolset.ready
        (spec,) = await toolset.specs()
        assert (spec.name, spec.read_only, spec.idempotent, spec.ask) == ("t", reads, reads, False)
    (spec,) = await tool("http://h/x?key=1", method="PUT", idempotent=True, description="").specs()
    assert (spec.description, spec.idempotent, spec.parameters) == ("Calls PUT http://h/x", True, ANY)


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE"])
async def test_a_write_whose_connection_breaks_off_was_sent_once_and_is_not_known(method: str) -> None:
    async with rough(breaks_off) as api:
        error = await failed(tool(api.url, method=method, retries=3, clock=Hasty()), "whether it happened is not known")
        assert error.unknown
        assert len(api.asked) == 1


async def test_a_write_that_is_declared_idempotent_is_sent_again_under_the_same_key() -> None:
    async with rough(breaks_off, answer(503), answer(200, {"ok": 1})) as api:
        assert await called(tool(api.url, method="POST", retries=2, idempotent=True, clock=Hasty())) == '{"ok":1}'
        assert [asked.headers["idempotency-key"] for asked in api.asked] == ["run-1/1"] * 3
    async with rough(breaks_off, answer(429)) as api:
        error = await failed(tool(api.url, method="POST", retries=1, idempotent=True, clock=Hasty()), "HTTP 429")
        assert error.unknown  # the first one may have arrived


async def test_a_read_is_sent_again_as_often_as_its_author_says() -> None:
    clock = Hasty()
    async with rough(breaks_off, answer(503, Retry_After="3"), answer(502), OK) as api:
        assert await called(tool(api.url, retries=3, clock=clock)) == '{"ok":true}'
        assert clock.waited[1] == 3.0
    async with rough(answer(503)) as api:
        error = await failed(tool(api.url, retries=1, clock=Hasty()), r"HTTP 503 Reason \(it is not there now: later\)")
        assert (error.unknown, len(api.asked)) == (False, 2)
    async with rough(answer(503, Retry_After="3600")) as api:
        await failed(tool(api.url, retries=5, clock=Hasty()), "HTTP 503")
        assert len(api.asked) == 1


async def test_a_write_that_was_answered_is_not_sent_again() -> None:
    for status in (429, 503):
        async with rough(answer(status, Retry_After="0"), OK) as api:
            error = await failed(tool(api.url, method="POST", retries=3, clock=Hasty()), f"HTTP {status}")
            assert (error.unknown, len(api.asked)) == (False, 1)


async def test_what_was_not_sent_is_tried_again_whatever_it_does() -> None:
    port = free_port()
    error = await failed(tool(f"http://127.0.0.1:{port}", method="POST"), "cannot be reached.*; nothing was changed")
    assert not error.unknown
    async with rough(OK) as other:
        api = rough(OK, port=port)

        class Opening(Hasty):
            async def sleep(self, seconds: float) -> None:
                await api.__aenter__()

        toolset = tool(f"http://127.0.0.1:{port}", method="POST", retries=1, clock=Opening())
        assert await called(toolset, n=1) == '{"ok":true}'
        await api.__aexit__(None, None, None)
        assert other.asked == []


@pytest.mark.parametrize("slow", [never, dribbles])
async def test_a_slow_api_is_waited_for_as_long_as_its_author_says(slow: Any) -> None:
    async with rough(slow) as api:
        for method, unknown in (("GET", False), ("POST", True)):
            began = time.monotonic()
            error = await failed(tool(api.url, method=method, timeout=0.3, retries=5), "did not answer within 0.3 s")
            assert error.unknown == unknown
            assert time.monotonic() - began < 3


async def test_waiting_before_a_retry_is_part_of_the_time() -> None:
    async with rough(answer(503, Retry_After="8")) as api:
        error = await failed(tool(api.url, timeout=0.3, retries=5), "did not answer within 0.3 s")
        assert not error.unknown


async def endless(asked: Asked, writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nTransfer-Encoding: chunked\r\n\r\n")
    while not writer.transport.is_closing():
        writer.write(b"10000\r\n" + b"x" * 65536 + b"\r\n")
        await writer.drain()


async def test_an_answer_is_read_up_to_a_bound_packed_or_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(api_wire, "MAX_ANSWER", 1 << 20)
    bomb = gzip.compress(bytes(64 << 20))
    for large in (
        endless,
        answer(200, b"x" * ((1 << 20) + 1), "text/plain"),
        answer(200, bomb, "text/plain", Content_Encoding="gzip"),
        answer(200, zlib.compress(bytes(8 << 20)), "text/plain", Content_Encoding="deflate"),
    ):
        async with rough(large) as api:
            await failed(tool(api.url), "and was not read; ask for less")
    async with rough(answer(500, b"x" * (8 << 20), "text/plain")) as api:
        assert len(str(await failed(tool(api.url), "HTTP 500"))) < 700


async def test_an_answer_that_was_packed_unasked_is_unpacked() -> None:
    async with rough(answer(200, gzip.compress(b'{"a":1}'), Content_Encoding="gzip")) as api:
        assert await called(tool(api.url)) == '{"a":1}'
        assert api.asked[0].headers["accept-encoding"] == "identity"
    async with rough(answer(200, b"???", Content_Encoding="br")) as api:
        await failed(tool(api.url), "answers packed with br, which was not asked for")
    for broken in (b"no gzip", gzip.compress(b"x" * 1000)[:-9]):
        async with rough(answer(200, broken, "text/plain", Content_Encoding="gzip")) as api:
            await failed(tool(api.url), "answers with what cannot be unpacked")
    async with rough(answer(204, None, Content_Encoding="gzip")) as api:
        assert await called(tool(api.url)) == "done: HTTP 204 Reason"


@pytest.mark.parametrize(
    "words",
    [
        b"what?\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzzz\r\n",
        b"HTTP/1.1 200 OK\r\nX: " + b"x" * 200_000 + b"\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: -5\r\n\r\n",
    ],
)
async def test_what_is_no_http_is_told(words: bytes) -> None:
    async def says(asked: Asked, writer: asyncio.StreamWriter) -> None:
        writer.write(words)
        writer.close()

    async with rough(says) as api:
        assert not (await failed(tool(api.url, timeout=5), "does not speak HTTP|was lost")).unknown
        assert (await failed(tool(api.url, timeout=5, method="POST"), "does not speak HTTP|was lost")).unknown


async def test_a_body_that_breaks_off_is_no_answer() -> None:
    async def half(asked: Asked, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 100\r\n\r\n{")
        await writer.drain()
        writer.transport.abort()

    async with rough(half) as api:
        assert (await failed(tool(api.url, method="POST"), "was lost")).unknown
    async with rough(half, OK) as api:
        assert await called(tool(api.url, retries=1, clock=Hasty())) == '{"ok":true}'


async def test_nothing_of_one_call_is_sent_with_the_next() -> None:
    async with rough(answer(200, {}, Set_Cookie="who=me; Path=/")) as api:
        toolset = tool(api.url)
        await toolset.call("t", {}, CONTEXT)
        await called(toolset)
        assert ["cookie" in asked.headers for asked in api.asked] == [False, False]


async def test_wrong_arguments_are_never_sent() -> None:
    async with rough(OK) as api:
        await failed(tool(api.url), "n: 'x' is not of type 'integer'", n="x")
        assert api.asked == []


@pytest.mark.requirement("tool-api-auth")
async def test_each_login_arrives_and_comes_back_to_nobody() -> None:
    async def echo(asked: Asked, writer: asyncio.StreamWriter) -> None:
        writer.write(answer(200 if asked.method == "GET" else 422, asked.headers))

    logins: list[tuple[dict[str, Any], str, str]] = [
        ({"login": ApiLogin(type="bearer", secret=REF)}, "authorization", f"Bearer {SECRET}"),
        ({"login": ApiLogin(type="basic", secret=REF)}, "authorization", "Basic dGhlLXNlY3JldC1vZi10aGUtYXBp"),
        ({"login": ApiLogin(type="apiKey", secret=REF)}, "x-api-key", SECRET),
        ({"login": ApiLogin(type="apiKey", secret=REF, header="X-K")}, "x-k", SECRET),
        ({"secret_headers": {"X-Mine": REF}}, "x-mine", SECRET),
    ]
    for login, header, value in logins:
        async with rough(echo) as api:
            told = await called(tool(api.url, **login))
            refused = await failed(tool(api.url, method="POST", **login), "HTTP 422")
            assert [asked.headers[header] for asked in api.asked] == [value, value]
            for text in (told, str(refused)):
                assert SECRET not in text
                assert value.rpartition(" ")[2] not in text
                assert "[secret]" in text


@pytest.mark.requirement("tool-api-auth")
async def test_a_secret_is_read_for_every_call_and_must_be_there() -> None:
    secrets = Secrets()
    login = ApiLogin(type="bearer", secret=REF)
    async with rough(OK) as api:
        toolset = tool(api.url, login=login, secrets=secrets)
        with pytest.raises(ToolError, match=r"there is no key k of Secret .*api or the line API_K"):
            await toolset.call("t", {}, CONTEXT)
        secrets.values["API_K"] = "one\r\nX-Evil: 1"
        with pytest.raises(ToolError, match="is not one line of text"):
            await toolset.call("t", {}, CONTEXT)
        secrets.values["API_K"] = "two\n"
        await called(toolset)
        assert [asked.headers["authorization"] for asked in api.asked] == ["Bearer two"]


class Tokens:
    """An authorization server, and an API that knows the tokens it gave last."""

    def __init__(self) -> None:
        self.given = 0
        self.lasts: float | None = 100
        self.form = b""
        self.logins: list[str] = []

    async def token(self, asked: Asked, writer: asyncio.StreamWriter) -> None:
        self.given += 1
        self.form = asked.body
        self.logins.append(asked.headers["authorization"])
        lasts = {} if self.lasts is None else {"expires_in": self.lasts}
        writer.write(answer(200, {"access_token": f"a-token-number-{self.given}", "token_type": "bearer"} | lasts))

    async def api(self, asked: Asked, writer: asyncio.StreamWriter) -> None:
        known = asked.headers["authorization"] == f"Bearer a-token-number-{self.given}"
        writer.write(answer(200, {"said": asked.headers["authorization"]}) if known else answer(401))


def oauth(url: str, **more: Any) -> dict[str, Any]:
    login = ApiLogin(type="oauth", secret=REF, token_url=f"{url}/token", client_id="me:1", **more)
    return {"method": "POST", "login": login}


@pytest.mark.requirement("tool-api-oauth")
async def test_a_token_is_kept_while_it_lasts_and_renewed_once_where_it_is_refused() -> None:
    tokens, clock = Tokens(), FakeClock()
    async with rough(tokens.token) as server, rough(tokens.api) as api:
        toolset = tool(api.url, clock=clock, **oauth(server.url, scopes=("read", "write")))
        together = await asyncio.gather(*(toolset.call("t", {"n": n}, CONTEXT) for n in range(5)))
        assert {output.content for output in together} == {'{"said":"Bearer [secret]"}'}
        assert (tokens.given, tokens.form) == (1, b"grant_type=client_credentials&scope=read+write")
        assert tokens.logins == ["Basic bWUlM0ExOnRoZS1zZWNyZXQtb2YtdGhlLWFwaQ=="]
        await clock.advance(89)
        await toolset.call("t", {}, CONTEXT)
        assert tokens.given == 1
        await clock.advance(2)  # it has less than a tenth of its life before it
        await toolset.call("t", {}, CONTEXT)
        assert tokens.given == 2

        tokens.given = 7  # as after a restart of the server: it knows none of those
        api.asked.clear()
        await toolset.call("t", {}, CONTEXT)
        assert [asked.headers["authorization"][-1] for asked in api.asked] == ["2", "8"]
        api.answers = [answer(401)]
        api.asked.clear()
        error = await failed(toolset, "HTTP 401")
        assert (len(api.asked), error.unknown) == (2, False)


@pytest.mark.requirement("tool-api-oauth")
@pytest.mark.parametrize(
    ("given", "why"),
    [
        (
            answer(401, {"error": "invalid_client"}),
            "which answers 401; check the client's id, its secret and its scopes",
        ),
        (answer(500), "which answers 500"),
        (answer(200, b"<html>"), "its answer holds no token"),
        (answer(200, {"access_token": "a\nb"}), "its token is none that a request can carry"),
        (answer(200, {"access_token": "a", "token_type": "mac"}), "its token is none that a request can carry"),
        (answer(302, Location="http://127.0.0.1/"), "which answers 302"),
        (breaks_off, "was lost"),
    ],
)
async def test_no_token_is_no_call(given: Any, why: str) -> None:
    async with rough(given) as server, rough(OK) as api:
        error = await failed(
            tool(api.url, retries=2, **oauth(server.url)), f"t cannot be called: no token from .*{why}"
        )
        assert (error.unknown, api.asked, len(server.asked)) == (False, [], 1)
        assert SECRET not in str(error)
