"""Tool calls for models that have none: they answer in JSON whose schema is a call of one of the tools, or an answer.

Law: a wrapper; it knows an endpoint only as one that takes `response_format`. Two short examples in the system message
do more for a small model than any explanation.

After a tool has answered, the tools are not offered again in that turn: a model small enough to need this calls again
for ever. One round of calls a turn is what it gets; it answers with what came back.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from typing import Any, Protocol

import msgspec

from kadre.base.errors import ModelError
from kadre.engine.messages import Message, ToolCall, ToolSpec
from kadre.engine.models import failures
from kadre.engine.models.port import Model, ModelRequest, Reply, TextDelta

MAX_TOKENS = 512
"""Tokens of one answer: a small model that begins to repeat itself does so until it is stopped."""
_ANSWER = {
    "type": "object",
    "properties": {"answer": {"type": "string"}},
    "required": ["answer"],
    "additionalProperties": False,
}


class Shaped(Protocol):
    """A model whose request can be given further fields."""

    def call_with(self, request: ModelRequest, extra: Mapping[str, Any]) -> AsyncIterator[TextDelta | Reply]:
        """See OpenAIModel."""
        ...

    async def aclose(self) -> None:
        """See Model."""
        ...


class _Call(msgspec.Struct):
    tool: str = ""
    arguments: dict[str, Any] = {}
    answer: str | None = None


class Shim:
    """Gives tool calls to `model`."""

    def __init__(self, model: Shaped) -> None:
        self._model = model

    async def call(self, request: ModelRequest) -> AsyncIterator[TextDelta | Reply]:
        """See Model.call. The answer comes as one piece: it is JSON until it is whole."""
        results = _results(request.messages)
        if not request.tools and not results:
            async for piece in self._model.call_with(request, {}):
                yield piece
            return
        tools = () if results else request.tools
        messages = _after(request.messages) if results else _before(request.messages, tools)
        extra = {"response_format": _format(tools), "max_tokens": MAX_TOKENS}
        async for piece in self._model.call_with(ModelRequest(messages), extra):
            if isinstance(piece, Reply):
                reply = _read(piece, tools, len(request.messages))
                if request.stream and reply.message.content:
                    yield TextDelta(reply.message.content)
                yield reply

    async def aclose(self) -> None:
        """See Model."""
        await self._model.aclose()


class Fallback:
    """Calls `native` until the endpoint says that it knows no tools, and the shim from then on."""

    def __init__(self, native: Model, shim: Shim) -> None:
        self._native = native
        self._shim = shim
        self._known: Model = native

    async def call(self, request: ModelRequest) -> AsyncIterator[TextDelta | Reply]:
        """See Model.call."""
        try:
            async for piece in self._known.call(request):
                yield piece
        except ModelError as error:
            if error.reason != failures.TOOLS_UNSUPPORTED or self._known is self._shim:
                raise
            self._known = self._shim
            async for piece in self._shim.call(request):
                yield piece

    async def aclose(self) -> None:
        """See Model."""
        await self._native.aclose()


def _results(messages: tuple[Message, ...]) -> bool:
    """Whether a tool has answered since the user last spoke."""
    return bool(messages) and messages[-1].role == "tool"


def _format(tools: tuple[ToolSpec, ...]) -> dict[str, Any]:
    calls = [
        {
            "type": "object",
            "properties": {"tool": {"const": tool.name}, "arguments": tool.parameters or {"type": "object"}},
            "required": ["tool", "arguments"],
            "additionalProperties": False,
        }
        for tool in tools
    ]
    schema = {"anyOf": [*calls, _ANSWER]} if calls else _ANSWER
    return {"type": "json_schema", "json_schema": {"name": "reply", "strict": True, "schema": schema}}


def _before(messages: tuple[Message, ...], tools: tuple[ToolSpec, ...]) -> tuple[Message, ...]:
    """The conversation with the tools told in the system message."""
    system = [message.content for message in messages if message.role == "system"]
    listed = "\n".join(f"- {tool.name}({', '.join(_names(tool))}): {_line(tool.description)}" for tool in tools)
    example = tools[0]
    arguments = dict.fromkeys(_names(example)[:1], "good day")
    call = msgspec.json.encode({"tool": example.name, "arguments": arguments}).decode()
    told = (
        f"Tools:\n{listed}\n\n"
        'Reply in JSON: a tool call {"tool": ..., "arguments": {...}} or an answer {"answer": ...}.\n\n'
        f"Examples:\nUser: Use {example.name} with {' and '.join(arguments)} good day\nAssistant: {call}\n"
        'User: What is the capital of Italy?\nAssistant: {"answer": "The capital of Italy is Rome."}'
    )
    return (Message("system", "\n\n".join([*system, told])), *_plain(messages))


def _after(messages: tuple[Message, ...]) -> tuple[Message, ...]:
    """What was asked and what the tools answered, in the plainest words."""
    asked = next((message.content for message in reversed(messages) if message.role == "user"), "")
    answers = []
    for message in reversed(messages):
        if message.role != "tool":
            break
        answers.append(message.content)
    found = "\n".join(reversed(answers))
    told = (
        "Answer the user with the result of the tool, in JSON.\n\n"
        "Examples:\nUser: What is 3 times 4?\nResult: 12\nAssistant: "
        '{"answer": "12"}\nUser: Say good day\nResult: good day\nAssistant: {"answer": "good day"}'
    )
    return (Message("system", told), Message("user", f"{asked}\nResult: {found}"))


def _plain(messages: tuple[Message, ...]) -> list[Message]:
    """The conversation without calls and results of earlier turns, which such a model has no words for."""
    return [Message(m.role, m.content) for m in messages if m.role in ("user", "assistant") and m.content]


def _names(tool: ToolSpec) -> list[str]:
    return list(tool.parameters.get("properties", {}))


def _line(text: str) -> str:
    return " ".join(text.split())[:200]


def _read(reply: Reply, tools: tuple[ToolSpec, ...], number: int) -> Reply:
    """The reply as a call or an answer; what is neither is the answer as it stands."""
    text = reply.message.content
    try:
        said = msgspec.json.decode(text, type=_Call)
    except msgspec.DecodeError:
        return reply
    if said.tool in {tool.name for tool in tools}:
        call = ToolCall(f"call-{number}", said.tool, msgspec.json.encode(said.arguments).decode())
        return Reply(Message("assistant", "", (call,)), reply.usage, "tool_calls")
    answer = said.answer if said.answer is not None else text
    return Reply(Message("assistant", answer), reply.usage, reply.finish_reason)
