"""What a model gives a tool is checked before the call."""

from __future__ import annotations

from typing import Any

import pytest

from kadre.base.errors import ToolError
from kadre.engine.tools.parameters import DEEPEST, check, fill, meant

pytestmark = pytest.mark.requirement("tool-parameters")
SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {
        "title": {"type": "string", "maxLength": 20},
        "priority": {"type": "string", "enum": ["low", "medium", "high"], "default": "medium"},
        "customer": {"type": "string", "pattern": "^[A-Z0-9]{8}$"},
        "count": {"type": "integer", "minimum": 1, "maximum": 9},
        "options": {
            "type": "object",
            "properties": {"notify": {"type": "boolean", "default": True}, "tags": {"type": "array", "default": []}},
        },
    },
    "additionalProperties": False,
    "required": ["title"],
}


def test_defaults_are_filled_in_down_to_what_is_given() -> None:
    assert check(SCHEMA, {"title": "t"}) == {"title": "t", "priority": "medium"}
    found = check(SCHEMA, {"title": "t", "options": {"tags": ["a"]}, "priority": "low"})
    assert found == {"title": "t", "options": {"tags": ["a"], "notify": True}, "priority": "low"}
    found = check(SCHEMA, {"title": "t", "options": {}})
    found["options"]["tags"].append("mine")
    assert check(SCHEMA, {"title": "t", "options": {}})["options"]["tags"] == []


@pytest.mark.requirement("approval-policy")
def test_what_is_filled_in_is_whole_so_that_filling_it_in_again_changes_nothing() -> None:
    notify = {"type": "object", "default": {}, "properties": {"by": {"type": "string", "default": "mail"}}}
    options = {"type": "object", "default": {}, "properties": {"force": {"default": True}, "notify": notify}}
    schema = {"type": "object", "properties": {"options": options}}
    whole = {"options": {"force": True, "notify": {"by": "mail"}}}
    assert fill(schema, {}) == check(schema, {}) == whole
    assert fill(schema, whole) == check(schema, whole) == whole
    assert options["default"] == {}


FORCE = {"type": "object", "properties": {"force": {"$ref": "#/$defs/Yes"}}}
DEFS = {"Options": FORCE, "Yes": {"type": "boolean", "default": True}, "a/b": FORCE}
OPTIONS = {"$ref": "#/$defs/Options"}


@pytest.mark.requirement("approval-policy")
@pytest.mark.parametrize(
    "inner",
    [
        OPTIONS,
        {"$ref": "#/$defs/a~1b"},
        {"allOf": [OPTIONS], "description": "how"},
        {"anyOf": [OPTIONS, {"type": "null"}], "default": None},
        {"oneOf": [{"type": "null"}, OPTIONS]},
    ],
)
def test_what_a_server_may_mean_is_found_wherever_its_schema_keeps_it(inner: Any) -> None:
    schema = {"type": "object", "properties": {"options": inner}, "$defs": DEFS}
    assert meant(schema, {"options": {}}) == {"options": {"force": True}}
    assert meant({"allOf": [schema], "$defs": DEFS}, {"options": {}}) == {"options": {"force": True}}
    assert meant(schema, {"options": {"force": False}}) == {"options": {"force": False}}
    assert fill(schema, {"options": {}}) == {"options": {}}


@pytest.mark.requirement("approval-policy")
def test_a_schema_that_refers_to_itself_or_to_nothing_is_looked_at_so_far() -> None:
    for ref in ("#", "#/allOf/0", "#/nowhere/at/all", "https://example.com/schema", 1):
        own: dict[str, Any] = {"properties": {"on": {"$ref": ref, "default": {}}, "x": {"default": 1}}}
        assert meant({**own, "$ref": "#", "allOf": [{"$ref": "#"}, own]}, {})["x"] == 1
    deep: dict[str, Any] = {}
    for _ in range(10 * DEEPEST):
        deep = {"on": deep}
    assert meant({"properties": {"on": {"$ref": "#"}}}, deep) == deep


def test_null_is_nothing_where_a_value_may_be_left_out() -> None:
    assert check(SCHEMA, {"title": "t", "count": None}) == {"title": "t", "priority": "medium"}
    with pytest.raises(ToolError, match="title: None is not of type 'string'"):
        check(SCHEMA, {"title": None})


def test_all_that_is_wrong_is_told_at_once() -> None:
    wrong = {"title": "x" * 21, "priority": "urgent", "customer": "no", "count": 10, "titel": "t", "options": []}
    with pytest.raises(ToolError) as raised:
        check(SCHEMA, wrong)
    for told in (
        "nothing was called",
        "title: has 21 characters, at most 20 are allowed",
        "priority: 'urgent' is not one of ['low', 'medium', 'high']",
        "customer: 'no' does not match ^[A-Z0-9]{8}$",
        "count: 10 is greater than the maximum of 9",
        "titel: is unknown; did you mean title?",
        "options: [] is not of type 'object'",
    ):
        assert told in str(raised.value)
    assert not raised.value.unknown


def test_a_missing_argument_is_named() -> None:
    with pytest.raises(ToolError, match="the arguments are wrong: title: is required"):
        check(SCHEMA, {})
