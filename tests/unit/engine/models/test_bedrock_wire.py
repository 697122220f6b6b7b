"""Requests as Bedrock's Converse wants them, its answers and its binary stream read."""

from __future__ import annotations

import contextlib
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from multidict import CIMultiDict
from yarl import URL

from kadre.base.errors import ModelError
from kadre.engine.messages import Message, ToolCall, ToolSpec, Usage
from kadre.engine.models import bedrock_wire
from kadre.engine.models.bedrock_aws import Frames
from kadre.engine.models.port import Reply
from kadre.engine.models.target import Target
from tests.support.eventstream import event, exception, message, packed

pytestmark = pytest.mark.needs("bedrock")

STREAM = [
    event("messageStart", role="assistant"),
    event("contentBlockDelta", contentBlockIndex=0, delta={"text": "Hé"}, p="abc"),
    event("contentBlockDelta", contentBlockIndex=0, delta={"text": "y"}),
    event("contentBlockDelta", contentBlockIndex=1, delta={"reasoningContent": {"text": "hm"}}),
    event("contentBlockStart", contentBlockIndex=2, start={"toolUse": {"toolUseId": "c1", "name": "add"}}),
    event("contentBlockStart", contentBlockIndex=3, start={"toolUse": {"toolUseId": "c2", "name": "now"}}),
    event("contentBlockDelta", contentBlockIndex=2, delta={"toolUse": {"input": '{"a"'}}),
    event("contentBlockDelta", contentBlockIndex=2, delta={"toolUse": {"input": ":1}"}}),
    event("contentBlockStop", contentBlockIndex=2),
    event("somethingNew", x=1),
    event("messageStop", stopReason="tool_use"),
    event("metadata", usage={"inputTokens": 5, "outputTokens": 9, "totalTokens": 14}, metrics={"latencyMs": 1}),
]
REPLY = Reply(
    Message("assistant", "Héy", (ToolCall("c1", "add", '{"a":1}'), ToolCall("c2", "now", "{}"))),
    Usage(5, 9, 14),
    "tool_calls",
)
SENT = Target(URL("http://model"), CIMultiDict())


def body(*messages: Message) -> Any:
    return json.loads(b"{" + bedrock_wire.encode_messages(messages) + b"}")


def whole(content: list[Any], reason: str = "end_turn", **usage: int) -> Reply:
    answer = {"output": {"message": {"role": "assistant", "content": content}}, "stopReason": reason, "usage": usage}
    return bedrock_wire.decode_reply(json.dumps(answer).encode(), SENT)


def streamed(*chunks: bytes) -> tuple[list[str], Reply]:
    frames, stream = Frames(), bedrock_wire.Stream(SENT)
    texts = [stream.accept(frame) for chunk in chunks for frame in frames.feed(chunk)]
    return [text for text in texts if text], stream.reply()


def test_every_sampling_field_it_has_is_on_the_wire() -> None:
    params = {"temperature": 0.0, "max_tokens": 64, "top_p": 0.9, "stop": ["END"], "seed": 7}
    assert json.loads(b"{" + bedrock_wire.encode_config(params)[1:] + b"}") == {
        "inferenceConfig": {"temperature": 0.0, "maxTokens": 64, "topP": 0.9, "stopSequences": ["END"]}
    }
    assert bedrock_wire.encode_config({}) == b""


def test_messages_are_blocks_with_the_system_prompt_apart() -> None:
    said = body(
        Message("system", "be brief"),
        Message("user", "go"),
        Message("assistant", "", (ToolCall("c1", "add", '{"a":1}'), ToolCall("c2", "now"))),
        Message("tool", "2", tool_call_id="c1"),
        Message("tool", " ", tool_call_id="c2"),
    )
    assert said == {
        "system": [{"text": "be brief"}],
        "messages": [
            {"role": "user", "content": [{"text": "go"}]},
            {
                "role": "assistant",
                "content": [
                    {"toolUse": {"toolUseId": "c1", "name": "add", "input": {"a": 1}}},
                    {"toolUse": {"toolUseId": "c2", "name": "now", "input": {}}},
                ],
            },
            {
                "role": "user",
                "content": [
                    {"toolResult": {"toolUseId": "c1", "content": [{"text": "2"}]}},
                    {"toolResult": {"toolUseId": "c2", "content": [{"text": "(no output)"}]}},
                ],
            },
        ],
    }


