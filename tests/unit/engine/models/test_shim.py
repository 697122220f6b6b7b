"""Tool calls for models that have none: what is asked of them, and what their JSON means."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Mapping
from typing import Any

import pytest

from kadre.base.errors import ModelError
from kadre.engine.messages import Message, ToolCall, ToolSpec, Usage
from kadre.engine.models import failures
from kadre.engine.models.port import ModelRequest, Reply, TextDelta
from kadre.engine.models.shim import Fallback, Shim

ECHO = ToolSpec(
    name="echo",
    description="Give the text back.",
    parameters={"type": "object", "properties": {"text": {"type": "string"}}, "required": ["text"]},
)
USER = Message("user", "Please repeat: hello")
USAGE = Usage(9, 3, 12)


class Says:
    """Answers with one text; remembers what it was asked."""

    def __init__(self, text: str, error: ModelError | None = None) -> None:
        self.text = text
        self.error = error
        self.asked: list[tuple[ModelRequest, Mapping[str, Any]]] = []

    async def call_with(self, request: ModelRequest, extra: Mapping[str, Any]) -> AsyncIterator[TextDelta | Reply]:
        self.asked.append((request, extra))
        if self.error is not None:
            raise self.error
        yield Reply(Message("assistant", self.text), USAGE)

    def call(self, request: ModelRequest) -> AsyncIterator[TextDelta | Reply]:
        return self.call_with(request, {})

    async def aclose(self) -> None: ...


async def pieces(model: Shim | Fallback, request: ModelRequest) -> list[TextDelta | Reply]:
    return [piece async for piece in model.call(request)]


@pytest.mark.requirement("tool-shim")
async def test_a_call_in_json_is_a_tool_call() -> None:
    says = Says('{"tool": "echo", "arguments": {"text": "hello"}}')
    (reply,) = await pieces(Shim(says), ModelRequest((USER,), (ECHO,)))
    assert isinstance(reply, Reply)
    (call,) = reply.message.tool_calls
    assert (call.name, json.loads(call.arguments)) == ("echo", {"text": "hello"})
    assert reply.usage == USAGE
    request, extra = says.asked[0]
    assert request.tools == ()
    assert "echo(text): Give the text back." in request.messages[0].content
    first, answer = extra["response_format"]["json_schema"]["schema"]["anyOf"]
    assert first["properties"] == {"tool": {"const": "echo"}, "arguments": ECHO.parameters}
    assert answer["required"] == ["answer"]


@pytest.mark.requirement("tool-shim")
async def test_an_answer_in_json_is_the_answer_and_is_streamed_to_who_wants_that() -> None:
    says = Says('{"answer": "Paris"}')
    streamed, reply = await pieces(Shim(says), ModelRequest((USER,), (ECHO,), stream=True))
    assert streamed == TextDelta("Paris")
    assert isinstance(reply, Reply)
    assert reply.message == Message("assistant", "Paris")


@pytest.mark.parametrize("text", ["plain words", '{"tool": "rm", "arguments": {}}', '{"answer": "cut', "[1]"])
async def test_what_is_neither_is_the_answer_as_it_stands(text: str) -> None:
    (reply,) = await pieces(Shim(Says(text)), ModelRequest((USER,), (ECHO,)))
    assert isinstance(reply, Reply)
    assert reply.message == Message("assistant", text)


@pytest.mark.requirement("tool-shim")
async def test_after_a_result_the_tools_are_not_offered_again() -> None:
    says = Says('{"answer": "hello"}')
    call = Message("assistant", "", (ToolCall("c1", "echo", '{"text": "hello"}'),))
    result = Message("tool", "hello", tool_call_id="c1", name="echo")
    await pieces(Shim(says), ModelRequest((USER, call, result), (ECHO,)))
    request, extra = says.asked[0]
    assert request.messages[-1].content == "Please repeat: hello\nResult: hello"
    assert "anyOf" not in extra["response_format"]["json_schema"]["schema"]


async def test_without_tools_nothing_is_changed() -> None:
    says = Says("hi")
    await pieces(Shim(says), ModelRequest((USER,)))
    assert says.asked == [(ModelRequest((USER,)), {})]


@pytest.mark.requirement("tool-shim")
async def test_an_endpoint_that_knows_no_tools_is_asked_with_the_shim_from_then_on() -> None:
    refuses = Says("", ModelError("no tools here", reason=failures.TOOLS_UNSUPPORTED))
    shimmed = Says('{"answer": "hi"}')
    model = Fallback(refuses, Shim(shimmed))
    for _ in range(2):
        (reply,) = await pieces(model, ModelRequest((USER,), (ECHO,)))
        assert isinstance(reply, Reply)
        assert reply.message.content == "hi"
    assert (len(refuses.asked), len(shimmed.asked)) == (1, 2)


async def test_any_other_error_is_the_callers() -> None:
    model = Fallback(Says("", ModelError("away", reason="ModelUnavailable")), Shim(Says("")))
    with pytest.raises(ModelError, match="away"):
        await pieces(model, ModelRequest((USER,), (ECHO,)))
