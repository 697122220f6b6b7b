"""What a model gives a tool whose author says what it takes: checked before the call, in words it can act on."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

from kadre.base import schemas
from kadre.base.errors import ToolError


def check(schema: Mapping[str, Any], arguments: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments with the defaults of those that are not given. Raises ToolError that tells all that is wrong.

    `schema` is what plan.parameters makes. A `null` for what may be left out is taken as left out: models write it.
    """
    required, properties = schema.get("required", ()), schema.get("properties", {})
    given = {name: value for name, value in arguments.items() if value is not None or name in required}
    wrong = schemas.violations(schema, given, "the arguments")
    if wrong:
        raise ToolError(f"nothing was called, the arguments are wrong: {'; '.join(wrong)}. Call it again, corrected")
    return {**given, **_defaults(properties, given)}


def _defaults(properties: Mapping[str, Any], given: Mapping[str, Any]) -> dict[str, Any]:
    """What the properties say of values that are not given, down to those of objects that are."""
    found: dict[str, Any] = {}
    for name, inner in properties.items():
        if not isinstance(inner, Mapping):
            continue
        if name not in given:
            if "default" in inner:
                found[name] = copy.deepcopy(inner["default"])
        elif isinstance(given[name], Mapping) and isinstance(inner.get("properties"), Mapping):
            found[name] = {**given[name], **_defaults(inner["properties"], given[name])}
    return found
