"""JSON Schemas that authors write, and values that models and APIs give."""

from __future__ import annotations

from typing import Any

import pytest

from kadre.base import schemas

pytestmark = pytest.mark.requirement("tool-parameters")


@pytest.mark.parametrize(
    ("schema", "why"),
    [
        ({"type": "strin"}, "type: 'strin' is not valid"),
        ({"properties": {"a": {"required": True}}}, "properties.a.required: True is not of type 'array'"),
        ([], "it: [] is not of type"),
        ({1: {}}, "its key 1 is no text"),
        ({"pattern": r"(a)\1"}, "pattern: "),
        ({"$ref": "http://169.254.169.254/latest"}, "$ref may name a part of the schema itself"),
        ({"items": {"$ref": "file:///etc/passwd"}}, "$ref may name a part of the schema itself"),
        ({"$schema": "http://json-schema.org/draft-07/schema#"}, "$schema is not supported"),
        ({"anyOf": [{"patternProperties": {"^(a+)+$": {}}}]}, "patternProperties is not supported"),
    ],
)
def test_what_is_no_schema_says_why(schema: Any, why: str) -> None:
    assert why in (schemas.fault(schema) or "")


def test_one_that_is_nested_too_deeply_is_none() -> None:
    schema: dict[str, Any] = {}
    for _ in range(1000):
        schema = {"items": schema}
    assert "nested more than" in (schemas.fault(schema) or "")


def test_a_property_may_be_named_like_a_word_of_the_draft() -> None:
    schema = {"properties": {"$id": {"type": "string"}, "pattern": {"type": "integer"}}, "default": {"$schema": 1}}
    assert schemas.fault(schema) is None
    assert schemas.violations(schema, {"$id": 1, "pattern": "x"}, "it") == [
        "$id: 1 is not of type 'string'",
        "pattern: 'x' is not of type 'integer'",
    ]


def test_every_violation_is_told_with_its_place() -> None:
    schema = {
        "type": "object",
        "required": ["id", "name"],
        "properties": {
            "rows": {"type": "array", "maxItems": 2, "items": {"type": "object", "additionalProperties": False}},
            "when": {"type": "string", "format": "date-time"},
        },
    }
    value = {"rows": [{}, {"x": 1}, {}], "when": "noon"}
    assert schemas.violations(schema, value, "the answer") == [
        "id: is required",
        "name: is required",
        "rows: has 3 items, at most 2 are allowed",
        "rows[1].x: is unknown; there are none",
        "when: 'noon' is not a 'date-time'",
    ]
    assert schemas.violations(schema, [], "the answer") == ["the answer: [] is not of type 'object'"]
    assert schemas.violations(schema, {"id": 1, "name": 2, "when": "2026-01-02T03:04:05Z"}, "the answer") == []


def test_what_is_told_is_bounded() -> None:
    told = schemas.violations({"items": {"type": "string"}}, [list(range(1000))] * 1000, "it")
    assert len(told) == schemas.MOST + 1
    assert told[-1] == "and more"
    assert all(len(line) <= schemas.SHOWN for line in told)


def test_a_value_does_not_decide_how_long_it_takes() -> None:
    assert schemas.violations({"pattern": "^(a+)+$"}, "a" * 50_000 + "!", "it")
    many = [{"n": number} for number in range(50_000)]
    assert schemas.violations({"uniqueItems": True}, many, "it") == []
    assert schemas.violations({"uniqueItems": True}, [*many, {"n": 7}], "it") == ["it: has items that are alike"]


@pytest.mark.parametrize(
    ("items", "alike"), [([1, 1.0], True), ([1, True], False), (["1", 1], False), ([[], []], True)]
)
def test_items_are_alike_as_json_has_it(items: list[Any], alike: bool) -> None:
    assert bool(schemas.violations({"uniqueItems": True}, items, "it")) == alike


def test_a_schema_that_has_no_end_is_told() -> None:
    assert schemas.violations({"$ref": "#"}, {}, "it") == ["it: is nested too deeply"]
    assert "not in it" in schemas.violations({"$ref": "#/$defs/gone"}, {}, "it")[0]
