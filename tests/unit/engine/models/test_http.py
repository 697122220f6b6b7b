"""What an answer, or its absence, means: reasons, whether to try again, and that no secret comes back."""

from __future__ import annotations

import contextlib
import json
from collections.abc import AsyncGenerator
from datetime import UTC, datetime
from typing import Any, TypeVar

import pytest
from hypothesis import given
from hypothesis import strategies as st
from multidict import CIMultiDict
from yarl import URL

from kadre.base.errors import ModelError, ProblemError
from kadre.engine.models import anthropic_wire, bedrock_wire, failures, http, keys, openai_wire, sse, target
from kadre.engine.models.bedrock_wire import Frame
from kadre.engine.models.port import Reply, TextDelta
from kadre.engine.models.sse import ServerEvent
from kadre.engine.models.target import Target
from kadre.plan.types import ModelPlan, SecretRef
from kadre.server import errors

NOW = datetime(2026, 11, 21, 12, 0, 0, tzinfo=UTC)
E = TypeVar("E")
KEY = "sk-very-secret-key"
REF = SecretRef(namespace="default", name="openai", key="api-key", env="OPENAI_API_KEY")


class Secrets:
    def __init__(self, value: str | None) -> None:
        self.value = value

    def read(self, ref: SecretRef) -> str | None:
        return self.value


def sent() -> Target:
    headers = CIMultiDict({"Authorization": f"Bearer {KEY}", "Content-Type": "application/json"})
    return Target(URL("http://me:pass@model/v1/chat?key=hush"), headers, "the API key in the Secret openai")


def refused(status: int, body: bytes = b"", headers: dict[str, str] | None = None) -> ModelError:
    return failures.of_status(status, CIMultiDict(headers or {}), body, sent(), NOW)


@pytest.mark.parametrize(
    ("status", "reason", "retryable"),
    [
        (400, "ModelBadRequest", False),
        (401, "ModelUnauthorized", False),
        (403, "ModelUnauthorized", False),
        (404, "ModelNotFound", False),
        (408, "ModelUnavailable", True),
        (413, "ModelBadRequest", False),
        (418, "ModelFailed", False),
        (429, "ModelRateLimited", True),
        (500, "ModelUnavailable", True),
        (503, "ModelUnavailable", True),
        (529, "ModelUnavailable", True),
        (307, "ModelBadEndpoint", False),
    ],
)
def test_a_status_has_a_reason_and_tells_whether_to_try_again(status: int, reason: str, retryable: bool) -> None:
    error = refused(status)
    assert (error.reason, error.retryable, error.status) == (reason, retryable, status)


def test_a_spent_quota_is_not_tried_again() -> None:
    error = refused(429, b'{"error":{"message":"no money","code":"insufficient_quota"}}')
    assert (error.reason, error.retryable) == ("ModelRateLimited", False)


@pytest.mark.parametrize(
    "body",
    [
        b'{"error":{"message":"so it is","type":"x"}}',
        b'{"error":"so it is"}',
        b'{"message":"so it is"}',
        b'{"Message":"so it is"}',
        b'{"detail":"so it is"}',
    ],
)
def test_the_apis_own_sentence_is_told_in_whatever_shape_it_comes(body: bytes) -> None:
    assert str(refused(400, body)) == "http://model/v1/chat answered 400: so it is"


@pytest.mark.parametrize("body", [b"<html>long page</html>", b"", b"[" * 100_000, b'{"error":{"message":[1]}}', b"7"])
def test_anything_else_in_an_error_body_is_dropped(body: bytes) -> None:
    assert str(refused(500, body)) == "http://model/v1/chat answered 500"


def test_a_refused_key_is_named_by_its_place_and_never_told() -> None:
    error = refused(401, f'{{"error":{{"message":"Incorrect API key provided: {KEY}"}}}}'.encode())
    text = "http://model/v1/chat answered 401: Incorrect API key provided: *** (check the API key in the Secret openai)"
    assert str(error) == text


def test_a_key_is_named_by_where_it_comes_from() -> None:
    plan = ModelPlan(provider="openai", model="gpt", endpoint="https://api.openai.com/v1", api_key=REF)
    assert keys.told(plan, "k") == (
        "the API key in key api-key of Secret default/openai or the line OPENAI_API_KEY of .env"
    )
    assert keys.told(plan, None).startswith("why there is no API key in key api-key")
    with pytest.raises(ModelError, match="no API key for openai model gpt: there is no value in key api-key") as error:
        keys.read(plan, Secrets(None))
    assert error.value.reason == "ModelKeyMissing"


