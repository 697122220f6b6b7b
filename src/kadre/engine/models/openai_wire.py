"""The neutral messages as OpenAI's Chat Completions write them, and its answers back. Pure.

Requests are put together from bytes: what never changes for a model (its name, its sampling fields) and for a tuple of
tools is encoded once, so that a call encodes its messages and nothing else.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

import msgspec

from kadre.base.errors import ModelError
from kadre.base.ids import new_id
from kadre.engine.messages import Message, ToolCall, ToolSpec, Usage
from kadre.engine.models import failures
from kadre.engine.models.port import Reply
from kadre.engine.models.target import Target
from kadre.engine.sse import ServerEvent

T = TypeVar("T")

PARAMS = ("temperature", "max_tokens", "top_p", "top_k", "frequency_penalty", "presence_penalty", "stop", "seed")
FINISH = {"stop": "stop", "length": "length", "tool_calls": "tool_calls", "function_call": "tool_calls"}
FINISH |= {"content_filter": "content_filter", "eos": "stop", "max_tokens": "length"}

_encode = msgspec.json.Encoder().encode


class _Function(msgspec.Struct, frozen=True):
    name: str | None = None
    arguments: str | dict[str, Any] | None = None


class _Call(msgspec.Struct, frozen=True):
    id: str | None = None
    function: _Function = _Function()
    index: int | None = None


class _Part(msgspec.Struct, frozen=True):
    text: str | None = None


class _Text(msgspec.Struct, frozen=True):
    content: str | list[_Part] | None = None
    tool_calls: list[_Call] | None = None
    refusal: str | None = None


class _Choice(msgspec.Struct, frozen=True):
    message: _Text | None = None
    delta: _Text | None = None
    finish_reason: str | None = None


class _Usage(msgspec.Struct, frozen=True):
    prompt_tokens: int | None = 0
    completion_tokens: int | None = 0
    total_tokens: int | None = 0


class _Answer(msgspec.Struct, frozen=True):
    choices: list[_Choice] | None = None
    usage: _Usage | None = None
    error: Any = None


_answers = msgspec.json.Decoder(_Answer)


def encode_tools(tools: Sequence[ToolSpec]) -> bytes:
    """The request's `tools` field with its leading comma."""
    listed = [
        {
            "type": "function",
            "function": {
                "name": tool.name,
                "description": tool.description,
                "parameters": tool.parameters or {"type": "object", "properties": {}},
            },
        }
        for tool in tools
    ]
    return b',"tools":' + _encode(listed)


def encode_head(model: str, params: Mapping[str, Any], max_tokens_name: str) -> bytes:
    """The request up to its messages: `{"model":…,"temperature":…,"messages":`."""
    fields: dict[str, Any] = {"model": model}
    for name in PARAMS:
        if params.get(name) is not None:
            fields[max_tokens_name if name == "max_tokens" else name] = params[name]
    return _encode(fields)[:-1] + b',"messages":'


def encode_extra(extra: Mapping[str, Any]) -> bytes:
    """Further top-level fields of a request, with their leading comma."""
    return b"," + _encode(extra)[1:-1] if extra else b""


def encode_messages(messages: Sequence[Message]) -> bytes:
    """The request's messages. A plain message is already in wire form and is encoded as it is."""
    return _encode(
        [
            message if message.content and not message.tool_calls and message.role != "tool" else _wire(message)
            for message in messages
        ]
    )


