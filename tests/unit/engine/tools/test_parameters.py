"""What a model gives a tool is checked before the call."""

from __future__ import annotations

from typing import Any

import pytest

from kadre.base.errors import ToolError
from kadre.engine.tools.parameters import check

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
