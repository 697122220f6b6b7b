"""What a stream says becomes text and a reply, or one clear error."""

from __future__ import annotations

import contextlib
import json
from collections.abc import AsyncGenerator
from typing import Any, TypeVar

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from multidict import CIMultiDict
from yarl import URL

from kadre.base.errors import ModelError, ProblemError
from kadre.engine import sse
from kadre.engine.models import anthropic_wire, bedrock_wire, http, openai_wire, target
from kadre.engine.models.bedrock_wire import Frame
from kadre.engine.models.port import Reply, TextDelta
from kadre.engine.models.target import Target
from kadre.engine.sse import ServerEvent

E = TypeVar("E")
KEY = "sk-very-secret-key"


def sent() -> Target:
    headers = CIMultiDict({"Authorization": f"Bearer {KEY}", "Content-Type": "application/json"})
    return Target(URL("http://me:pass@model/v1/chat?key=hush"), headers, "the API key in the Secret openai")


def test_an_endpoint_that_is_no_address_is_a_problem_to_mend() -> None:
    with pytest.raises(ProblemError, match="http://model:99999"):
        target.address("http://model:99999", "/chat/completions")
    assert str(target.address("http://model/v1/", "/chat/completions")) == "http://model/v1/chat/completions"


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
    max_leaves=6,
)


# Making the values is most of its work: on a busy machine that alone takes longer than a health check allows for.
@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(st.dictionaries(st.sampled_from(FIELDS), VALUES, max_size=4), max_size=3))
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
