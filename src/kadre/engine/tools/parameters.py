"""What a model gives a tool whose author says what it takes: checked before the call, in words it can act on."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping
from typing import Any
from urllib.parse import unquote

from kadre.base import schemas
from kadre.base.errors import ToolError

DEEPEST = 32
"""Levels of objects in which defaults are looked for: a server's schema may refer to itself."""
SIDES = 32
"""Schemas of one value that are looked at."""


def check(schema: Mapping[str, Any], arguments: Mapping[str, Any], hide: Callable[[str], str] = str) -> dict[str, Any]:
    """The arguments with the defaults of those that are not given. Raises ToolError that tells all that is wrong.

    `schema` is what plan.parameters makes. A `null` for what may be left out is taken as left out: models write it.
    `hide` takes secrets out of what is told.
    """
    wrong = schemas.violations(schema, _given(schema, arguments), "the arguments", hide)
    if wrong:
        raise ToolError(f"nothing was called, the arguments are wrong: {'; '.join(wrong)}. Call it again, corrected")
    return fill(schema, arguments)


def fill(schema: Mapping[str, Any], arguments: Mapping[str, Any]) -> dict[str, Any]:
    """What `check` gives, of arguments that are right: of what it has given, the same again."""
    found: dict[str, Any] = _filled(schema, _given(schema, arguments), None, DEEPEST)
    return found


def meant(schema: Mapping[str, Any], arguments: Mapping[str, Any]) -> dict[str, Any]:
    """What a server may make of the arguments, by the defaults in its schema, wherever that keeps them."""
    found: dict[str, Any] = _filled(schema, _given(schema, arguments), schema, DEEPEST)
    return found


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


def _filled(schema: Any, value: Any, root: Mapping[str, Any] | None, left: int) -> Any:
    """The value with what the schema says of all that is left out of it, down to objects within it.

    `root`: the schema that references are about, None where none is followed. Nor is one within a default, which has
    so many levels as are written: a default that refers to itself would have no end.
    """
    if not isinstance(value, Mapping) or not left:
        return value
    found = dict(value)
    for whole in _sides(schema, root):
        for name, inner in _properties(whole).items():
            if name in value:
                found[name] = _filled(inner, found[name], root, left - 1)
            elif name not in found:
                side = next((each for each in _sides(inner, root) if "default" in each), None)
                if side is not None:
                    found[name] = _filled(inner, copy.deepcopy(side["default"]), None, left - 1)
    return found


def _sides(schema: Any, root: Mapping[str, Any] | None) -> Iterator[Mapping[str, Any]]:
    """The schemas that a value is held against at once: with a root also those that this one refers to, all that it
    has together (`allOf`), and the one of several that is no `null`."""
    todo, seen = [schema], set[int]()
    while todo and len(seen) < SIDES:
        side = todo.pop(0)
        if not isinstance(side, Mapping) or id(side) in seen:
            continue
        seen.add(id(side))
        yield side
        if root is None:
            return
        todo.append(_referred(side.get("$ref"), root))
        todo += side["allOf"] if isinstance(side.get("allOf"), list | tuple) else ()
        for several in (side.get("anyOf"), side.get("oneOf")):
            some = [each for each in several if each != {"type": "null"}] if isinstance(several, list | tuple) else ()
            todo += some if len(some) == 1 else ()


def _referred(ref: Any, root: Mapping[str, Any]) -> Any:
    """What a reference within the schema names, None for any other."""
    if not isinstance(ref, str) or not ref.startswith("#"):
        return None
    found: Any = root
    for part in unquote(ref[1:]).split("/")[1:]:
        found = found.get(part.replace("~1", "/").replace("~0", "~")) if isinstance(found, Mapping) else None
    return found
