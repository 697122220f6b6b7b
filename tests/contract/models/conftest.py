"""A model's API of each kind on a real port: what it says by script, and what it was asked."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from kadre.base.errors import ModelError
from kadre.base.retry import Backoff
from kadre.engine import http_client
from kadre.engine.messages import Message, ToolSpec
from kadre.engine.models import factory
from kadre.engine.models.http import Wire
from kadre.engine.models.port import Model, ModelRequest, Reply, TextDelta
from kadre.plan.types import ModelPlan, SecretRef
from tests.contract.models.apis import Anthropic, Api, Bedrock, OpenAI
from tests.contract.tools.conftest import open_files, until

Answer = Callable[[web.Request], Awaitable[web.StreamResponse]]
KEY = "sk-the-key-of-the-tests"
NOW = datetime(2026, 11, 21, 12, 0, 0, tzinfo=UTC)
HELLO = (Message("user", "hello"),)
ADD = (ToolSpec(name="add", description="Add numbers"),)


class Secrets:
    """Values by the variable that holds them: those of `.env`, and those the process exports."""

    def __init__(self, values: dict[str, str]) -> None:
        self.values = values
        self.exported: dict[str, str] = {}

    def read(self, ref: SecretRef) -> str | None:
        return self.values.get(ref.env) or (self.exported.get(ref.env) if ref.exported else None)


class Patience:
    """A clock on which every wait is over at once, and is remembered."""

    def __init__(self) -> None:
        self.waits: list[float] = []
        self.then: Callable[[], Awaitable[None]] | None = None

    def now(self) -> datetime:
        return NOW + timedelta(seconds=sum(self.waits))

    def monotonic(self) -> float:
        return sum(self.waits)

    async def sleep(self, seconds: float) -> None:
        self.waits.append(seconds)
        if self.then is not None:
            await self.then()


class Site:
    """A server of one API, and the model that is called there.

    `answers` are given one a request, the last of them for ever; `asked` and `bodies` are what came.
    """

    def __init__(self, api: Api, http: aiohttp.ClientSession) -> None:
        self.api = api
        self.clock = Patience()
        self.secrets = Secrets({"API_KEY": KEY})
        self.answers: list[Answer] = []
        self.asked: list[web.Request] = []
        self.bodies: list[Any] = []
        self.port = 0
        self._http = http
        self._runner: web.AppRunner | None = None
        self._released = asyncio.Event()

    async def start(self) -> None:
        """Listen, on the port it had before."""
        app = web.Application(client_max_size=64 * 1024 * 1024)
        app.router.add_post("/{path:.*}", self._answer)
        self._runner = web.AppRunner(app, shutdown_timeout=1)
        await self._runner.setup()
        listening = web.TCPSite(self._runner, "127.0.0.1", self.port)
        await listening.start()
        self.port = self._runner.addresses[0][1]

    async def stop(self) -> None:
        """Let go whoever hangs, and close."""
        self._released.set()
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        self.asked.append(request)
        self.bodies.append(await request.json())
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        return await answer(request)

    @property
    def base(self) -> str:
        """The endpoint as a plan has it."""
        return f"http://127.0.0.1:{self.port}{self.api.base}"

    def plan(self, **fields: Any) -> ModelPlan:
        """A plan for the model here."""
        key = SecretRef(env="API_KEY")
        usual = {"endpoint": self.base, "api_key": key, "region": self.api.region, "timeout": 20.0}
        return ModelPlan(provider=self.api.provider, model=self.api.model, **{**usual, **fields})

    def model(self, backoff: Backoff | None = None, **fields: Any) -> Model:
        """The adapter, with a plan of these fields."""
        plan = self.plan(**fields)
        return self.api.adapter(plan, self.secrets, Wire(self._http, plan.timeout, backoff=backoff, clock=self.clock))

    def chosen(self, **fields: Any) -> Model:
        """What a host makes of a plan of these fields."""
        return factory.build(self.plan(**fields), self.secrets, self._http, lambda _: [])

    # -- answers -----------------------------------------------------------------------------------------------------

    async def well(self, request: web.Request) -> web.StreamResponse:
        """What was asked for: `Hello there`, or a call of the tool that is offered; streamed or not."""
        body = self.bodies[-1]
        tool = "tools" in body or "toolConfig" in body
        if not self.api.streams(request, body):
            return web.json_response(self.api.called() if tool else self.api.said())
        pieces = self.api.called_pieces() if tool else self.api.said_pieces()
        return await self.pieces(*pieces)(request)

    def pieces(self, *pieces: bytes, then: str = "end") -> Answer:
        """A stream of these; `then`: it ends, hangs, is no HTTP any more (`garble`), or is cut off (`abort`)."""

        async def answer(request: web.Request) -> web.StreamResponse:
            response = web.StreamResponse(headers={"Content-Type": self.api.stream_type})
            await response.prepare(request)
            for piece in pieces:
                await response.write(piece)
            if then == "hang":
                await self._released.wait()
            elif then == "abort":
                assert request.transport is not None
                request.transport.abort()
            elif then == "garble":
                assert request.transport is not None
                request.transport.write(b"zz\r\n")
                await self._released.wait()
            return response

        return answer

    async def calling_in_words(self, request: web.Request) -> web.StreamResponse:
        """A call of `add`, as a text."""
        return web.json_response(self.api.said('{"tool": "add", "arguments": {"a": 1}}'))

    async def silence(self, request: web.Request) -> web.StreamResponse:
        """Nothing, until the end."""
        await self._released.wait()
        return web.Response()

    async def closing(self, request: web.Request) -> web.StreamResponse:
        """No answer: the connection closes."""
        assert request.transport is not None
        request.transport.abort()
        return web.Response()

    def refusing(self, status: int, said: str = "not today", **headers: str) -> Answer:
        """A status, with the API's own kind of error."""

        async def answer(request: web.Request) -> web.StreamResponse:
            return web.json_response(self.api.error(said), status=status, headers=headers)

        return answer


