"""Whether arguments that a person or a model gives are what a tool's schema wants, whoever's the schema is."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from kadre.base import schemas

_NAMES = frozenset({"properties", "$defs", "definitions"})
_SKIPPED = frozenset({"$schema", "$id", "patternProperties"})
"""What servers write that the checking has no use for."""


def fault(schema: Mapping[str, Any], arguments: Any, hide: Callable[[str], str] = str) -> str:
    """What is wrong with the arguments; empty: nothing, or the schema is one that only its server understands.

    `hide` takes secrets out of what is told.
    """
    try:
        known = _known(schema)
    except RecursionError:
        return ""
    return "" if schemas.fault(known) else "; ".join(schemas.violations(known, arguments, "the arguments", hide))


def _known(schema: Any) -> Any:
    if isinstance(schema, list):
        return [_known(inner) for inner in schema]
    if not isinstance(schema, Mapping):
        return schema
    found = {key: inner for key, inner in schema.items() if key not in _SKIPPED}
    if "patternProperties" in schema:
        found.pop("additionalProperties", None)
    return {
        key: {name: _known(each) for name, each in inner.items()}
        if key in _NAMES and isinstance(inner, Mapping)
        else _known(inner)
        for key, inner in found.items()
    }
