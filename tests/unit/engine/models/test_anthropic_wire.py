"""Requests as Anthropic's Messages API wants them, and its answers read."""

from __future__ import annotations

import json
from typing import Any

import pytest
from multidict import CIMultiDict
from yarl import URL

from kadre.base.errors import ModelError
from kadre.engine.messages import Message, ToolCall, ToolSpec, Usage
from kadre.engine.models import anthropic_wire
from kadre.engine.models.port import Reply
from kadre.engine.models.target import Target
from kadre.engine.sse import ServerEvent

SENT = Target(URL("http://model"), CIMultiDict())


def body(*messages: Message) -> Any:
    return json.loads(b"{" + anthropic_wire.encode_messages(messages)[1:] + b"}")


def whole(**answer: Any) -> Reply:
    return anthropic_wire.decode_reply(json.dumps(answer).encode(), SENT)


def streamed(*events: dict[str, Any]) -> tuple[list[str], Reply]:
    stream = anthropic_wire.Stream(SENT)
    texts = [stream.accept(ServerEvent(event["type"], json.dumps(event).encode())) for event in events]
    return [text for text in texts if text], stream.reply()


def start(**usage: int) -> dict[str, Any]:
    return {"type": "message_start", "message": {"role": "assistant", "content": [], "usage": usage}}


def begin(index: int, **block: Any) -> dict[str, Any]:
    return {"type": "content_block_start", "index": index, "content_block": block}


def delta(index: int, **fields: Any) -> dict[str, Any]:
    return {"type": "content_block_delta", "index": index, "delta": fields}


def end(reason: str, **usage: int) -> dict[str, Any]:
    return {"type": "message_delta", "delta": {"stop_reason": reason}, "usage": usage}


STOP = {"type": "message_stop"}


def test_every_sampling_field_is_on_the_wire() -> None:
    params = {"temperature": 0.0, "max_tokens": 64, "top_p": 0.9, "top_k": 40, "stop": ["END"], "seed": 7}
    assert json.loads(anthropic_wire.encode_head("claude", params) + b"}") == {
        "model": "claude",
        "temperature": 0.0,
        "max_tokens": 64,
        "top_p": 0.9,
        "top_k": 40,
        "stop_sequences": ["END"],
    }


def test_max_tokens_is_always_sent_because_the_api_insists() -> None:
    assert json.loads(anthropic_wire.encode_head("claude", {}) + b"}")["max_tokens"] == 4096


def test_the_system_prompt_stands_apart_and_is_left_out_where_there_is_none() -> None:
    assert body(Message("system", "a"), Message("user", "hi"), Message("system", "b"))["system"] == "a\n\nb"
    assert body(Message("user", "hi")) == {"messages": [{"role": "user", "content": [{"type": "text", "text": "hi"}]}]}


def test_results_of_one_turn_and_what_the_user_then_says_are_one_message() -> None:
    said = body(
        Message("user", "go"),
        Message("assistant", "on it", (ToolCall("c1", "add", '{"a":1}'), ToolCall("c2", "now"))),
        Message("tool", "2", tool_call_id="c1"),
        Message("tool", "", tool_call_id="c2"),
        Message("user", "and?"),
    )["messages"]
    assert [message["role"] for message in said] == ["user", "assistant", "user"]
    assert said[1]["content"] == [
        {"type": "text", "text": "on it"},
        {"type": "tool_use", "id": "c1", "name": "add", "input": {"a": 1}},
        {"type": "tool_use", "id": "c2", "name": "now", "input": {}},
    ]
    assert said[2]["content"] == [
        {"type": "tool_result", "tool_use_id": "c1", "content": "2"},
        {"type": "tool_result", "tool_use_id": "c2", "content": ""},
        {"type": "text", "text": "and?"},
    ]


