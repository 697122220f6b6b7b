"""The neutral messages as Anthropic's Messages API writes them, and its answers back. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from kadre.base.errors import ModelError
from kadre.base.ids import new_id
from kadre.engine.messages import Message, ToolCall, ToolSpec, Usage
from kadre.engine.models import blocks, failures
from kadre.engine.models.port import Reply
from kadre.engine.models.target import Target
from kadre.engine.sse import ServerEvent

MAX_TOKENS = 4096
"""Sent where the author set none: the API wants a number."""
PARAMS = {
    "temperature": "temperature",
    "max_tokens": "max_tokens",
    "top_p": "top_p",
    "top_k": "top_k",
    "stop": "stop_sequences",
}
FINISH = {
    "end_turn": "stop",
    "stop_sequence": "stop",
    "tool_use": "tool_calls",
    "max_tokens": "length",
    "model_context_window_exceeded": "length",
    "refusal": "content_filter",
}
_STATUS = {
    "invalid_request_error": 400,
    "authentication_error": 401,
    "permission_error": 403,
    "not_found_error": 404,
    "request_too_large": 413,
    "rate_limit_error": 429,
    "api_error": 500,
    "timeout_error": 504,
    "overloaded_error": 529,
}
"""The status each error would have had, had it come before the stream."""

_encode = msgspec.json.Encoder().encode


class _Usage(msgspec.Struct, frozen=True):
    """Of a stream's two, the later one holds only what it has to add."""

    input_tokens: int | None = None
    output_tokens: int | None = None
    cache_creation_input_tokens: int | None = None
    cache_read_input_tokens: int | None = None


class _Block(msgspec.Struct, frozen=True):
    type: str = ""
    text: str = ""
    id: str = ""
    name: str = ""
    input: msgspec.Raw = msgspec.Raw(b"")


class _Message(msgspec.Struct, frozen=True):
    content: list[_Block] | None = None
    stop_reason: str | None = None
    usage: _Usage = _Usage()
    error: Any = None


class _Delta(msgspec.Struct, frozen=True):
    text: str = ""
    partial_json: str = ""
    stop_reason: str | None = None


class _Event(msgspec.Struct, frozen=True):
    type: str
    index: int = 0
    message: _Message | None = None
    content_block: _Block | None = None
    delta: _Delta | None = None
    usage: _Usage | None = None
    error: Any = None


_messages = msgspec.json.Decoder(_Message)
_events = msgspec.json.Decoder(_Event)


class _Dialect:
    def text(self, text: str) -> Any:
        return {"type": "text", "text": text}

    def call(self, call: ToolCall, arguments: Any) -> Any:
        return {"type": "tool_use", "id": call.id, "name": call.name, "input": arguments}

    def result(self, message: Message) -> Any:
        return {"type": "tool_result", "tool_use_id": message.tool_call_id, "content": message.content}


_DIALECT = _Dialect()


def encode_tools(tools: Sequence[ToolSpec]) -> bytes:
    """The request's `tools` field with its leading comma."""
    listed = [
        {
            "name": tool.name,
            "description": tool.description,
            "input_schema": tool.parameters or {"type": "object", "properties": {}},
        }
        for tool in tools
    ]
    return b',"tools":' + _encode(listed)


def encode_head(model: str, params: Mapping[str, Any]) -> bytes:
    """The request's fields that never change, without the closing brace."""
    fields: dict[str, Any] = {"model": model, "max_tokens": MAX_TOKENS}
    for name, wire in PARAMS.items():
        if params.get(name) is not None:
            fields[wire] = params[name]
    return _encode(fields)[:-1]


def encode_messages(messages: Sequence[Message]) -> bytes:
    """The request's `system` and `messages` fields with their leading commas."""
    told = blocks.system(messages)
    said = b',"messages":' + _encode(blocks.turns(messages, _DIALECT))
    return b',"system":' + _encode(told) + said if told else said


def decode_reply(body: bytes, sent: Target) -> Reply:
    """The reply in a whole answer. Raises ModelError, and ValueError for bad JSON."""
    answer = _messages.decode(body)
    if answer.error is not None:
        raise _said_error(answer.error, sent)
    if answer.content is None:
        raise failures.empty(sent)
    text = "".join(block.text for block in answer.content if block.type == "text")
    calls = tuple(
        ToolCall(block.id or new_id("call"), block.name, bytes(block.input).decode() or "{}")
        for block in answer.content
        if block.type == "tool_use"
    )
    return Reply(Message("assistant", text, calls), _usage(answer.usage), _finish(answer.stop_reason))


class Stream:
    """One reply, out of the events of a stream (see `http.Assembler`)."""

    def __init__(self, sent: Target) -> None:
        self.finished = False
        self._sent = sent
        self._building = blocks.Building(sent)
        self._usage = _Usage()

    def accept(self, event: ServerEvent) -> str:
        """Take one event; the text to show for it. Events and blocks of kinds we did not ask for are passed over."""
        said = _events.decode(event.data)
        match said.type:
            case "content_block_delta" if said.delta is not None:
                self._building.arguments(said.index, said.delta.partial_json)
                return self._building.text(said.delta.text)
            case "content_block_start" if said.content_block is not None:
                return self._begin(said.index, said.content_block)
            case "message_start" if said.message is not None:
                self._usage = said.message.usage
            case "message_delta":
                if said.delta is not None and said.delta.stop_reason:
                    self._building.finish = _finish(said.delta.stop_reason)
                if said.usage is not None:
                    self._usage = _later(self._usage, said.usage)
            case "message_stop":
                self.finished = True
            case "error":
                raise _said_error(said.error, self._sent)
        return ""

    def _begin(self, index: int, block: _Block) -> str:
        if block.type == "tool_use":
            self._building.call(index, block.id, block.name)
            whole = bytes(block.input)
            if whole not in (b"", b"{}"):  # an endpoint that sends the arguments in one piece
                self._building.arguments(index, whole.decode())
            return ""
        return self._building.text(block.text) if block.type == "text" else ""

    def reply(self) -> Reply:
        """The whole reply. Raises ModelError where the stream ended before it was whole."""
        return self._building.reply(_usage(self._usage))


def _later(first: _Usage, then: _Usage) -> _Usage:
    """Counts are totals: a later one replaces an earlier one."""
    fields = {
        name: getattr(then, name) if getattr(then, name) is not None else getattr(first, name)
        for name in _Usage.__struct_fields__
    }
    return _Usage(**fields)


def _usage(usage: _Usage) -> Usage:
    cached = (usage.cache_creation_input_tokens or 0) + (usage.cache_read_input_tokens or 0)
    prompt, completion = (usage.input_tokens or 0) + cached, usage.output_tokens or 0
    return Usage(prompt, completion, prompt + completion)


def _finish(reason: str | None) -> str:
    return FINISH.get(reason or "end_turn", "stop")


def _said_error(error: Any, sent: Target) -> ModelError:
    said, code = failures.error_fields(error)
    return failures.of_api(said, code, _STATUS.get(code), sent)
