"""Messages, tools and sampling fields in OpenAI's JSON, and its answers back, whole or in pieces."""

from __future__ import annotations

import json
from typing import Any

import pytest

from kadre.base.errors import ModelError
from kadre.engine.messages import Message, ToolCall, ToolSpec, Usage
from kadre.engine.models import openai_wire as wire
from kadre.engine.models.sse import ServerEvent

PLACE = "http://model/v1"


def reply(message: dict[str, Any], **more: Any) -> Any:
    finish = more.pop("finish_reason", "stop")
    body = {"choices": [{"message": message, "finish_reason": finish}], **more}
    return wire.decode_reply(json.dumps(body).encode(), PLACE)


def stream(*chunks: Any) -> tuple[wire.Stream, list[str]]:
    assembler = wire.Stream(PLACE)
    texts = []
    for chunk in chunks:
        data = chunk if isinstance(chunk, bytes) else json.dumps(chunk).encode()
        texts.append(assembler.accept(ServerEvent("", data)))
    return assembler, [text for text in texts if text]


def delta(finish: str | None = None, **fields: Any) -> dict[str, Any]:
    return {"choices": [{"delta": fields, "finish_reason": finish}]}


def call_delta(index: int | None, arguments: str, **more: Any) -> dict[str, Any]:
    function = {"arguments": arguments} | ({"name": more["name"]} if "name" in more else {})
    call = {"function": function, "type": None} | ({} if index is None else {"index": index})
    return delta(tool_calls=[call | ({"id": more["id"]} if "id" in more else {})])


def test_every_kind_of_message_has_its_wire_form() -> None:
    call = ToolCall("c1", "echo", '{"message":"hi"}')
    messages = [
        Message("system", "Be kind."),
        Message("user", ""),
        Message("assistant", "", (call,)),
        Message("tool", "hi", tool_call_id="c1", name="echo"),
        Message("assistant", "Done.", (call,)),
    ]
    sent = {"id": "c1", "type": "function", "function": {"name": "echo", "arguments": '{"message":"hi"}'}}
    assert json.loads(wire.encode_messages(messages)) == [
        {"role": "system", "content": "Be kind."},
        {"role": "user", "content": ""},
        {"role": "assistant", "content": None, "tool_calls": [sent]},
        {"role": "tool", "content": "hi", "tool_call_id": "c1"},
        {"role": "assistant", "content": "Done.", "tool_calls": [sent]},
    ]


def test_every_sampling_field_is_in_the_request() -> None:
    params = {"temperature": 0.0, "max_tokens": 9, "top_p": 0.9, "top_k": 5, "frequency_penalty": 0.0,
              "presence_penalty": 0.1, "stop": ["END"], "seed": 3}  # fmt: skip
    head = json.loads(wire.encode_head("m", params, "max_completion_tokens") + b"[]}")
    assert head == {
        "model": "m",
        "messages": [],
        "max_completion_tokens": 9,
        **{k: v for k, v in params.items() if k != "max_tokens"},
    }


def test_a_tool_without_parameters_is_sent_an_empty_object_schema() -> None:
    fields = json.loads(b'{"x":0' + wire.encode_tools([ToolSpec(name="now", description="The time")]) + b"}")
    function = {"name": "now", "description": "The time", "parameters": {"type": "object", "properties": {}}}
    assert fields["tools"] == [{"type": "function", "function": function}]


def test_a_whole_answer_has_text_usage_and_finish_reason() -> None:
    usage = {"prompt_tokens": 3, "completion_tokens": 2}
    found = reply({"content": "Hi"}, usage=usage, finish_reason="length")
    assert (found.message.content, found.usage, found.finish_reason) == ("Hi", Usage(3, 2, 5), "length")


@pytest.mark.parametrize(
    ("said", "meant"),
    [("stop", "stop"), ("function_call", "tool_calls"), ("content_filter", "content_filter"), (None, "stop"),
     ("new_one", "stop")],
)  # fmt: skip
def test_finish_reasons_are_ours(said: str | None, meant: str) -> None:
    assert reply({"content": "x"}, finish_reason=said).finish_reason == meant


