"""Requests as Chat Completions want them, and answers as OpenAI and those who imitate it give them."""

from __future__ import annotations

import json
from typing import Any

import pytest
from multidict import CIMultiDict
from yarl import URL

from kadre.base.errors import ModelError
from kadre.engine.messages import Message, ToolCall, ToolSpec, Usage
from kadre.engine.models import openai_wire
from kadre.engine.models.port import Reply
from kadre.engine.models.target import Target
from kadre.engine.sse import ServerEvent

PARAMS = {
    "temperature": 0.2,
    "max_tokens": 64,
    "top_p": 0.9,
    "top_k": 40,
    "frequency_penalty": 0.1,
    "presence_penalty": -0.1,
    "stop": ["END"],
    "seed": 7,
}
SENT = Target(URL("http://model"), CIMultiDict())


def whole(**answer: Any) -> Reply:
    return openai_wire.decode_reply(json.dumps(answer).encode(), SENT)


def streamed(*chunks: dict[str, Any], done: bool = True) -> tuple[list[str], Reply]:
    stream = openai_wire.Stream(SENT)
    texts = [stream.accept(ServerEvent("", json.dumps(chunk).encode())) for chunk in chunks]
    if done:
        stream.accept(ServerEvent("", b"[DONE]"))
    return [text for text in texts if text], stream.reply()


def delta(finish: str | None = None, **fields: Any) -> dict[str, Any]:
    return {"choices": [{"index": 0, "delta": fields, "finish_reason": finish}]}


def call_delta(arguments: str | None = None, **fields: Any) -> dict[str, Any]:
    name = {"name": fields.pop("name")} if "name" in fields else {}
    return delta(tool_calls=[{**fields, "function": {**name, "arguments": arguments}}])


def test_every_sampling_field_is_on_the_wire_and_only_those_that_are_set() -> None:
    head = json.loads(openai_wire.encode_head("gpt", PARAMS, "max_completion_tokens") + b"[]}")
    expected = {**PARAMS, "max_completion_tokens": 64}
    del expected["max_tokens"]
    assert head == {"model": "gpt", **expected, "messages": []}
    assert json.loads(openai_wire.encode_head("gpt", {"seed": 0}, "max_tokens") + b"[]}") == {
        "model": "gpt",
        "seed": 0,
        "messages": [],
    }


def test_messages_are_written_with_their_calls_and_results() -> None:
    messages = [
        Message("system", "be brief"),
        Message("user", ""),
        Message("assistant", "", (ToolCall("c1", "add", '{"a":1}'), ToolCall("c2", "now", ""))),
        Message("tool", "2", tool_call_id="c1", name="add"),
    ]
    assert json.loads(openai_wire.encode_messages(messages)) == [
        {"role": "system", "content": "be brief"},
        {"role": "user", "content": ""},
        {
            "role": "assistant",
            "content": None,
            "tool_calls": [
                {"id": "c1", "type": "function", "function": {"name": "add", "arguments": '{"a":1}'}},
                {"id": "c2", "type": "function", "function": {"name": "now", "arguments": "{}"}},
            ],
        },
        {"role": "tool", "content": "2", "tool_call_id": "c1"},
    ]


def test_a_tool_is_offered_with_its_schema() -> None:
    schema = {"type": "object", "properties": {"a": {"type": "integer"}}}
    tools = json.loads(
        b"{" + openai_wire.encode_tools([ToolSpec(name="add", description="Add", parameters=schema)])[1:] + b"}"
    )
    assert tools == {
        "tools": [{"type": "function", "function": {"name": "add", "description": "Add", "parameters": schema}}]
    }


def test_a_whole_answer_becomes_a_reply_with_usage() -> None:
    calls = [{"id": "c1", "type": "function", "function": {"name": "add", "arguments": '{"a":1}'}}]
    reply = whole(
        choices=[{"message": {"content": None, "tool_calls": calls}, "finish_reason": "tool_calls"}],
        usage={"prompt_tokens": 3, "completion_tokens": 4, "total_tokens": 7},
    )
    assert reply == Reply(Message("assistant", "", (ToolCall("c1", "add", '{"a":1}'),)), Usage(3, 4, 7), "tool_calls")


@pytest.mark.parametrize(
    ("said", "meant"),
    [("stop", "stop"), ("length", "length"), ("content_filter", "content_filter"), ("eos", "stop"), (None, "stop")],
)
def test_finish_reasons_have_one_vocabulary(said: str | None, meant: str) -> None:
    assert whole(choices=[{"message": {"content": "x"}, "finish_reason": said}]).finish_reason == meant
    assert streamed(delta(said, content="x"))[1].finish_reason == meant


def test_calls_without_an_id_or_with_arguments_as_an_object_are_understood() -> None:
    calls = [{"function": {"name": "add", "arguments": {"a": 1}}}]
    reply = whole(choices=[{"message": {"tool_calls": calls}, "finish_reason": "stop"}])
    (call,) = reply.message.tool_calls
    assert (call.id.startswith("call-"), call.arguments, reply.finish_reason) == (True, '{"a":1}', "tool_calls")


def test_a_stream_gives_text_as_it_comes_and_the_usage_at_its_end() -> None:
    usage = {"choices": [], "usage": {"prompt_tokens": 1, "completion_tokens": 2, "total_tokens": 3}}
    texts, reply = streamed(delta(role="assistant", content=""), delta(content="He"), delta("stop", content="y"), usage)
    assert texts == ["He", "y"]
    assert reply == Reply(Message("assistant", "Hey"), Usage(1, 2, 3), "stop")


def test_parallel_calls_are_put_together_by_their_index() -> None:
    _, reply = streamed(
        call_delta("", index=0, id="a", name="add"),
        call_delta("", index=1, id="b", name="now"),
        call_delta('{"x"', index=0),
        call_delta("{}", index=1),
        call_delta(":1}", index=0),
        delta("tool_calls"),
    )
    assert reply.message.tool_calls == (ToolCall("a", "add", '{"x":1}'), ToolCall("b", "now", "{}"))


def test_calls_that_share_an_index_or_have_none_are_told_apart_by_their_ids() -> None:
    for index in ({"index": 0}, {}):
        _, reply = streamed(
            call_delta("{}", id="a", name="add", **index), call_delta('{"y":2}', id="b", name="now", **index)
        )
        assert [call.id for call in reply.message.tool_calls] == ["a", "b"]


def test_a_stream_that_closes_is_whole_only_after_a_finish_reason() -> None:
    assert streamed(delta("stop", content="x"), done=False)[1].message.content == "x"
    with pytest.raises(ModelError, match="before its end") as broken:
        streamed(delta(content="x"), done=False)
    assert (broken.value.reason, broken.value.retryable) == ("ModelStreamBroken", True)


def test_an_error_in_a_stream_or_with_status_200_is_an_error() -> None:
    for shape in ({"message": "overloaded", "code": 503}, {"message": "overloaded", "code": "503"}):
        with pytest.raises(ModelError, match="overloaded") as error:
            streamed({"error": shape})
        assert (error.value.reason, error.value.status) == ("ModelUnavailable", 503)
    with pytest.raises(ModelError, match="no such thing"):
        whole(error="no such thing")


def test_an_answer_without_a_message_is_invalid() -> None:
    with pytest.raises(ModelError, match="without a message"):
        whole(choices=[])