def test_a_key_may_end_in_a_line_break_as_files_do_but_hold_none() -> None:
    plan = ModelPlan(provider="openai", model="gpt", endpoint="http://model/v1", api_key=REF)
    assert keys.read(plan, Secrets("k\n")) == "k"
    assert keys.read(plan, Secrets("\n")) is None
    with pytest.raises(ModelError, match="such as a line break"):
        keys.read(plan, Secrets("k\nEvil: yes"))


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"Retry-After": "7"}, 7.0),
        ({"Retry-After": "0.5"}, 0.5),
        ({"Retry-After": "-3"}, 0.0),
        ({"retry-after-ms": "250", "Retry-After": "7"}, 0.25),
        ({"Retry-After": "Sat, 21 Nov 2026 12:00:30 GMT"}, 30.0),
        ({"Retry-After": "Sat, 21 Nov 2026 11:00:00 GMT"}, 0.0),
        ({"Retry-After": "soon"}, None),
        ({"Retry-After": "nan"}, None),
        ({"Retry-After": "Sat, 21 Nov 99999999999999999999 12:00:30 GMT"}, None),
        ({"Retry-After": "Sat, 21 Nov 2026 12:00:30 +9999999999999"}, None),
        ({}, None),
    ],
)
def test_retry_after_is_read_in_every_form(headers: dict[str, str], seconds: float | None) -> None:
    assert refused(429, headers=headers).retry_after == seconds


@pytest.mark.parametrize(
    "said",
    [
        "registry.ollama.ai/library/smollm2:135m does not support tools",
        "This model doesn't support tool use in streaming mode.",
        '"auto" tool choice requires --enable-auto-tool-choice and --tool-call-parser to be set',
    ],
)
def test_a_model_without_tools_has_a_reason_of_its_own(said: str) -> None:
    body = b'{"error":{"message":"%s"}}' % said.replace('"', "'").encode()
    assert refused(400, body).reason == "ModelToolsUnsupported"


def test_an_endpoint_that_is_no_address_is_a_problem_to_mend() -> None:
    with pytest.raises(ProblemError, match="http://model:99999"):
        target.address("http://model:99999", "/chat/completions")
    assert str(target.address("http://model/v1/", "/chat/completions")) == "http://model/v1/chat/completions"


def test_the_doors_know_the_reasons_they_map() -> None:
    mapped = {reason for reason in errors._FAILED_STATUS if reason.startswith("Model")}
    assert mapped == {failures.TIMEOUT, failures.RATE_LIMITED}


async def chunks(*parts: bytes) -> AsyncGenerator[bytes, None]:
    for part in parts:
        yield part


async def test_text_comes_before_the_rest_of_the_stream_is_read() -> None:
    wire = chunks(
        b'data: {"choices":[{"delta":{"content":"a"}}]}\n\n',
        b'data: {"choices":[{"delta":{},"finish_reason":"stop"}]}\n\ndata: [DONE]\n\n',
    )
    pieces = http.pieces(wire, sse.Parser().feed, openai_wire.Stream(sent()))
    assert await anext(pieces) == TextDelta("a")
    reply = await anext(pieces)
    assert isinstance(reply, Reply)
    assert reply.message.content == "a"


@pytest.mark.parametrize("data", [b"{oops", b"\xff\xfe", b"[" * 100_000, b"7", b'{"choices":7}'])
async def test_events_that_cannot_be_read_are_one_clear_error(data: bytes) -> None:
    wire = chunks(b"data: " + data + b"\n\n")
    with pytest.raises(ModelError, match="cannot be read") as error:
        await anext(http.pieces(wire, sse.Parser().feed, openai_wire.Stream(sent())))
    assert (error.value.reason, error.value.retryable) == ("ModelAnswerInvalid", False)


# Fields of all three APIs, and kinds of Anthropic's events.
FIELDS = ["choices", "delta", "content", "tool_calls", "function", "arguments", "index", "error", "code", "usage"]
FIELDS += ["type", "message", "content_block", "input", "text", "start", "toolUse", "contentBlockIndex", "stopReason"]
KINDS = ["content_block_delta", "content_block_start", "message_start", "message_delta", "error", "tool_use", "text"]
LEAVES = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5)
VALUES = st.recursive(
    LEAVES | st.sampled_from(KINDS),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(FIELDS), inner, max_size=4),
    max_leaves=12,
)


@given(st.lists(st.dictionaries(st.sampled_from(FIELDS), VALUES, max_size=5), max_size=4))
def test_whatever_a_stream_says_is_a_reply_or_an_error_of_a_kind_we_know(said: list[Any]) -> None:
    data = [json.dumps(value).encode() for value in said]
    events = [ServerEvent("", value) for value in data]
    read(openai_wire.Stream(sent()), events)
    read(anthropic_wire.Stream(sent()), events)
    read(bedrock_wire.Stream(sent()), [Frame("event", "contentBlockDelta", value) for value in data])


def read(stream: http.Assembler[E], events: list[E]) -> None:
    with contextlib.suppress(ValueError, ModelError):  # what `pieces` turns into an error, and what is one
        for event in events:
            assert isinstance(stream.accept(event), str)
        assert isinstance(stream.reply(), Reply)


async def test_a_key_that_an_error_in_a_stream_repeats_is_not_told() -> None:
    error = {"message": f"Incorrect API key provided: {KEY}", "code": 401}
    wire = chunks(f"data: {json.dumps({'error': error})}\n\n".encode())
    with pytest.raises(ModelError, match=r"provided: \*\*\* \(check the API key in the Secret openai\)"):
        await anext(http.pieces(wire, sse.Parser().feed, openai_wire.Stream(sent())))