def _wire(message: Message) -> dict[str, Any]:
    wire: dict[str, Any] = {"role": message.role, "content": message.content}
    if message.role == "tool":
        wire["tool_call_id"] = message.tool_call_id
    if message.tool_calls:
        if not message.content:
            wire["content"] = None
        wire["tool_calls"] = [
            {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": call.arguments or "{}"}}
            for call in message.tool_calls
        ]
    return wire


def decode_reply(body: bytes, sent: Target) -> Reply:
    """The reply in a whole answer. Raises ModelError, and ValueError for bad JSON."""
    answer = _answers.decode(body)
    if answer.error:
        raise _said_error(answer.error, sent)
    choice = answer.choices[0] if answer.choices else _Choice()
    text = choice.message
    if text is None:
        raise failures.empty(sent)
    calls: tuple[ToolCall, ...] = ()
    if text.tool_calls:
        calls = tuple(
            ToolCall(call.id or new_id("call"), call.function.name or "", _arguments(call.function.arguments) or "{}")
            for call in text.tool_calls
        )
    message = Message("assistant", _text(text.content) or text.refusal or "", calls)
    return Reply(message, _usage(answer.usage), _finish(choice.finish_reason, calls))


class Stream:
    """One reply, out of the events of a stream (see `http.Assembler`)."""

    def __init__(self, sent: Target) -> None:
        self.finished = False
        self._sent = sent
        self._text: list[str] = []
        self._calls: list[_Building] = []
        self._usage: _Usage | None = None
        self._finish: str | None = None

    def accept(self, event: ServerEvent) -> str:
        """Take one event; the text to show for it."""
        if event.data == b"[DONE]":
            self.finished = True
            return ""
        answer = _answers.decode(event.data)
        if answer.error:
            raise _said_error(answer.error, self._sent)
        if answer.usage is not None:
            self._usage = answer.usage
        if not answer.choices:
            return ""
        choice = answer.choices[0]
        if choice.finish_reason:
            self._finish = choice.finish_reason
        delta = choice.delta
        if delta is None:
            return ""
        for call in delta.tool_calls or ():
            self._add(call)
        text = _text(delta.content) or delta.refusal or ""
        if text:
            self._text.append(text)
        return text

    def _add(self, call: _Call) -> None:
        building = self._find(call)
        if building is None:
            building = _Building(call.index, call.id or new_id("call"))
            self._calls.append(building)
        building.name = building.name or call.function.name or ""
        if call.function.arguments:
            building.arguments.append(_arguments(call.function.arguments))

    def _find(self, call: _Call) -> _Building | None:
        """The call this delta continues. Some APIs give no index, or the same one to every call and a new id."""
        if call.index is None:
            found = self._calls[-1] if self._calls else None
        else:
            found = next((known for known in reversed(self._calls) if known.index == call.index), None)
        return None if found is not None and call.id and call.id != found.id else found

    def reply(self) -> Reply:
        """The whole reply. A finish reason counts as the end where an API closes without saying [DONE]."""
        if not self.finished and self._finish is None:
            raise failures.cut_short(self._sent)
        calls = tuple(ToolCall(call.id, call.name, "".join(call.arguments) or "{}") for call in self._calls)
        return Reply(
            Message("assistant", "".join(self._text), calls), _usage(self._usage), _finish(self._finish, calls)
        )


class _Building:
    """A tool call while its pieces come in."""

    def __init__(self, index: int | None, call_id: str) -> None:
        self.index = index
        self.id = call_id
        self.name = ""
        self.arguments: list[str] = []


def _arguments(value: str | dict[str, Any] | None) -> str:
    """Arguments as JSON text; some APIs send the object itself."""
    if isinstance(value, dict):
        return _encode(value).decode()
    return value or ""


def _text(content: str | list[_Part] | None) -> str:
    if isinstance(content, list):
        return "".join(part.text or "" for part in content)
    return content or ""


def _usage(usage: _Usage | None) -> Usage:
    if usage is None:
        return Usage()
    prompt, completion = usage.prompt_tokens or 0, usage.completion_tokens or 0
    return Usage(prompt, completion, usage.total_tokens or prompt + completion)


def _finish(reason: str | None, calls: Sequence[ToolCall]) -> str:
    finish = FINISH.get(reason or "stop", "stop")
    return "tool_calls" if calls and finish == "stop" else finish


def _said_error(error: Any, sent: Target) -> ModelError:
    said, code = failures.error_fields(error)
    status = int(code) if code.isdecimal() and code.isascii() and 400 <= int(code) < 600 else None
    return failures.of_api(said, code, status, sent)
