"""The parameters of a tool as its plan has them."""

from __future__ import annotations

import pytest

from kadre.api.parts import Parameter
from kadre.base import schemas
from kadre.plan import parameters

pytestmark = pytest.mark.requirement("tool-parameters")


def test_parameters_become_a_schema_that_allows_nothing_else() -> None:
    made = parameters.schema(
        [
            Parameter(name="title", required=True, description="Ticket title\n", maxLength=200),
            Parameter(name="priority", required=True, enum=["low", "high"], default="low"),
            Parameter(name="count", type="integer", minimum=1, maximum=5),
            Parameter(name="share", type="number", maximum=0.5),
            Parameter(name="tags", type="array", items={"type": "string"}, minItems=1),
            Parameter(name="on", type="boolean", default=False),
            Parameter(name="who", type="object", properties={"id": {"type": "string", "pattern": "^C"}}),
        ]
    )
    assert made == {
        "type": "object",
        "properties": {
            "title": {"type": "string", "description": "Ticket title", "maxLength": 200},
            "priority": {"type": "string", "enum": ["low", "high"], "default": "low"},
            "count": {"type": "integer", "minimum": 1, "maximum": 5},
            "share": {"type": "number", "maximum": 0.5},
            "tags": {"type": "array", "minItems": 1, "items": {"type": "string"}},
            "on": {"type": "boolean", "default": False},
            "who": {"type": "object", "properties": {"id": {"type": "string", "pattern": "^C"}}},
        },
        "additionalProperties": False,
        "required": ["title"],
    }
    assert schemas.fault(made) is None


def test_none_are_a_schema_of_nothing() -> None:
    assert parameters.schema([]) == {"type": "object", "properties": {}, "additionalProperties": False}
