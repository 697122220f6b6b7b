"""The parameters that authors write of a tool, as the JSON Schema that its plan has: for models, and to check by."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pydantic.alias_generators import to_camel

from kadre.api.parts import Parameter

_SAME = ("description", "enum", "pattern", "format", "min_length", "max_length", "minimum", "maximum", "min_items",
         "max_items", "items", "properties")  # fmt: skip


def schema(parameters: Sequence[Parameter]) -> dict[str, Any]:
    """An object schema that allows the parameters and nothing else."""
    found: dict[str, Any] = {
        "type": "object",
        "properties": {parameter.name: _one(parameter) for parameter in parameters},
        "additionalProperties": False,
    }
    # Where there is a default nobody need give a value.
    required = [parameter.name for parameter in parameters if parameter.required and parameter.default is None]
    return found | {"required": required} if required else found


def _one(parameter: Parameter) -> dict[str, Any]:
    found: dict[str, Any] = {"type": parameter.type}
    for field in _SAME:
        value = getattr(parameter, field)
        if value is not None:
            found[to_camel(field)] = int(value) if isinstance(value, float) and value.is_integer() else value
    if "description" in found:
        found["description"] = found["description"].strip()
    if parameter.default is not None:
        found["default"] = parameter.default
    return found