def raw(body: bytes, content_type: str = "application/json", status: int = 200) -> Answer:
    """Just that."""

    async def answer(request: web.Request) -> web.StreamResponse:
        return web.Response(body=body, content_type=content_type, status=status)

    return answer


async def call(model: Model, *, stream: bool, tools: tuple[ToolSpec, ...] = ()) -> tuple[list[str], Reply]:
    """Say hello: the texts as they came, and the reply."""
    texts: list[str] = []
    replies: list[Reply] = []
    async for piece in model.call(ModelRequest(HELLO, tools, stream)):
        if isinstance(piece, TextDelta):
            texts.append(piece.text)
        else:
            replies.append(piece)
    (reply,) = replies
    return texts, reply


async def failure(model: Model, *, stream: bool) -> ModelError:
    """Say hello: why it failed, which holds no key."""
    with pytest.raises(ModelError) as error:
        await call(model, stream=stream)
    assert KEY not in str(error.value)
    assert error.value.reason.startswith("Model")
    return error.value


APIS: dict[str, type[Api]] = {"openai": OpenAI, "anthropic": Anthropic, "bedrock": Bedrock}
MARKED = [
    "openai",
    "anthropic",
    pytest.param("bedrock", marks=pytest.mark.needs("bedrock")),
]


async def running(api: Api) -> AsyncIterator[Site]:
    """A site of that API; afterwards no connection is in use, and no task or file is left."""
    files, tasks = open_files(), asyncio.all_tasks()
    async with http_client.session() as http:
        connector = http.connector
        assert connector is not None
        site = Site(api, http)
        await site.start()
        yield site
        await until(lambda: not connector._acquired)
        await site.stop()
    await until(lambda: asyncio.all_tasks() <= tasks | {asyncio.current_task()})
    await until(lambda: len(open_files()) <= len(files))


@pytest.fixture(params=MARKED)
async def site(request: pytest.FixtureRequest) -> AsyncIterator[Site]:
    """One of each API."""
    async for found in running(APIS[request.param]()):
        yield found


@pytest.fixture
async def openai() -> AsyncIterator[Site]:
    """One of OpenAI's."""
    async for found in running(OpenAI()):
        yield found


@pytest.fixture
async def bedrock(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Site]:
    """One of Bedrock's, on a machine without AWS settings."""
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    for name in ("AWS_SHARED_CREDENTIALS_FILE", "AWS_CONFIG_FILE"):
        monkeypatch.setenv(name, "/nonexistent")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    async for found in running(Bedrock()):
        yield found


def dumped(value: Any) -> str:
    """All of it as text, to look for what must not be there."""
    return json.dumps(value, default=str)
