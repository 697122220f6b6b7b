"""Endpoints that fail in every way they can: a clear error each, tried again only where that makes sense."""

from __future__ import annotations

import asyncio

import pytest

from kadre.base.errors import ModelError
from kadre.base.retry import Backoff
from kadre.engine.models.port import ModelRequest, TextDelta
from tests.contract.models.conftest import HELLO, KEY, Site, call, failure, raw
from tests.contract.tools.conftest import until

both = pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
PAGE = b"<html><body>Bad gateway</body></html>"


@both
@pytest.mark.parametrize("status", [429, 500, 503, 529])
async def test_a_model_that_is_busy_or_down_is_tried_again(site: Site, status: int, stream: bool) -> None:
    site.answers = [site.refusing(status), site.refusing(status), site.well]
    _, reply = await call(site.model(), stream=stream)
    assert reply.message.content == "Hello there"
    first, second = site.clock.waits
    assert 0 < first < second


@pytest.mark.parametrize(
    ("asked", "waited"), [("2", 2.0), ("Sat, 21 Nov 2026 12:00:03 GMT", 3.0), ("Sat, 21 Nov 2026 11:00:00 GMT", 0.0)]
)
async def test_retry_after_is_honoured(site: Site, asked: str, waited: float) -> None:
    site.answers = [site.refusing(429, **{"Retry-After": asked}), site.well]
    await call(site.model(), stream=True)
    assert site.clock.waits == [waited]


async def test_a_wait_that_is_too_long_is_told_instead(site: Site) -> None:
    site.answers = [site.refusing(429, **{"Retry-After": "90"})]
    error = await failure(site.model(), stream=True)
    assert (error.reason, error.retry_after, len(site.asked)) == ("ModelRateLimited", 90.0, 1)


@both
async def test_a_model_that_is_down_for_ever_is_given_up(site: Site, stream: bool) -> None:
    site.answers = [site.refusing(500)]
    error = await failure(site.model(Backoff(attempts=3)), stream=stream)
    assert (error.reason, error.status, len(site.asked), len(site.clock.waits)) == ("ModelUnavailable", 500, 3, 2)
    assert "answered 500: not today" in str(error)


@both
async def test_a_server_that_comes_up_meanwhile_is_reached(site: Site, stream: bool) -> None:
    site.answers = [site.well]
    model = site.model()
    await site.stop()
    site.clock.then = site.start
    _, reply = await call(model, stream=stream)
    assert (reply.message.content, len(site.clock.waits)) == ("Hello there", 1)


async def test_a_server_that_is_not_there_is_named(site: Site) -> None:
    model = site.model()
    await site.stop()
    error = await failure(model, stream=True)
    assert (error.reason, len(site.clock.waits)) == ("ModelUnavailable", 3)
    assert f"no connection to http://127.0.0.1:{site.port}" in str(error)
    assert "check that it runs" in str(error)


@both
async def test_a_connection_that_closes_without_an_answer_is_tried_again(site: Site, stream: bool) -> None:
    site.answers = [site.closing, site.well]
    _, reply = await call(site.model(), stream=stream)
    assert reply.message.content == "Hello there"


@pytest.mark.parametrize("then", ["end", "abort"])
async def test_nothing_is_tried_again_after_the_first_token(site: Site, then: str) -> None:
    site.answers = [site.pieces(site.api.first_piece(), then=then)]
    texts: list[str] = []

    async def read() -> None:
        async for piece in site.model().call(ModelRequest(HELLO, stream=True)):
            assert isinstance(piece, TextDelta)
            texts.append(piece.text)

    with pytest.raises(ModelError, match=r"broke off.*; send the message again") as error:
        await read()
    assert (error.value.reason, texts, len(site.asked)) == ("ModelStreamBroken", ["Hello"], 1)


async def test_a_stream_that_is_no_http_any_more_is_not_waited_for(site: Site) -> None:
    site.answers = [site.pieces(site.api.first_piece(), then="garble")]
    error = await asyncio.wait_for(failure(site.model(), stream=True), 10)
    assert error.reason in {"ModelAnswerInvalid", "ModelStreamBroken"}


@pytest.mark.parametrize("then", ["end", "abort"])
async def test_a_stream_that_breaks_before_its_first_token_is_tried_again(site: Site, then: str) -> None:
    site.answers = [site.pieces(then=then), site.well]
    texts, _ = await call(site.model(), stream=True)
    assert (texts, len(site.asked)) == (["Hello", " there"], 2)


async def test_an_error_that_comes_in_the_stream_is_tried_again_before_the_first_token(site: Site) -> None:
    site.answers = [site.pieces(site.api.overloaded()), site.well]
    texts, _ = await call(site.model(), stream=True)
    assert texts == ["Hello", " there"]


@both
async def test_a_model_that_hangs_runs_into_its_timeout_and_is_not_tried_again(site: Site, stream: bool) -> None:
    site.answers = [site.silence]
    error = await failure(site.model(timeout=0.1), stream=stream)
    assert (error.reason, len(site.asked)) == ("ModelTimeout", 1)
    assert "sent nothing for 0.1 s" in str(error)


async def test_a_model_that_hangs_in_the_middle_runs_into_its_timeout(site: Site) -> None:
    site.answers = [site.pieces(site.api.first_piece(), then="hang")]
    error = await failure(site.model(timeout=0.1), stream=True)
    assert error.reason == "ModelTimeout"