def test_a_tool_is_offered_with_its_schema_and_no_empty_description() -> None:
    schema = {"type": "object", "properties": {"a": {"type": "integer"}}}
    tools = [ToolSpec(name="add", description="Add", parameters=schema), ToolSpec(name="now")]
    assert json.loads(b"{" + bedrock_wire.encode_tools(tools)[1:] + b"}")["toolConfig"]["tools"] == [
        {"toolSpec": {"name": "add", "description": "Add", "inputSchema": {"json": schema}}},
        {"toolSpec": {"name": "now", "inputSchema": {"json": {"type": "object", "properties": {}}}}},
    ]


def test_a_whole_answer_becomes_a_reply_with_usage() -> None:
    content = [{"text": "Sure."}, {"toolUse": {"toolUseId": "c1", "name": "add", "input": {"a": 1}}}]
    reply = whole(content, "tool_use", inputTokens=3, outputTokens=4, totalTokens=17, cacheReadInputTokens=10)
    call = ToolCall("c1", "add", '{"a":1}')
    assert reply == Reply(Message("assistant", "Sure.", (call,)), Usage(13, 4, 17), "tool_calls")


@pytest.mark.parametrize(
    ("said", "meant"),
    [
        ("end_turn", "stop"),
        ("stop_sequence", "stop"),
        ("max_tokens", "length"),
        ("tool_use", "tool_calls"),
        ("guardrail_intervened", "content_filter"),
        ("content_filtered", "content_filter"),
        ("something_new", "stop"),
    ],
)
def test_finish_reasons_have_one_vocabulary(said: str, meant: str) -> None:
    assert whole([], said).finish_reason == meant
    assert streamed(event("messageStop", stopReason=said))[1].finish_reason == meant


def test_a_stream_gives_text_as_it_comes_then_calls_and_usage() -> None:
    assert streamed(*STREAM) == (["Hé", "y"], REPLY)


@given(st.lists(st.integers(0, len(b"".join(STREAM)))))
def test_any_chunking_gives_the_same_reply(cuts: list[int]) -> None:
    wire, cuts = b"".join(STREAM), sorted(cuts)
    chunks = [wire[start:end] for start, end in zip([0, *cuts], [*cuts, len(wire)], strict=True)]
    assert streamed(*chunks)[1] == REPLY


@pytest.mark.parametrize(
    ("name", "reason", "retryable"),
    [
        ("throttlingException", "ModelRateLimited", True),
        ("serviceUnavailableException", "ModelUnavailable", True),
        ("internalServerException", "ModelUnavailable", True),
        ("modelTimeoutException", "ModelUnavailable", True),
        ("modelStreamErrorException", "ModelStreamBroken", True),
        ("validationException", "ModelBadRequest", False),
        ("somethingNewException", "ModelFailed", False),
    ],
)
def test_an_exception_in_the_stream_is_what_its_status_would_have_been(name: str, reason: str, retryable: bool) -> None:
    with pytest.raises(ModelError, match="so it is") as error:
        streamed(exception(name, "so it is"))
    assert (error.value.reason, error.value.retryable) == (reason, retryable)


def test_an_error_message_of_the_stream_itself_is_told() -> None:
    headers = {":message-type": "error", ":error-code": "InternalFailure", ":error-message": "so it is"}
    with pytest.raises(ModelError, match="so it is"):
        streamed(message(headers, b""))


def test_bytes_that_are_no_event_stream_are_refused() -> None:
    with pytest.raises(ValueError, match="Checksum"):
        Frames().feed(b"<html>this is not an event stream</html>")


@given(st.binary(max_size=40), st.integers(0, 40))
def test_headers_that_make_no_sense_are_refused_whatever_their_checksum(rest: bytes, length: int) -> None:
    with contextlib.suppress(ValueError):
        Frames().feed(packed(length, rest))
    with pytest.raises(ValueError, match="a broken event stream"):
        Frames().feed(packed(4, b"\x01a\xff\0"))


def test_a_stream_without_a_stop_reason_is_broken() -> None:
    with pytest.raises(ModelError, match="before its end") as broken:
        streamed(*STREAM[:3])
    assert broken.value.reason == "ModelStreamBroken"
