"""The neutral messages as Amazon Bedrock's Converse API writes them, and its answers back. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from kadre.base.errors import ModelError, shorten
from kadre.base.ids import new_id
from kadre.engine.messages import Message, ToolCall, ToolSpec, Usage
from kadre.engine.models import blocks, failures
from kadre.engine.models.port import Reply
from kadre.engine.models.target import Target

PARAMS = {"temperature": "temperature", "max_tokens": "maxTokens", "top_p": "topP", "stop": "stopSequences"}
FINISH = {
    "end_turn": "stop",
    "stop_sequence": "stop",
    "tool_use": "tool_calls",
    "max_tokens": "length",
    "model_context_window_exceeded": "length",
    "guardrail_intervened": "content_filter",
    "content_filtered": "content_filter",
}
_STATUS = {
    "validationException": 400,
    "modelTimeoutException": 408,
    "throttlingException": 429,
    "internalServerException": 500,
    "serviceUnavailableException": 503,
}
"""The status each exception would have had, had it come before the stream."""
NO_OUTPUT = "(no output)"
"""Stands for a blank tool result, which the API refuses."""

_encode = msgspec.json.Encoder().encode


class Frame(msgspec.Struct, frozen=True):
    """One message of the event stream. `kind`: event, exception or error; `name`: which one."""

    kind: str
    name: str
    payload: bytes


class _Usage(msgspec.Struct, frozen=True, rename="camel"):
    input_tokens: int = 0
    output_tokens: int = 0
    total_tokens: int = 0
    cache_read_input_tokens: int = 0
    cache_write_input_tokens: int = 0


class _ToolUse(msgspec.Struct, frozen=True, rename="camel"):
    """Whole, or the piece of one that its event has: `input` is an object, or a part of its text."""

    tool_use_id: str = ""
    name: str = ""
    input: Any = None


class _Block(msgspec.Struct, frozen=True, rename="camel"):
    text: str = ""
    tool_use: _ToolUse | None = None


class _Said(msgspec.Struct, frozen=True):
    content: list[_Block]


class _Output(msgspec.Struct, frozen=True):
    message: _Said | None = None


class _Answer(msgspec.Struct, frozen=True, rename="camel"):
    output: _Output = _Output()
    stop_reason: str = "end_turn"
    usage: _Usage = _Usage()


class _Event(msgspec.Struct, frozen=True, rename="camel"):
    """The fields of all events whose names we know."""

    content_block_index: int = 0
    start: _Block | None = None
    delta: _Block | None = None
    stop_reason: str = ""
    usage: _Usage | None = None


_answers = msgspec.json.Decoder(_Answer)
_events = msgspec.json.Decoder(_Event)


class _Dialect:
    def text(self, text: str) -> Any:
        return {"text": text}

    def call(self, call: ToolCall, arguments: Any) -> Any:
        return {"toolUse": {"toolUseId": call.id, "name": call.name, "input": arguments}}

    def result(self, message: Message) -> Any:
        text = message.content if message.content.strip() else NO_OUTPUT
        return {"toolResult": {"toolUseId": message.tool_call_id, "content": [{"text": text}]}}


_DIALECT = _Dialect()


def encode_tools(tools: Sequence[ToolSpec]) -> bytes:
    """The request's `toolConfig` field with its leading comma."""
    return b',"toolConfig":' + _encode({"tools": [{"toolSpec": _tool(tool)} for tool in tools]})


def _tool(tool: ToolSpec) -> dict[str, Any]:
    schema = tool.parameters or {"type": "object", "properties": {}}
    said = {"description": tool.description} if tool.description else {}
    return {"name": tool.name, **said, "inputSchema": {"json": schema}}


def encode_config(params: Mapping[str, Any]) -> bytes:
    """The request's `inferenceConfig` field with its leading comma."""
    fields = {wire: params[name] for name, wire in PARAMS.items() if params.get(name) is not None}
    return b',"inferenceConfig":' + _encode(fields) if fields else b""


def encode_messages(messages: Sequence[Message]) -> bytes:
    """The request's `messages` and `system` fields."""
    told = blocks.system(messages)
    said = b'"messages":' + _encode(blocks.turns(messages, _DIALECT))
    return said + b',"system":' + _encode([{"text": told}]) if told else said


def decode_reply(body: bytes, sent: Target) -> Reply:
    """The reply in a whole answer. Raises ModelError, and ValueError for bad JSON."""
    answer = _answers.decode(body)
    said = answer.output.message
    if said is None:
        raise failures.empty(sent)
    calls = tuple(
        ToolCall(call.tool_use_id or new_id("call"), call.name, _encode(call.input or {}).decode())
        for call in (block.tool_use for block in said.content)
        if call is not None
    )
    message = Message("assistant", "".join(block.text for block in said.content), calls)
    return Reply(message, _usage(answer.usage), _finish(answer.stop_reason))


class Stream:
    """One reply, out of the frames of a stream (see `http.Assembler`)."""

    def __init__(self, sent: Target) -> None:
        self.finished = False
        self._sent = sent
        self._building = blocks.Building(sent)
        self._usage = _Usage()

    def accept(self, event: Frame) -> str:
        """Take one frame; the text to show for it. Events of kinds we did not ask for are passed over."""
        if event.kind != "event":
            raise self._failure(event)
        said = _events.decode(event.payload)
        index = said.content_block_index
        if said.start is not None and said.start.tool_use is not None:
            self._building.call(index, said.start.tool_use.tool_use_id, said.start.tool_use.name)
        if said.stop_reason:
            self._building.finish = _finish(said.stop_reason)
        if said.usage is not None:
            self._usage = said.usage
        self.finished = event.name == "metadata"  # the last one, after messageStop
        if said.delta is None:
            return ""
        if said.delta.tool_use is not None:
            self._building.arguments(index, str(said.delta.tool_use.input or ""))
        return self._building.text(said.delta.text)

    def _failure(self, frame: Frame) -> ModelError:
        said, _ = failures.error_sentence(frame.payload)
        if frame.name == "modelStreamErrorException":
            return failures.stream_broken(shorten(said or frame.name))
        return failures.of_api(said or frame.name, frame.name, _STATUS.get(frame.name), self._sent)

    def reply(self) -> Reply:
        """The whole reply. Raises ModelError where the stream ended before it was whole."""
        return self._building.reply(_usage(self._usage))


def _usage(usage: _Usage) -> Usage:
    prompt = usage.input_tokens + usage.cache_read_input_tokens + usage.cache_write_input_tokens
    return Usage(prompt, usage.output_tokens, usage.total_tokens or prompt + usage.output_tokens)


def _finish(reason: str) -> str:
    return FINISH.get(reason, "stop")