async def test_a_finished_stream_that_is_kept_open_does_not_hold_up_the_reply(site: Site) -> None:
    site.answers = [site.pieces(*site.api.said_pieces(), then="hang")]
    _, reply = await asyncio.wait_for(call(site.model(), stream=True), 10)
    assert reply.message.content == "Hello there"


async def test_a_stream_that_cannot_be_read_is_an_error(site: Site) -> None:
    site.answers = [site.pieces(site.api.garbage)]
    error = await failure(site.model(), stream=True)
    assert (error.reason, len(site.asked)) == ("ModelAnswerInvalid", 1)


@pytest.mark.parametrize("body", [b"{oops", b"", b"[1]", b"\xff", b"[" * 100_000])
async def test_an_answer_that_is_no_json_is_an_error(site: Site, body: bytes) -> None:
    site.answers = [raw(body)]
    assert (await failure(site.model(), stream=False)).reason == "ModelAnswerInvalid"


@both
async def test_a_web_page_is_no_answer(site: Site, stream: bool) -> None:
    site.answers = [raw(PAGE, "text/html")]
    error = await failure(site.model(), stream=stream)
    assert (error.reason, len(site.asked)) == ("ModelAnswerInvalid", 1)
    assert "answered with a web page; check the model's endpoint" in str(error)


@both
async def test_an_error_page_is_not_repeated(site: Site, stream: bool) -> None:
    site.answers = [raw(PAGE, "text/html", 502)]
    error = await failure(site.model(), stream=stream)
    assert (error.reason, error.status, "html" in str(error)) == ("ModelUnavailable", 502, False)


@pytest.mark.parametrize("told", [True, False], ids=["told before", "found out"])
async def test_an_answer_of_eleven_megabytes_is_refused(site: Site, told: bool) -> None:
    parts = [b'{"x": "', *[b"y" * 65536] * 176, b'"}']
    site.answers = [raw(b"".join(parts)) if told else site.pieces(*parts)]
    error = await failure(site.model(), stream=False)
    assert (error.reason, len(site.asked)) == ("ModelAnswerTooLarge", 1)


async def test_a_stream_of_eleven_megabytes_is_refused(site: Site) -> None:
    site.answers = [site.pieces(*[b": " + b"y" * 65533 + b"\n"] * 176)]
    error = await failure(site.model(), stream=True)
    # Bedrock's stream has no comments: its first piece is already none.
    wanted = "ModelAnswerInvalid" if site.api.provider == "bedrock" else "ModelAnswerTooLarge"
    assert (error.reason, len(site.asked)) == (wanted, 1)


@both
async def test_a_wrong_key_is_named_by_its_place_and_never_told(site: Site, stream: bool) -> None:
    site.answers = [site.refusing(401, f"Incorrect API key provided: {KEY}")]
    error = await failure(site.model(), stream=stream)
    assert (error.reason, len(site.asked)) == ("ModelUnauthorized", 1)
    assert "(check the API key in the line API_KEY of .env)" in str(error)


async def test_a_redirect_is_not_followed(site: Site) -> None:
    site.answers = [site.refusing(307, Location="http://127.0.0.1:1/elsewhere")]
    error = await failure(site.model(), stream=True)
    assert (error.reason, len(site.asked)) == ("ModelBadEndpoint", 1)


async def test_a_model_without_tools_is_told_apart(site: Site) -> None:
    site.answers = [site.refusing(400, "a-model does not support tools")]
    assert (await failure(site.model(), stream=True)).reason == "ModelToolsUnsupported"


@pytest.mark.parametrize("where", ["before", "in"])
async def test_cancelling_a_call_closes_its_connection(site: Site, where: str) -> None:
    answer = site.silence if where == "before" else site.pieces(site.api.first_piece(), then="hang")
    site.answers = [answer]
    begun = asyncio.Event()

    async def read() -> None:
        async for _ in site.model().call(ModelRequest(HELLO, stream=True)):
            begun.set()

    task = asyncio.create_task(read())
    await until(lambda: bool(site.asked) and (where == "before" or begun.is_set()))
    task.cancel()
    await asyncio.wait([task])
    assert task.cancelled()
    await until(lambda: site.asked[0].transport is None or site.asked[0].transport.is_closing())


async def test_an_endpoint_that_knows_no_stream_options_is_asked_without_them_from_then_on(openai: Site) -> None:
    openai.answers = [openai.refusing(400, "Unrecognized request argument supplied: stream_options"), openai.well]
    model = openai.model()
    for _ in range(2):
        _, reply = await call(model, stream=True)
        assert reply.message.content == "Hello there"
    assert ["stream_options" in body for body in openai.bodies] == [True, False, False]
    assert openai.clock.waits == []


async def test_a_model_that_wants_max_completion_tokens_gets_them_from_then_on(openai: Site) -> None:
    said = "Unsupported parameter: 'max_tokens' is not supported. Use 'max_completion_tokens' instead."
    openai.answers = [openai.refusing(400, said), openai.well]
    model = openai.model(params={"max_tokens": 5})
    for stream in (False, True):
        await call(model, stream=stream)
    assert [(body.get("max_tokens"), body.get("max_completion_tokens")) for body in openai.bodies] == [
        (5, None),
        (None, 5),
        (None, 5),
    ]


async def test_an_endpoint_that_refuses_whatever_is_learnt_ends_in_an_error(openai: Site) -> None:
    openai.answers = [openai.refusing(400, "stream_options and max_completion_tokens and all else")]
    error = await failure(openai.model(params={"max_tokens": 5}), stream=True)
    assert (error.reason, len(openai.asked)) == ("ModelBadRequest", 3)
