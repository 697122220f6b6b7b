"""Tool calls for models that have none: what is asked of them, and what their JSON comes to."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from typing import Any

import pytest

from kadre.base.errors import ModelError
from kadre.engine.messages import Message, ToolCall, ToolSpec, Usage
from kadre.engine.models import failures
from kadre.engine.models.port import ModelRequest, Reply, TextDelta
from kadre.engine.models.shim import Fallback, Shim

pytestmark = pytest.mark.requirement("tool-shim")

ECHO = ToolSpec(
    name="echo",
    description="Give the text back.",
    parameters={"type": "object", "properties": {"text": {"type": "string"}}, "required": ["text"]},
)
SYSTEM = Message("system", "You are a parrot.")
USER = Message("user", "Please repeat: hello")
CALL = '{"tool": "echo", "arguments": {"text": "hello"}}'
CALLED = Message("assistant", "", (ToolCall("c1", "echo", '{"text":"hello"}'),))
RESULT = Message("tool", "hello", tool_call_id="c1", name="echo")
USAGE = Usage(9, 3, 12)


class Worded:
    """Says these texts one after the other, the last one for ever; remembers what it was asked."""

    def __init__(self, *turns: str | ModelError) -> None:
        self.turns = list(turns)
        self.asked: list[tuple[ModelRequest, Mapping[str, Any]]] = []
        self.open = 0
        self.meeting: asyncio.Barrier | None = None
        """Of the calls that are made at once."""

    async def call(self, request: ModelRequest) -> AsyncGenerator[TextDelta | Reply, None]:
        async with aclosing(self._say(request, {})) as pieces:
            async for piece in pieces:
                yield piece

    async def _say(self, request: ModelRequest, extra: Mapping[str, Any]) -> AsyncGenerator[TextDelta | Reply, None]:
        self.asked.append((request, extra))
        turn = self.turns.pop(0) if len(self.turns) > 1 else self.turns[0]
        if self.meeting is not None:
            await self.meeting.wait()
        if isinstance(turn, ModelError):
            raise turn
        self.open += 1
        try:
            if request.stream:
                for start in range(0, len(turn), 3):
                    yield TextDelta(turn[start : start + 3])
            yield Reply(Message("assistant", turn), USAGE)
        finally:
            self.open -= 1

    async def aclose(self) -> None: ...

    def contents(self, number: int = -1) -> list[str]:
        return [message.content for message in self.asked[number][0].messages]


class Says(Worded):
    """Takes a schema too."""

    def call_with(self, request: ModelRequest, extra: Mapping[str, Any]) -> AsyncGenerator[TextDelta | Reply, None]:
        return self._say(request, extra)

    def schema(self, number: int = -1) -> Any:
        return self.asked[number][1]["response_format"]["json_schema"]["schema"]


async def answer(model: Shim | Fallback, *messages: Message, stream: bool = False, tools: int = 1) -> Reply:
    """The reply to messages, which repeats what was streamed."""
    request = ModelRequest(messages or (SYSTEM, USER), (ECHO,) * tools, stream)
    *deltas, reply = [piece async for piece in model.call(request)]
    assert isinstance(reply, Reply)
    streamed = "".join(delta.text for delta in deltas if isinstance(delta, TextDelta))
    assert streamed == (reply.message.content if stream else "")
    return reply


def refusal(said: str) -> ModelError:
    return ModelError(said, reason="ModelBadRequest", status=400)


async def test_a_call_in_json_is_a_tool_call() -> None:
    says = Says(CALL)
    reply = await answer(Shim(says))
    (call,) = reply.message.tool_calls
    assert (call.name, json.loads(call.arguments)) == ("echo", {"text": "hello"})
    assert (reply.usage, reply.finish_reason) == (USAGE, "tool_calls")
    assert says.asked[0][0].tools == ()
    system, user = says.contents()
    assert system.startswith("You are a parrot.\n\nTools:\n- echo(text): Give the text back.")
    assert user == USER.content
    first, other = says.schema()["anyOf"]
    assert first["properties"] == {"tool": {"const": "echo"}, "arguments": ECHO.parameters}
    assert other["properties"] == {"answer": {"type": "string"}}


async def test_an_answer_is_streamed_out_of_its_json_as_it_comes() -> None:
    request = ModelRequest((USER,), (ECHO,), stream=True)
    says = Says('{"answer": "It is \\"Paris\\",\\nas ever \\ud83d\\ude00"}')
    pieces = [piece async for piece in Shim(says).call(request)]
    assert isinstance(pieces[-1], Reply)
    assert pieces[-1].message == Message("assistant", 'It is "Paris",\nas ever 😀')
    assert len(pieces) > 5
    assert "".join(piece.text for piece in pieces[:-1] if isinstance(piece, TextDelta)) == pieces[-1].message.content


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    ("said", "meant"),
    [
        ("plain words", "plain words"),
        ('{"answer": "cut o', "cut o"),
        ('```json\n{"answer": "fenced"}\n```', "fenced"),
        ('{"other": 1}', '{"other": 1}'),
        ('{"tool": "echo", "argu', '{"tool": "echo", "argu'),
        ("[1]", "[1]"),
        ("", ""),
    ],
)
async def test_what_is_no_call_is_the_answer(said: str, meant: str, stream: bool) -> None:
    assert (await answer(Shim(Says(said)), stream=stream)).message == Message("assistant", meant)


async def test_a_further_call_may_follow_a_result_but_not_the_same_one_again() -> None:
    says = Says('{"tool": "echo", "arguments": {"text": "more"}}')
    assert (await answer(Shim(says), USER, CALLED, RESULT)).message.tool_calls
    says = Says(CALL, "It said hello.")
    reply = await answer(Shim(says), USER, CALLED, RESULT)
    assert reply.message == Message("assistant", "It said hello.")
    assert reply.usage == USAGE + USAGE


async def test_calls_and_results_are_told_in_words_with_roles_in_turns() -> None:
    says = Says('{"answer": "hello"}')
    both = Message("assistant", "", (*CALLED.tool_calls, ToolCall("c2", "echo", "no JSON")))
    await answer(Shim(says), SYSTEM, USER, both, RESULT, RESULT)
    messages = says.asked[0][0].messages
    assert [message.role for message in messages] == ["system", "user", "assistant", "user"]
    assert messages[2].content == CALL
    told = "The tool echo answered: hello"
    assert messages[3].content == f"{told}\n\n{told}\n\nWhat is the answer to my question?"


async def test_without_tools_nothing_is_changed_and_old_results_are_told_in_words() -> None:
    says = Says("hi")
    await answer(Shim(says), USER, tools=0)
    assert says.asked == [(ModelRequest((USER,)), {})]
    asked = (USER, CALLED, RESULT, Message("assistant", "hello"), Message("user", "Thanks"))
    await answer(Shim(says), *asked, tools=0)
    assert says.contents()[1:] == ["I will use the tool echo.", "The tool echo answered: hello", "hello", "Thanks"]


async def test_definitions_of_two_tools_do_not_meet() -> None:
    def tool(name: str, kind: str) -> ToolSpec:
        parameters = {"properties": {"at": {"$ref": "#/$defs/Place"}}, "$defs": {"Place": {"type": kind}}}
        return ToolSpec(name=name, parameters=parameters)

    says = Says('{"answer": ""}')
    request = ModelRequest((USER,), (tool("a", "string"), tool("b", "integer")))
    assert [piece async for piece in Shim(says).call(request)]
    schema = says.schema()
    for choice, kind in zip(schema["anyOf"], ("string", "integer"), strict=False):
        reference = choice["properties"]["arguments"]["properties"]["at"]["$ref"]
        assert schema["$defs"][reference.removeprefix("#/$defs/")] == {"type": kind}


async def test_what_an_endpoint_refuses_of_a_schema_is_left_out_from_then_on() -> None:
    says = Says(refusal("unsupported pattern in the schema"), refusal("no response_format here"), '{"answer": "yes"}')
    shim = Shim(says)
    assert (await answer(shim)).message.content == "yes"
    assert says.schema(1)["anyOf"][0]["properties"]["arguments"] == {"type": "object"}
    await answer(shim)
    assert [bool(extra) for _, extra in says.asked] == [True, True, False, False]


async def test_another_refusal_is_the_callers() -> None:
    says = Says(refusal("the context is too small"))
    with pytest.raises(ModelError, match="context"):
        await answer(Shim(says))
    assert len(says.asked) == 1


class TestWeak:
    """A model of some hundred million parameters."""

    async def test_its_json_decides_and_its_answer_is_asked_for_in_text(self) -> None:
        says = Says('{"answer": ""}', "Paris is the capital.")
        reply = await answer(Shim(says, weak=True), SYSTEM, USER, stream=True)
        assert reply.message == Message("assistant", "Paris is the capital.")
        assert reply.usage == USAGE + USAGE
        assert says.schema(0)["anyOf"][-1]["properties"] == {"answer": {"const": ""}}
        assert says.asked[1] == (ModelRequest((SYSTEM, USER), (), stream=True), {})

    async def test_a_call_that_repeats_the_examples_is_none(self) -> None:
        def calls(text: str) -> Shim:
            call = json.dumps({"tool": "echo", "arguments": {"text": text}})
            return Shim(Says(call, "Hello!"), weak=True)

        for text in ("Good day!", "Hi, all", "Hi! Good day."):
            assert (await answer(calls(text), Message("user", "Hi"))).message.content == "Hello!"
        assert (await answer(calls("good day"), Message("user", "say good day"))).message.tool_calls
        assert (await answer(calls("C"), Message("user", "Hi"))).message.tool_calls

    async def test_after_a_result_no_tool_is_offered_and_it_is_asked_to_repeat_it(self) -> None:
        says = Says("hello")
        earlier = (Message("user", "What is new?"), Message("assistant", "Nothing."))
        reply = await answer(Shim(says, weak=True), SYSTEM, *earlier, USER, CALLED, RESULT)
        assert reply.message == Message("assistant", "hello")
        assert [extra for _, extra in says.asked] == [{}]
        shown = says.contents()
        assert shown[-1] == "Please repeat: hello\n\nRepeat this text exactly, nothing else:\nhello"
        assert "What is new?" not in shown
        for question, repeated in zip(shown[1:-1:2], shown[2:-1:2], strict=True):
            assert question.endswith(f"\n{repeated}")

    async def test_a_result_that_its_answer_leaves_out_is_put_after_it(self) -> None:
        reply = await answer(Shim(Says("I do not know."), weak=True), USER, CALLED, RESULT, stream=True)
        assert reply.message.content == "I do not know.\n\nhello"

    async def test_it_decides_by_the_last_message_and_answers_with_the_conversation(self) -> None:
        says = Says('{"answer": ""}', "yes")
        earlier = (USER, CALLED, RESULT, Message("assistant", "hello"))
        await answer(Shim(says, weak=True), SYSTEM, *earlier, Message("user", "And now?"))
        assert says.contents(0)[1:] == ["And now?"]
        assert says.contents(1) == [SYSTEM.content, USER.content, "hello", "And now?"]

    async def test_a_long_conversation_is_shortened_to_what_it_can_read(self) -> None:
        says = Says("yes")
        long = [Message("user" if number % 2 else "assistant", f"{number} " + "x" * 900) for number in range(100)]
        await answer(Shim(says, weak=True), SYSTEM, *long, Message("user", "y" * 5000), tools=0)
        contents = says.contents()
        assert contents[0] == SYSTEM.content
        assert sum(map(len, contents)) <= 8000
        assert contents[-1].startswith("yyy")
        assert contents[-1].endswith("…")


async def test_an_endpoint_that_knows_no_tools_is_asked_with_the_shim_from_then_on() -> None:
    refuses = Says(ModelError("no tools here", reason=failures.TOOLS_UNSUPPORTED))
    shimmed = Says('{"answer": "hi"}')
    model = Fallback(refuses, Shim(shimmed))
    for _ in range(2):
        assert (await answer(model)).message.content == "hi"
    assert (len(refuses.asked), len(shimmed.asked)) == (1, 2)


async def test_any_other_error_is_the_callers() -> None:
    model = Fallback(Says(ModelError("away", reason="ModelUnavailable")), Shim(Says("")))
    with pytest.raises(ModelError, match="away"):
        await answer(model)


async def test_calls_that_meet_the_refusal_at_once_are_all_answered() -> None:
    refuses = Says(ModelError("no tools here", reason=failures.TOOLS_UNSUPPORTED))
    model = Fallback(refuses, Shim(Says('{"answer": "hi"}')))
    first, second = model.call(ModelRequest((USER,), (ECHO,))), model.call(ModelRequest((USER,), (ECHO,)))
    refuses.meeting = asyncio.Barrier(2)
    replies = await asyncio.gather(anext(first), anext(second))
    assert [reply.message.content for reply in replies if isinstance(reply, Reply)] == ["hi", "hi"]


@pytest.mark.parametrize("refused", [False, True], ids=["native", "shim"])
async def test_closing_a_stream_closes_what_is_below_it(refused: bool) -> None:
    native = Says(ModelError("none", reason=failures.TOOLS_UNSUPPORTED) if refused else "one two three")
    below = Says('{"answer": "one two three"}') if refused else native
    pieces = Fallback(native, Shim(below)).call(ModelRequest((USER,), (ECHO,), stream=True))
    assert isinstance(await anext(pieces), TextDelta)
    assert below.open == 1
    await pieces.aclose()
    assert below.open == 0


@pytest.mark.parametrize("stream", [False, True])
async def test_a_model_that_takes_no_schema_is_asked_in_words_alone(stream: bool) -> None:
    says = Worded(CALL)
    reply = await answer(Shim(says), stream=stream)
    assert [call.name for call in reply.message.tool_calls] == ["echo"]
    assert "Reply in JSON" in says.contents()[0]
    assert says.asked[0][1] == {}


@pytest.mark.timeout(10)  # it once took the cube of the spaces
async def test_a_fence_that_is_not_closed_does_not_take_long() -> None:
    text = "```" + " " * 100_000 + "x"
    assert (await answer(Shim(Worded(text)))).message.content == text
