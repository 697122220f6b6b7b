"""Python functions become tools that are called as their signatures say."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
import pytest

from kadre.base.errors import ToolError
from kadre.engine.tools.functions import Functions
from kadre.engine.tools.port import CallContext, ToolOutput

CONTEXT = CallContext(run_id="run-1", session_id="ses-1", key="run-1/1")


def add(a: int, b: int = 2) -> int:
    """Add two numbers."""
    return a + b


async def test_a_signature_becomes_a_schema() -> None:
    (spec,) = await Functions(add, read_only=True).specs()
    assert (spec.name, spec.description, spec.read_only) == ("add", "Add two numbers.", True)
    assert spec.parameters["properties"] == {"a": {"type": "integer"}, "b": {"type": "integer", "default": 2}}
    assert spec.parameters["required"] == ["a"]


async def test_descriptions_choices_and_nested_types_reach_the_schema() -> None:
    class Place(msgspec.Struct):
        city: str

    def weather(place: Place, unit: Annotated[Literal["c", "f"], msgspec.Meta(description="the scale")]) -> str:
        return f"{place.city} in {unit}"

    weather.__annotations__ = {
        "place": Place,
        "unit": Annotated[Literal["c", "f"], msgspec.Meta(description="the scale")],
    }
    tools = Functions(weather)
    (spec,) = await tools.specs()
    assert spec.parameters["properties"]["unit"] == {"enum": ["c", "f"], "description": "the scale"}
    assert spec.parameters["$defs"]["Place"]["properties"] == {"city": {"type": "string"}}
    output = await tools.call("weather", {"place": {"city": "Oslo"}, "unit": "c"}, CONTEXT)
    assert output == ToolOutput("Oslo in c")


async def test_a_result_that_is_no_text_is_given_as_json() -> None:
    assert await Functions(add).call("add", {"a": 1}, CONTEXT) == ToolOutput("3")


async def test_a_coroutine_function_is_awaited() -> None:
    async def hello() -> str:
        return "hello"

    assert await Functions(hello).call("hello", {}, CONTEXT) == ToolOutput("hello")


async def test_what_a_function_raises_is_an_error_the_model_reads() -> None:
    def broken() -> str:
        raise ValueError("no such thing")

    assert await Functions(broken).call("broken", {}, CONTEXT) == ToolOutput("ValueError: no such thing", is_error=True)


@pytest.mark.parametrize("arguments", [{}, {"a": "one"}, {"a": 1, "c": 2}])
async def test_arguments_that_do_not_fit_are_told_and_not_passed_on(arguments: dict[str, object]) -> None:
    with pytest.raises(ToolError, match="add: "):
        await Functions(add).call("add", arguments, CONTEXT)


async def test_an_unknown_name_is_refused() -> None:
    with pytest.raises(ToolError, match="no tool subtract"):
        await Functions(add).call("subtract", {}, CONTEXT)


def test_a_function_with_open_parameters_is_no_tool() -> None:
    def anything(*parts: str) -> str:
        return "".join(parts)

    with pytest.raises(TypeError, match="variadic"):
        Functions(anything)