def test_a_tool_call_of_an_api_that_is_not_quite_openai_is_read_all_the_same() -> None:
    found = reply({"content": None, "tool_calls": [{"function": {"name": "add", "arguments": {"a": 1}}}]})
    (call,) = found.message.tool_calls
    assert (call.name, json.loads(call.arguments), found.finish_reason) == ("add", {"a": 1}, "tool_calls")
    assert call.id


def test_content_in_parts_and_a_refusal_are_text() -> None:
    assert reply({"content": [{"type": "text", "text": "a"}, {"text": "b"}]}).message.content == "ab"
    assert reply({"content": None, "refusal": "No."}).message.content == "No."


@pytest.mark.parametrize("body", [b'{"choices":[]}', b"{}", b'{"choices":[{"finish_reason":"stop"}]}'])
def test_an_answer_without_a_message_is_an_error(body: bytes) -> None:
    with pytest.raises(ModelError) as caught:
        wire.decode_reply(body, PLACE)
    assert caught.value.reason == "ModelAnswerInvalid"


@pytest.mark.parametrize(
    "body", [b"<html>", b'{"choices":"none"}', b'{"choices":[{"message":{"content":7}}]}', b"\xff"]
)
def test_an_answer_that_is_no_such_json_is_a_value_error(body: bytes) -> None:
    with pytest.raises(ValueError, match=r"."):
        wire.decode_reply(body, PLACE)


def test_an_error_inside_an_answer_of_200_is_an_error() -> None:
    with pytest.raises(ModelError, match="overloaded") as caught:
        wire.decode_reply(b'{"error":{"message":"overloaded","code":503}}', PLACE)
    assert (caught.value.status, caught.value.retryable) == (503, True)


def test_a_stream_gives_its_text_in_pieces_then_the_whole_with_usage() -> None:
    usage = {"choices": [], "usage": {"prompt_tokens": 1, "completion_tokens": 2, "total_tokens": 3}}
    assembler, texts = stream(delta(content="Hel"), delta(content="lo"), delta("stop"), usage, b"[DONE]")
    found = assembler.reply()
    assert (texts, assembler.finished) == (["Hel", "lo"], True)
    assert (found.message.content, found.usage, found.finish_reason) == ("Hello", Usage(1, 2, 3), "stop")


def test_tool_calls_are_put_together_by_their_index() -> None:
    assembler, _ = stream(
        call_delta(0, "", id="a", name="echo"),
        call_delta(1, '{"x"', id="b", name="add"),
        call_delta(0, '{"m":"hi"}'),
        call_delta(1, ":1}"),
        delta("tool_calls"),
    )
    assert assembler.reply().message.tool_calls == (
        ToolCall("a", "echo", '{"m":"hi"}'),
        ToolCall("b", "add", '{"x":1}'),
    )


@pytest.mark.parametrize("index", [None, 0])
def test_tool_calls_without_an_index_of_their_own_are_told_apart_by_id(index: int | None) -> None:
    assembler, _ = stream(
        call_delta(index, '{"x":', id="a", name="add"),
        call_delta(index, "1}"),
        call_delta(index, "{}", id="b", name="now"),
        delta("stop"),
    )
    assert assembler.reply().message.tool_calls == (ToolCall("a", "add", '{"x":1}'), ToolCall("b", "now", "{}"))
    assert assembler.reply().finish_reason == "tool_calls"


def test_a_stream_that_ends_without_its_end_is_broken() -> None:
    assembler, _ = stream(delta(content="Hel"))
    with pytest.raises(ModelError) as caught:
        assembler.reply()
    assert caught.value.reason == "ModelStreamBroken"


def test_an_error_in_the_middle_of_a_stream_is_an_error() -> None:
    with pytest.raises(ModelError, match="out of memory"):
        stream(delta(content="Hel"), {"error": {"message": "out of memory"}})
