"""The OpenAI adapter against real servers: what reaches the wire, and what becomes of everything that goes wrong."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import aclosing, asynccontextmanager
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from kadre.base.clock import SystemClock
from kadre.base.errors import ModelError
from kadre.engine.messages import Message, ToolSpec, Usage
from kadre.engine.models import http
from kadre.engine.models.openai import OpenAIModel
from kadre.engine.models.port import ModelRequest, Reply, TextDelta
from kadre.plan.types import ModelPlan, SecretRef

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
MESSAGE = {"role": "assistant", "content": "all well"}
OVER = web.AppKey("over", asyncio.Event)
USAGE = {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5}
ASK = ModelRequest((Message("user", "Hello!"),))
ASK_STREAM = ModelRequest((Message("user", "Hello!"),), stream=True)


class NoWaiting(SystemClock):
    """Real time, but a wait is only written down."""

    def __init__(self) -> None:
        self.waits: list[float] = []

    async def sleep(self, seconds: float) -> None:
        self.waits.append(seconds)


class Keys:
    """One key, that may be rotated."""

    def __init__(self, key: str | None = None) -> None:
        self.key = key

    def read(self, ref: SecretRef) -> str | None:
        return self.key


class Endpoint:
    """A model API that handles one request after the other as told; the last handler stays."""

    def __init__(self, *handlers: Handler) -> None:
        self.handlers = list(handlers)
        self.bodies: list[Any] = []
        self.headers: list[Any] = []
        self.peers: set[Any] = set()
        self.clock = NoWaiting()
        self.keys = Keys()
        self.asked = asyncio.Event()
        self.url = ""
        self.session: aiohttp.ClientSession

    async def handle(self, request: web.Request) -> web.StreamResponse:
        self.bodies.append(await request.json())
        self.asked.set()
        self.headers.append(request.headers)
        assert request.transport is not None
        self.peers.add(request.transport.get_extra_info("peername"))
        handler = self.handlers.pop(0) if len(self.handlers) > 1 else self.handlers[0]
        return await handler(request)

    def model(self, **plan: Any) -> OpenAIModel:
        fields = {"provider": "openai", "model": "m", "endpoint": self.url, "timeout": 5.0, **plan}
        wire = http.Wire(self.session, fields["timeout"], clock=self.clock)
        return OpenAIModel(ModelPlan(**fields), self.keys, wire)


@asynccontextmanager
async def endpoint(*handlers: Handler) -> AsyncIterator[Endpoint]:
    """Serve one; afterwards every connection is back or gone, and no task is left."""
    tasks = asyncio.all_tasks()
    found = Endpoint(*handlers)
    application = web.Application(client_max_size=16 * 1024 * 1024)
    application[OVER] = asyncio.Event()
    application.router.add_post("/v1/chat/completions", found.handle)
    runner = web.AppRunner(application, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    found.url = f"http://127.0.0.1:{runner.addresses[0][1]}/v1"
    connector = aiohttp.TCPConnector(limit=0)
    try:
        async with aiohttp.ClientSession(connector=connector) as found.session:
            yield found
            assert not connector._acquired
        application[OVER].set()  # what hangs, ends, so that a task left over is ours
        ended = asyncio.all_tasks() - tasks
        assert not ended or not (await asyncio.wait(ended, timeout=5))[1]
    finally:
        await runner.cleanup()


async def whole(_: web.Request) -> web.StreamResponse:
    return web.json_response({"choices": [{"message": MESSAGE, "finish_reason": "stop"}], "usage": USAGE})


def status(code: int, message: str = "no", **headers: str) -> Handler:
    async def answer(_: web.Request) -> web.StreamResponse:
        return web.json_response({"error": {"message": message}}, status=code, headers=headers)

    return answer


def streaming(*parts: bytes, cut: bool = False, hang: bool = False) -> Handler:
    async def answer(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        response.enable_chunked_encoding()
        await response.prepare(request)
        for part in parts:
            await response.write(part)
        if hang:
            await request.app[OVER].wait()
        if cut and request.transport is not None:
            request.transport.close()
        return response

    return answer


async def hanging(request: web.Request) -> web.StreamResponse:
    await request.app[OVER].wait()
    return web.Response()


async def cutting(request: web.Request) -> web.StreamResponse:
    assert request.transport is not None
    request.transport.close()
    return web.Response()


TEXT = b'data: {"choices":[{"delta":{"content":"all "}}]}\r\n\r\n'
LAST = b'data: {"choices":[{"delta":{"content":"well"},"finish_reason":"stop"}]}\n\n'
COUNT = b'data: {"choices":[],"usage":{"prompt_tokens":3,"completion_tokens":2}}\n\n'
DONE = b"data: [DONE]\n\n"


async def collect(model: OpenAIModel, request: ModelRequest = ASK) -> list[TextDelta | Reply]:
    async with aclosing(model.call(request)) as pieces:
        return [piece async for piece in pieces]


async def failure(model: OpenAIModel, request: ModelRequest = ASK) -> ModelError:
    with pytest.raises(ModelError) as caught:
        await asyncio.wait_for(collect(model, request), 20)
    return caught.value


def said(pieces: list[TextDelta | Reply]) -> tuple[str, Usage]:
    last = pieces[-1]
    assert isinstance(last, Reply)
    return last.message.content, last.usage


async def test_every_sampling_field_header_and_tool_reaches_the_wire() -> None:
    params = {"temperature": 0.1, "max_tokens": 9, "top_p": 0.9, "top_k": 5, "frequency_penalty": 0.2,
              "presence_penalty": 0.3, "stop": ["END"], "seed": 7}  # fmt: skip
    async with endpoint(whole) as api:
        api.keys.key = "sk-first"
        model = api.model(params=params, headers={"X-Team": "blue"}, api_key=SecretRef(env="KEY"))
        tools = (ToolSpec(name="now", parameters={"type": "object"}),)
        pieces = await collect(model, ModelRequest(ASK.messages, tools))
        api.keys.key = "sk-second"
        await collect(model)
        assert said(pieces) == ("all well", Usage(3, 2, 5))
        function = {"name": "now", "description": "", "parameters": {"type": "object"}}
        messages = [{"role": "user", "content": "Hello!"}]
        sent = {"model": "m", "messages": messages, **params}
        assert api.bodies == [{**sent, "tools": [{"type": "function", "function": function}]}, sent]
        assert [headers["Authorization"] for headers in api.headers] == ["Bearer sk-first", "Bearer sk-second"]
        assert api.headers[0]["X-Team"] == "blue"


async def test_a_stream_gives_text_then_the_reply_and_its_connection_is_used_again() -> None:
    async with endpoint(streaming(TEXT, LAST, COUNT, DONE)) as api:
        model = api.model()
        for _ in range(3):
            pieces = await collect(model, ASK_STREAM)
            assert pieces[:-1] == [TextDelta("all "), TextDelta("well")]
            assert said(pieces) == ("all well", Usage(3, 2, 5))
        assert api.bodies[0]["stream_options"] == {"include_usage": True}
        assert len(api.peers) == 1


async def test_an_end_of_stream_that_is_not_told_but_clear_is_accepted() -> None:
    async with endpoint(streaming(TEXT, LAST)) as api:
        assert said(await collect(api.model(), ASK_STREAM))[0] == "all well"


async def test_a_peer_that_keeps_a_finished_stream_open_does_not_hold_up_the_reply() -> None:
    async with endpoint(streaming(LAST, DONE, hang=True)) as api:
        assert said(await asyncio.wait_for(collect(api.model(), ASK_STREAM), 3))[0] == "well"


@pytest.mark.parametrize("code", [408, 429, 500, 503])
async def test_a_passing_failure_is_tried_again(code: int) -> None:
    async with endpoint(status(code), whole) as api:
        assert said(await collect(api.model()))[0] == "all well"
        assert (len(api.bodies), len(api.clock.waits)) == (2, 1)


async def test_retry_after_is_waited_for_and_one_too_long_is_told_at_once() -> None:
    async with endpoint(status(429, **{"Retry-After": "3"}), status(429, "slow down", **{"Retry-After": "600"})) as api:
        error = await failure(api.model())
        assert (error.reason, error.retry_after, api.clock.waits) == ("ModelRateLimited", 600.0, [3.0])
        assert "slow down" in str(error)


async def test_failing_for_ever_is_an_error_after_four_tries() -> None:
    async with endpoint(status(500, "out of order")) as api:
        error = await failure(api.model())
        assert (error.reason, error.status, error.retryable) == ("ModelUnavailable", 500, True)
        assert len(api.bodies) == 4


async def test_a_refusal_is_not_tried_again() -> None:
    async with endpoint(status(400, "context too long")) as api:
        assert (await failure(api.model())).reason == "ModelBadRequest"
        assert len(api.bodies) == 1


async def test_a_connection_that_closes_without_an_answer_is_tried_again() -> None:
    async with endpoint(cutting, whole) as api:
        assert said(await collect(api.model()))[0] == "all well"


async def test_nobody_listening_is_told_with_the_address() -> None:
    async with endpoint(whole) as api:
        error = await failure(api.model(endpoint="http://127.0.0.1:1/v1"))
        assert (error.reason, len(api.clock.waits)) == ("ModelUnavailable", 3)
        assert "127.0.0.1:1" in str(error)


@pytest.mark.parametrize("request_", [ASK, ASK_STREAM], ids=["whole", "streamed"])
async def test_a_model_that_says_nothing_fails_at_its_timeout_and_is_not_asked_again(request_: ModelRequest) -> None:
    async with endpoint(hanging) as api:
        error = await failure(api.model(timeout=0.2), request_)
        assert (error.reason, len(api.bodies)) == ("ModelTimeout", 1)


async def test_a_model_that_stops_in_the_middle_fails_at_its_timeout() -> None:
    async with endpoint(streaming(TEXT, hang=True)) as api:
        assert (await failure(api.model(timeout=0.2), ASK_STREAM)).reason == "ModelTimeout"


@pytest.mark.parametrize("cut", [True, False], ids=["dropped", "ended"])
async def test_a_stream_that_ends_too_early_is_broken_and_not_asked_for_again(cut: bool) -> None:
    async with endpoint(streaming(TEXT, cut=cut)) as api:
        assert (await failure(api.model(), ASK_STREAM)).reason == "ModelStreamBroken"
        assert len(api.bodies) == 1


async def test_a_stream_that_breaks_before_its_first_text_is_asked_for_again() -> None:
    async with endpoint(streaming(b": hello\n\n", cut=True), streaming(LAST, DONE)) as api:
        assert said(await collect(api.model(), ASK_STREAM))[0] == "well"


@pytest.mark.parametrize(
    "junk", [b"data: {no json\n\n", b"data: \xff\n\n", b'data: {"choices":1}\n\n', b"data: " + b"[" * 9999]
)
async def test_a_stream_that_cannot_be_read_is_an_error(junk: bytes) -> None:
    async with endpoint(streaming(TEXT, junk + b"\n\n")) as api:
        assert (await failure(api.model(), ASK_STREAM)).reason == "ModelAnswerInvalid"


@pytest.mark.parametrize("body", [b"<html>", b"{}", b"[" * 99999])
async def test_an_answer_that_cannot_be_read_is_an_error(body: bytes) -> None:
    async def junk(_: web.Request) -> web.StreamResponse:
        return web.Response(body=body)

    async with endpoint(junk) as api:
        assert (await failure(api.model())).reason == "ModelAnswerInvalid"


@pytest.mark.parametrize("request_", [ASK, ASK_STREAM], ids=["whole", "streamed"])
async def test_an_endless_answer_is_cut_off(request_: ModelRequest) -> None:
    filler = b": " + b"x" * 65536 + b"\n"
    async with endpoint(streaming(*[filler] * (http.MAX_ANSWER // 65536 + 1))) as api:
        assert (await failure(api.model(), request_)).reason == "ModelAnswerTooLarge"


async def test_an_option_the_endpoint_refuses_is_left_out_from_then_on() -> None:
    refused = status(400, "Unrecognized request argument supplied: stream_options")
    async with endpoint(refused, streaming(LAST, DONE)) as api:
        model = api.model()
        await collect(model, ASK_STREAM)
        await collect(model, ASK_STREAM)
        assert ["stream_options" in body for body in api.bodies] == [True, False, False]
        assert api.clock.waits == []


async def test_max_tokens_takes_the_name_the_endpoint_wants_from_then_on() -> None:
    refused = status(400, "Unsupported parameter: 'max_tokens'. Use 'max_completion_tokens' instead.")
    async with endpoint(refused, whole) as api:
        model = api.model(params={"max_tokens": 9})
        await collect(model)
        await collect(model)
        names = ["max_tokens" if "max_tokens" in body else "max_completion_tokens" for body in api.bodies]
        assert names == ["max_tokens", "max_completion_tokens", "max_completion_tokens"]


async def test_a_model_that_insists_on_refusing_is_not_asked_for_ever() -> None:
    async with endpoint(status(400, "max_completion_tokens and stream_options are refused")) as api:
        assert (await failure(api.model(), ASK_STREAM)).status == 400
        assert len(api.bodies) == 3


async def test_closing_a_stream_early_drops_its_connection() -> None:
    async with endpoint(streaming(TEXT, hang=True)) as api:
        pieces = api.model().call(ASK_STREAM)
        assert await anext(pieces) == TextDelta("all ")
        await pieces.aclose()


async def test_cancelling_a_call_drops_its_connection() -> None:
    async with endpoint(hanging) as api:
        task = asyncio.create_task(collect(api.model()))
        await asyncio.wait_for(api.asked.wait(), 5)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task


async def test_many_calls_at_once_are_all_answered_and_share_connections() -> None:
    async with endpoint(whole) as api:
        model = api.model()
        for _ in range(2):
            found = await asyncio.gather(*(collect(model) for _ in range(64)))
            assert {said(pieces)[0] for pieces in found} == {"all well"}
        assert len(api.peers) <= 64


async def test_a_body_of_megabytes_is_sent_without_a_warning() -> None:
    async with endpoint(whole) as api:
        request = ModelRequest((Message("user", "x" * 3_000_000),))
        assert said(await collect(api.model(), request))[0] == "all well"


async def test_a_key_that_is_refused_is_not_told() -> None:
    async with endpoint(status(401, "Incorrect API key provided: sk-very-secret")) as api:
        api.keys.key = "sk-very-secret"
        error = await failure(api.model(api_key=SecretRef(env="OPENAI_API_KEY")))
        assert "sk-very-secret" not in str(error)
        assert "OPENAI_API_KEY" in str(error)
