"""A conversation as two sides that alternate, each turn a list of blocks: how Anthropic's and Bedrock's APIs want it.

They keep the system prompt apart, take tool results from the user's side, all results of one turn together, refuse a
blank text, and know a tool call's arguments as an object. Pure.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Protocol

import msgspec

from kadre.base.ids import new_id
from kadre.engine.messages import Message, ToolCall, ToolSpec, Usage
from kadre.engine.models import failures
from kadre.engine.models.port import Reply
from kadre.engine.models.target import Target


class Dialect(Protocol):
    """How one API writes each kind of block."""

    def text(self, text: str) -> Any:
        """A piece of text, never blank."""
        ...

    def call(self, call: ToolCall, arguments: Any) -> Any:
        """A tool call of the model's."""
        ...

    def result(self, message: Message) -> Any:
        """The result of one."""
        ...


def system(messages: Sequence[Message]) -> str:
    """What the system says, wherever it stands."""
    return "\n\n".join(message.content for message in messages if message.role == "system" and message.content)


def turns(messages: Sequence[Message], dialect: Dialect) -> list[dict[str, Any]]:
    """The rest as `{role, content: [block, …]}`, neighbours of one side joined."""
    joined: list[dict[str, Any]] = []
    for message in messages:
        if message.role == "system":
            continue
        blocks = list(_blocks(message, dialect))
        if not blocks:
            continue
        role = "assistant" if message.role == "assistant" else "user"
        if joined and joined[-1]["role"] == role:
            joined[-1]["content"] += blocks
        else:
            joined.append({"role": role, "content": blocks})
    return joined


def _blocks(message: Message, dialect: Dialect) -> Iterator[Any]:
    if message.role == "tool":
        yield dialect.result(message)
        return
    if message.content and not message.content.isspace():
        yield dialect.text(message.content)
    for call in message.tool_calls:
        yield dialect.call(call, _arguments(call))


def _arguments(call: ToolCall) -> Any:
    """The object; where the model wrote none, its text in one, so that it sees what it wrote."""
    try:
        value = msgspec.json.decode(call.arguments or "{}")
    except (msgspec.DecodeError, RecursionError):
        value = None
    return value if isinstance(value, dict) else {"malformed": call.arguments}


def tools_used(messages: Sequence[Message]) -> tuple[ToolSpec, ...]:
    """Tools that a history speaks of: these APIs refuse calls of tools that a request does not declare."""
    names = dict.fromkeys(call.name for message in messages for call in message.tool_calls)
    return tuple(ToolSpec(name=name) for name in names)


class Building:
    """A reply while its blocks come in, each by its index."""

    def __init__(self, sent: Target) -> None:
        self.finish = ""
        """The finish reason as the port names it; empty: none has come."""
        self._sent = sent
        self._text: list[str] = []
        self._calls: dict[int, _Call] = {}

    def text(self, text: str) -> str:
        """Add a piece of text; the same piece."""
        if text:
            self._text.append(text)
        return text

    def call(self, index: int, call_id: str, name: str) -> None:
        """A tool call begins."""
        self._calls[index] = _Call(call_id or new_id("call"), name)

    def arguments(self, index: int, text: str) -> None:
        """A piece of a call's arguments."""
        if index in self._calls:
            self._calls[index].arguments.append(text)

    def reply(self, usage: Usage) -> Reply:
        """The whole reply. Raises ModelError where no finish reason has come."""
        if not self.finish:
            raise failures.cut_short(self._sent)
        calls = tuple(ToolCall(call.id, call.name, "".join(call.arguments) or "{}") for call in self._calls.values())
        return Reply(Message("assistant", "".join(self._text), calls), usage, self.finish)


class _Call:
    def __init__(self, call_id: str, name: str) -> None:
        self.id = call_id
        self.name = name
        self.arguments: list[str] = []
