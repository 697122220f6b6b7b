"""The scripted model: rules in, answers, calls and faults out, as any model would give them."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from typing import Any

import pytest

from kadre.base.clock import FakeClock
from kadre.base.errors import ModelError, ProblemError
from kadre.base.problems import Source
from kadre.engine.messages import Message, ToolCall, ToolSpec, Usage
from kadre.engine.models.port import ModelRequest, Reply, TextDelta
from kadre.engine.models.scripted import Scripted
from kadre.engine.models.scripted_rules import parse_rules

pytestmark = pytest.mark.requirement("scripted-model")

USER = Message("user", "hello world")
CALLED = Message("assistant", "", (ToolCall("c1", "look", "{}"),))
RESULT = Message("tool", "a red ball", tool_call_id="c1", name="look")


def tool(name: str, /, **properties: str) -> ToolSpec:
    return ToolSpec(name=name, parameters={"properties": {key: {"type": kind} for key, kind in properties.items()}})


def scripted(*rules: dict[str, Any], clock: FakeClock | None = None, timeout: float = 30) -> Scripted:
    return Scripted(parse_rules(list(rules)), clock=clock or FakeClock(), timeout=timeout)


async def answer(model: Scripted, *messages: Message, tools: Sequence[ToolSpec] = ()) -> Reply:
    (reply,) = [piece async for piece in model.call(ModelRequest(messages or (USER,), tuple(tools)))]
    assert isinstance(reply, Reply)
    return reply


async def said(model: Scripted, *messages: Message, tools: Sequence[ToolSpec] = ()) -> str:
    return (await answer(model, *messages, tools=tools)).message.content


async def test_the_first_rule_that_applies_is_used() -> None:
    model = scripted({"match": "^bye", "say": "no"}, {"match": "HELLO", "say": "one"}, {"say": "two"})
    assert await said(model) == "one"
    assert await said(model, Message("user", "else")) == "two"


async def test_it_goes_by_the_last_user_message() -> None:
    model = scripted({"match": "hello", "say": "again"}, {"say": "new"})
    assert await said(model, USER, Message("assistant", "hi"), Message("user", "more")) == "new"


async def test_texts_take_groups_and_what_was_said() -> None:
    model = scripted({"match": r"(\w+) (?P<who>\w+)( maybe)?", "say": '{1}|{who}|{3}|{0}|{message}|{{who}}|{"a": 1}'})
    assert await said(model) == 'hello|world||hello world|hello world|{who}|{"a": 1}'


@pytest.mark.parametrize("rules", [({"match": "^(a|aa)+$", "say": "never"},), ()], ids=["written", "built-in"])
@pytest.mark.timeout(10)  # with Python's own engine it would not end
async def test_no_message_keeps_a_rule_busy(rules: tuple[dict[str, Any], ...]) -> None:
    for text in ("a" * 20_000 + "!", "what is " + " " * 50_000 + "x"):
        assert (await said(scripted(*rules), Message("user", text))).endswith(text)


async def test_a_rule_may_wait_for_a_result_or_for_a_call_of_the_turn() -> None:
    model = scripted(
        {"after_tool": True, "call": 3, "say": "third"},
        {"after_tool": True, "say": "I see {tool_output}."},
        {"after_tool": False, "say": "nothing yet"},
    )
    assert await said(model) == "nothing yet"
    assert await said(model, USER, CALLED, RESULT) == "I see a red ball."
    assert await said(model, USER, CALLED, RESULT, CALLED, RESULT) == "third"
    assert await said(model, USER, CALLED, RESULT, Message("user", "next")) == "nothing yet"


async def test_a_rule_with_tools_calls_them_once_a_turn_and_only_where_they_are_offered() -> None:
    model = scripted(
        {"match": "hello (?P<who>.*)", "tools": [{"name": "GET_*", "arguments": {"*": "{who}", "deep": [{"a": "{0}"}]}},
                                                 {"name": "look"}], "say": "Wait."}
    )  # fmt: skip
    offered = (tool("other"), tool("get_b", n="integer", name="string"), tool("look"))
    reply = await answer(model, tools=offered)
    assert (reply.message.content, reply.finish_reason) == ("Wait.", "tool_calls")
    first, second = reply.message.tool_calls
    assert (first.name, json.loads(first.arguments)) == ("get_b", {"name": "world", "deep": [{"a": "hello world"}]})
    assert (second.name, second.arguments) == ("look", "{}")
    assert first.id != second.id
    assert (await answer(model, tools=offered[:2])).message.tool_calls == ()
    assert (await answer(model, USER, CALLED, RESULT, tools=offered)).message.tool_calls == ()


async def test_arguments_become_what_their_parameters_want() -> None:
    offered = tool("set", count="integer", share="number", on="boolean", name="string", broken="integer")
    values = {"count": "3", "share": "0.5", "on": "true", "name": "3", "broken": "three", "more": "3"}
    reply = await answer(scripted({"tools": [{"name": "set", "arguments": values}]}), tools=[offered])
    assert json.loads(reply.message.tool_calls[0].arguments) == {
        "count": 3, "share": 0.5, "on": True, "name": "3", "broken": "three", "more": "3"
    }  # fmt: skip


async def test_arguments_that_are_a_text_are_sent_as_they_are() -> None:
    reply = await answer(scripted({"tools": [{"name": "set", "arguments": "{not json"}]}), tools=[tool("set")])
    assert reply.message.tool_calls[0].arguments == "{not json"


async def test_what_a_user_wrote_is_no_pattern_of_a_tools_name() -> None:
    model = scripted({"match": "use (.*)", "tools": [{"name": "{1}"}]}, {"say": "no such tool"})
    assert await said(model, Message("user", "use *"), tools=[tool("rm")]) == "no such tool"


async def test_words_stream_one_by_one_and_a_reader_sees_each() -> None:
    seen: list[str] = []
    model = scripted({"say": "one  two\nthree"})
    others = asyncio.create_task(_beside(seen))
    async for piece in model.call(ModelRequest((USER,), stream=True)):
        seen.append(piece.text if isinstance(piece, TextDelta) else piece.message.content)  # noqa: PERF401 - as it comes
    await others
    assert [text for text in seen if text != "beside"] == ["one  ", "two\n", "three", "one  two\nthree"]
    assert seen.index("beside") < len(seen) - 2


async def _beside(seen: list[str]) -> None:
    seen.append("beside")


async def test_usage_counts_words_and_is_the_same_every_time() -> None:
    model = scripted({"say": "one two three"})
    messages = (Message("system", "be kind"), USER)
    assert (await answer(model, *messages)).usage == (await answer(model, *messages)).usage == Usage(4, 3, 7)


async def test_it_waits_as_long_as_its_rule_says() -> None:
    clock = FakeClock()
    task = asyncio.create_task(said(scripted({"say": "a b c", "delay": 2, "word_delay": 0.5}, clock=clock)))
    await clock.advance(2.9)
    assert not task.done()
    await clock.advance(0.2)
    assert await task == "a b c"


async def test_a_status_is_tried_again_after_what_it_asks_for() -> None:
    clock = FakeClock()
    rule = {"say": "at last", "fault": {"status": 429, "retry_after": 3, "times": 2}}
    task = asyncio.create_task(said(scripted(rule, clock=clock)))
    await clock.advance(5.9)
    assert not task.done()
    await clock.advance(0.2)
    assert await task == "at last"


async def test_a_fault_that_is_over_and_has_nothing_to_say_leaves_the_word_to_the_next_rule() -> None:
    model = scripted({"fault": {"status": 400, "times": 1}}, {"say": "next"})
    with pytest.raises(ModelError) as caught:
        await answer(model)
    assert (caught.value.status, caught.value.reason, caught.value.retryable) == (400, "ModelBadRequest", False)
    assert await said(model) == "next"


@pytest.mark.parametrize(("fault", "reason"), [("close", "ModelStreamBroken"), ("hang", "ModelTimeout")])
async def test_an_answer_stops_halfway(fault: str, reason: str) -> None:
    clock, words = FakeClock(), []

    async def read() -> None:
        model = scripted({"say": "one two three four", "fault": fault}, clock=clock, timeout=30)
        async for piece in model.call(ModelRequest((USER,), stream=True)):
            assert isinstance(piece, TextDelta)
            words.append(piece.text)

    task = asyncio.create_task(read())
    for _ in range(10):
        await asyncio.sleep(0)  # between words
    await clock.advance(29)
    assert words == ["one ", "two "]
    assert task.done() == (fault == "close")
    await clock.advance(2)
    with pytest.raises(ModelError) as caught:
        await task
    assert caught.value.reason == reason


async def test_without_a_rule_that_applies_the_built_in_ones_answer() -> None:
    model = scripted({"match": "never", "say": "x"})
    assert await said(model) == "I am a scripted model, and this is what you said: hello world"
    assert await said(model, USER, CALLED, RESULT, RESULT) == "Here is what I found: a red ball\na red ball"


@pytest.mark.parametrize(
    ("text", "name", "arguments"),
    [
        ("Please repeat: hello", "my_echo", {"message": "hello"}),
        ("Repeat after me: good morning", "my_echo", {"message": "good morning"}),
        ("what is 6*7?", "calculate", {"expression": "6*7"}),
        ("calculate (2 + 2) * 3", "calculate", {"expression": "(2 + 2) * 3"}),
        ("ask the worker-1 about bridges", "worker-1", {"message": "about bridges"}),
        ('call my_echo {"message": "x"}', "my_echo", {"message": "x"}),
    ],
)
async def test_built_in_rules_find_a_tool_and_its_parameter(text: str, name: str, arguments: dict[str, str]) -> None:
    offered = [tool("calculate", expression="string"), tool("worker-1", message="string"),
               tool("my_echo", times="integer", message="string")]  # fmt: skip
    (call,) = (await answer(scripted(), Message("user", text), tools=offered)).message.tool_calls
    assert (call.name, json.loads(call.arguments)) == (name, arguments)


@pytest.mark.parametrize(
    ("rule", "path", "text"),
    [
        ("text", "rule 1", "not a mapping"),
        ({}, "rule 1", "does nothing"),
        ({"mach": "x", "say": "y"}, "rule 1.mach", "did you mean match?"),
        ({"match": "(", "say": "{1}"}, "rule 1.match", "not a regular expression"),
        ({"match": "(?=a)b", "say": "x"}, "rule 1.match", "invalid perl operator: (?="),
        ({"match": "(?P<city>x)", "say": "{ciy}"}, "rule 1.say", "did you mean city?"),
        ({"say": "{1}"}, "rule 1.say", "{1} stands for nothing"),
        ({"say": 1}, "rule 1.say", "not a text"),
        ({"say": "x", "call": True}, "rule 1.call", "not a whole number"),
        ({"say": "x", "call": 0}, "rule 1.call", "from 1"),
        ({"say": "x", "delay": -1}, "rule 1.delay", "negative"),
        ({"tools": [{"arguments": {}}]}, "rule 1.tools[0].name", "names no tool"),
        ({"tools": [{"name": "a", "arguments": {"b": ["{c}"]}}]}, "rule 1.tools[0].arguments.b[0]", "{c}"),
        ({"fault": "hagn"}, "rule 1.fault", "did you mean hang?"),
        ({"fault": {"status": 200}}, "rule 1.fault.status", "200 is no HTTP status of an error"),
        ({"fault": {"times": 1}}, "rule 1.fault.status", "none is no HTTP status"),
        ({"fault": {"kind": "hang", "status": 500}}, "rule 1.fault", "hang has no status"),
        ({"fault": {"status": 500, "times": 0}}, "rule 1.fault.times", "from 1"),
    ],
)
def test_what_is_wrong_with_a_rule_is_told_with_its_place_and_a_fix(rule: Any, path: str, text: str) -> None:
    with pytest.raises(ProblemError) as caught:
        parse_rules([rule], Source("my.rules"))
    (problem,) = caught.value.problems
    assert (problem.path, problem.source.file) == (path, "my.rules")
    assert text in problem.message
    assert problem.fix


def test_all_that_is_wrong_is_told_at_once() -> None:
    with pytest.raises(ProblemError) as caught:
        parse_rules([{"sey": "x", "say": "{a}"}, {"say": "fine"}, 3])
    assert [problem.path for problem in caught.value.problems] == ["rule 1.sey", "rule 1.say", "rule 3"]
    with pytest.raises(ProblemError, match="rules are a list"):
        parse_rules({"match": "x"})
