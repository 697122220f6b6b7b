"""What a model gives a tool whose author says what it takes: checked before the call, in words it can act on."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from typing import Any

from kadre.base import schemas
from kadre.base.errors import ToolError


def check(schema: Mapping[str, Any], arguments: Mapping[str, Any], hide: Callable[[str], str] = str) -> dict[str, Any]:
    """The arguments with the defaults of those that are not given. Raises ToolError that tells all that is wrong.

    `schema` is what plan.parameters makes. A `null` for what may be left out is taken as left out: models write it.
    `hide` takes secrets out of what is told.
    """
    given = _given(schema, arguments)
    wrong = schemas.violations(schema, given, "the arguments", hide)
    if wrong:
        raise ToolError(f"nothing was called, the arguments are wrong: {'; '.join(wrong)}. Call it again, corrected")
    return {**given, **_defaults(_properties(schema), given)}


def fill(schema: Mapping[str, Any], arguments: Mapping[str, Any]) -> dict[str, Any]:
    """What `check` gives, of arguments that are right. `schema`: whoever's."""
    given = _given(schema, arguments)
    return {**given, **_defaults(_properties(schema), given)}


def _given(schema: Mapping[str, Any], arguments: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments without those that are left out."""
    required, properties = schema.get("required"), _properties(schema)
    required = required if isinstance(required, list | tuple) else ()
    return {
        name: value
        for name, value in arguments.items()
        if value is not None or name in required or _takes_null(properties.get(name, {"type": ""}))
    }


def _properties(schema: Mapping[str, Any]) -> Mapping[str, Any]:
    found = schema.get("properties")
    return found if isinstance(found, Mapping) else {}


def _takes_null(inner: Any) -> bool:
    """Whether `null` may be a value of its own: of a parameter that authors write it is not."""
    return not isinstance(inner, Mapping) or not isinstance(inner.get("type"), str)


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
