"""The scripted model's page is true: every field is told, and its examples do what they say."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from kadre.base.clock import FakeClock
from kadre.base.errors import ModelError, ProblemError
from kadre.engine.messages import Message, ToolSpec
from kadre.engine.models import scripted_rules
from kadre.engine.models.port import ModelRequest, Reply
from kadre.engine.models.scripted import Scripted

PAGE = (Path(__file__).parents[4] / "docs" / "reference" / "scripted-model.md").read_text(encoding="utf-8")
EXAMPLE, WRONG = (yaml.safe_load(block) for block in re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL))
PLACES = {"place": {"type": "string"}, "days": {"type": "integer"}}


class NoWaiting(FakeClock):
    """Waits take no time."""

    async def sleep(self, seconds: float) -> None:
        """Back at once."""


async def answer(said: str, *tools: str, rules: Any = ()) -> Reply:
    specs = tuple(ToolSpec(name=tool, parameters={"properties": PLACES}) for tool in tools)
    model = Scripted(scripted_rules.parse_rules(list(rules)), clock=NoWaiting())
    pieces = [piece async for piece in model.call(ModelRequest((Message("user", said),), specs))]
    assert isinstance(pieces[-1], Reply)
    return pieces[-1]


def test_every_field_of_a_rule_is_on_the_page() -> None:
    fields = [*scripted_rules._TYPES, *scripted_rules._TOOL_TYPES, *scripted_rules._FAULT_TYPES]
    assert [field for field in fields if f"`{field}" not in PAGE and f"{field}:" not in PAGE] == []
    assert [value for value in scripted_rules.COMMON if f"`{{{value}}}`" not in PAGE] == []


async def test_the_pages_example_calls_its_tool() -> None:
    reply = await answer("Weather in Oslo, 3 days?", "now", "get_weather", rules=EXAMPLE)
    (call,) = reply.message.tool_calls
    assert (reply.message.content, call.name) == ("Let me look.", "get_weather")
    assert yaml.safe_load(call.arguments)["place"] == "Oslo"


async def test_the_pages_example_is_busy_twice_then_answers() -> None:
    assert (await answer("Are you busy?", rules=EXAMPLE)).message.content == "Now I have time."


async def test_the_pages_example_breaks_off() -> None:
    with pytest.raises(ModelError) as caught:
        await answer("tell me a story", rules=EXAMPLE)
    assert caught.value.reason == "ModelStreamBroken"


def test_both_mistakes_of_the_pages_wrong_file_are_told() -> None:
    with pytest.raises(ProblemError) as caught:
        scripted_rules.parse_rules(WRONG)
    assert [problem.path for problem in caught.value.problems] == ["rule 1.tools[0].argumnets", "rule 1.say"]
    assert "did you mean arguments?" in str(caught.value)


@pytest.mark.parametrize(
    ("said", "tool"),
    [('call add_one {"a": 1}', "add_one"), ("ask worker-1 about it", "worker-1"),
     ("Delegate to the analyst: sums", "analyst"),
     ("Please repeat: hello", "my_echo"), ("echo the text abc", "echo"), ("calculate 6 * 7", "calculate"),
     ("what is 6 * 7?", "calculator"), ("search for cats", "web_search"), ("look up cats", "search")],
)  # fmt: skip
async def test_what_the_page_says_of_the_built_in_rules_is_so(said: str, tool: str) -> None:
    (call,) = (await answer(said, "other", tool)).message.tool_calls
    assert call.name == tool


async def test_without_such_a_tool_a_text_is_repeated_and_anything_else_said_back() -> None:
    assert (await answer("Please repeat: hello")).message.content == "hello"
    assert "Good evening" in (await answer("Good evening")).message.content