def test_blank_texts_which_the_api_refuses_are_left_out() -> None:
    said = body(Message("user", "a"), Message("assistant", " \n"), Message("user", "b"))["messages"]
    assert said == [{"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]}]


@pytest.mark.parametrize("written", ["{oops", "[1]", "1", "[" * 100_000])
def test_arguments_that_are_no_object_are_shown_to_the_model_as_it_wrote_them(written: str) -> None:
    (message,) = body(Message("assistant", "", (ToolCall("c1", "add", written),)))["messages"]
    assert message["content"][0]["input"] == {"malformed": written}


def test_a_tool_is_offered_with_its_schema() -> None:
    tools = json.loads(b"{" + anthropic_wire.encode_tools([ToolSpec(name="add", description="Add")])[1:] + b"}")
    assert tools == {
        "tools": [{"name": "add", "description": "Add", "input_schema": {"type": "object", "properties": {}}}]
    }


def test_a_whole_answer_becomes_a_reply_whose_usage_counts_what_was_cached() -> None:
    reply = whole(
        content=[
            {"type": "thinking", "thinking": "hm"},
            {"type": "text", "text": "Sure."},
            {"type": "tool_use", "id": "c1", "name": "add", "input": {"a": [1, "é"]}},
        ],
        stop_reason="tool_use",
        usage={
            "input_tokens": 3,
            "output_tokens": 4,
            "cache_read_input_tokens": 10,
            "cache_creation_input_tokens": None,
        },
    )
    (call,) = reply.message.tool_calls
    assert (call.id, call.name, json.loads(call.arguments)) == ("c1", "add", {"a": [1, "é"]})
    assert (reply.message.content, reply.usage, reply.finish_reason) == ("Sure.", Usage(13, 4, 17), "tool_calls")


@pytest.mark.parametrize(
    ("said", "meant"),
    [
        ("end_turn", "stop"),
        ("stop_sequence", "stop"),
        ("max_tokens", "length"),
        ("model_context_window_exceeded", "length"),
        ("tool_use", "tool_calls"),
        ("refusal", "content_filter"),
        ("something_new", "stop"),
    ],
)
def test_finish_reasons_have_one_vocabulary(said: str, meant: str) -> None:
    assert whole(content=[], stop_reason=said).finish_reason == meant
    assert streamed(start(), end(said), STOP)[1].finish_reason == meant


def test_a_stream_gives_text_as_it_comes_then_calls_and_usage() -> None:
    texts, reply = streamed(
        start(input_tokens=5, output_tokens=1),
        begin(0, type="text", text=""),
        {"type": "ping"},
        delta(0, type="text_delta", text="He"),
        delta(0, type="text_delta", text="y"),
        {"type": "content_block_stop", "index": 0},
        begin(1, type="tool_use", id="c1", name="add", input={}),
        begin(2, type="tool_use", id="c2", name="now", input={}),
        delta(1, type="input_json_delta", partial_json=""),
        delta(1, type="input_json_delta", partial_json='{"a"'),
        delta(1, type="input_json_delta", partial_json=":1}"),
        begin(3, type="thinking", thinking=""),
        delta(3, type="thinking_delta", thinking="hm"),
        end("tool_use", output_tokens=9),
        STOP,
    )
    assert texts == ["He", "y"]
    calls = (ToolCall("c1", "add", '{"a":1}'), ToolCall("c2", "now", "{}"))
    assert reply == Reply(Message("assistant", "Hey", calls), Usage(5, 9, 14), "tool_calls")


def test_arguments_that_come_in_one_piece_are_taken() -> None:
    _, reply = streamed(start(), begin(0, type="tool_use", id="c1", name="add", input={"a": 1}), end("tool_use"), STOP)
    assert json.loads(reply.message.tool_calls[0].arguments) == {"a": 1}


@pytest.mark.parametrize(
    ("kind", "reason", "retryable"),
    [
        ("overloaded_error", "ModelUnavailable", True),
        ("api_error", "ModelUnavailable", True),
        ("rate_limit_error", "ModelRateLimited", True),
        ("authentication_error", "ModelUnauthorized", False),
        ("invalid_request_error", "ModelBadRequest", False),
        ("something_new", "ModelFailed", False),
    ],
)
def test_an_error_in_the_stream_is_what_its_status_would_have_been(kind: str, reason: str, retryable: bool) -> None:
    with pytest.raises(ModelError, match="so it is") as error:
        streamed(start(), {"type": "error", "error": {"type": kind, "message": "so it is"}})
    assert (error.value.reason, error.value.retryable) == (reason, retryable)


def test_a_stream_without_a_stop_reason_is_broken() -> None:
    with pytest.raises(ModelError, match="before its end") as broken:
        streamed(start(), delta(0, type="text_delta", text="x"))
    assert broken.value.reason == "ModelStreamBroken"


def test_an_answer_without_content_is_invalid() -> None:
    with pytest.raises(ModelError, match="without a message"):
        whole(hello="world")
