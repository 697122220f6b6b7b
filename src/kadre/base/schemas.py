"""JSON Schemas that authors write: draft 2020-12, as models are given it.

The one way to check a value against what somebody else wrote. The library behind it is kept from what it would do by
itself: fetch what a `$ref` names from wherever that is, search with a pattern for days, compare each item with each.
"""

from __future__ import annotations

import functools
import itertools
import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import datetime
from typing import Any

from kadre.base import patterns
from kadre.base.errors import shorten
from kadre.base.problems import did_you_mean

MOST = 10
"""Violations that are told of one value."""
SHOWN = 200
"""Characters of each."""
_DEPTH = 64
_NAMED = frozenset({"properties", "$defs", "definitions", "dependentSchemas"})
_VALUES = frozenset({"const", "default", "enum", "examples"})
# Each is another way out of the schema, out of the bounds of a pattern, or to another draft.
_UNSUPPORTED = frozenset({"$dynamicRef", "$id", "$recursiveRef", "$schema", "patternProperties"})


def fault(schema: Any) -> str | None:
    """Why it is no schema that can be checked against; None where it is one."""
    wrong = next(_strange(schema, 0), None)
    if wrong:
        return wrong
    found = next(_library().meta.iter_errors(schema), None)
    return shorten(f"{_place(found.absolute_path, 'it')}: {found.message}", SHOWN) if found else None


def violations(schema: Any, value: Any, name: str, hide: Callable[[str], str] = str) -> list[str]:
    """How the value breaks the schema, each with its place in the value, `name` for the whole; empty where it does not.

    The schema is one in which `fault` finds nothing. `hide` takes secrets out of what is told, before it is cut: a part
    of one would not be found.
    """
    made = _library()
    try:
        checked = made.checker(schema, registry=made.registry, format_checker=made.formats)
        found = list(itertools.islice(checked.iter_errors(value), MOST + 1))
    except made.unresolvable as error:
        return [shorten(f"{name}: its schema refers to {error.ref}, which is not in it", SHOWN)]
    except RecursionError:
        return [f"{name}: is nested too deeply"]
    told = dict.fromkeys(shorten(hide(line), SHOWN) for each in found[:MOST] for line in _told(each, name))
    return [*told, "and more"] if len(found) > MOST else list(told)


def _strange(schema: Any, depth: int) -> Iterator[str]:
    """What the draft has and this does not, and what would be met too late."""
    if depth > _DEPTH:
        yield f"it is nested more than {_DEPTH} deep"
    elif isinstance(schema, list):
        for inner in schema:
            yield from _strange(inner, depth + 1)
    elif isinstance(schema, Mapping):
        for key, inner in schema.items():
            if not isinstance(key, str):
                yield f"its key {key!r} is no text: write it in quotes"
            elif key in _UNSUPPORTED:
                yield f"{key} is not supported"
            elif key == "$ref" and not str(inner).startswith("#"):
                yield f"$ref may name a part of the schema itself, as in #/$defs/item, and nothing else: {inner!r:.80}"
            elif key in _NAMED and isinstance(inner, Mapping):
                for each in inner.values():
                    yield from _strange(each, depth + 1)
            elif key not in _VALUES:
                yield from _strange(inner, depth + 1)


def _told(error: Any, name: str) -> Iterator[str]:
    """An error of the library, for whoever sent the value."""
    path = list(error.absolute_path)
    place = _place(path, name)
    match error.validator:
        case "additionalProperties" if error.validator_value is False:
            known = list(error.schema.get("properties", ()))
            there = f"; there are {', '.join(known)}" if known else "; there are none"
            for key in itertools.islice((key for key in error.instance if key not in known), MOST):
                yield f"{_place([*path, key], name)}: is unknown{did_you_mean(key, known) or there}"
        case "required":  # the library makes an error for each that is missing, and names it in its text alone
            for key in error.validator_value:
                if key not in error.instance:
                    yield f"{_place([*path, key], name)}: is required"
        case "maxLength" | "minLength" | "maxItems" | "minItems":
            unit = "characters" if isinstance(error.instance, str) else "items"
            bound = "at most" if error.validator.startswith("max") else "at least"
            yield f"{place}: has {len(error.instance)} {unit}, {bound} {error.validator_value} are allowed"
        case _:
            yield f"{place}: {error.message}"


def _place(path: Iterable[Any], name: str) -> str:
    text = ""
    for part in path:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else str(part)
    return text or name


class _Library:
    """What is made once of the library: 90 ms and 3 MB, where there is something to check."""

    def __init__(self) -> None:
        import jsonschema
        import referencing
        from jsonschema import validators
        from referencing import exceptions

        base = jsonschema.Draft202012Validator
        invalid = jsonschema.ValidationError

        def pattern(_: Any, wanted: Any, value: Any, __: Any) -> Iterator[Any]:
            if isinstance(value, str) and not patterns.found(wanted, value):
                yield invalid(f"{value!r} does not match {wanted}")

        def unique(_: Any, wanted: Any, value: Any, __: Any) -> Iterator[Any]:
            if wanted and isinstance(value, list) and len(set(map(_written, value))) < len(value):
                yield invalid("has items that are alike")

        self.registry: Any = referencing.Registry()  # the library's own would fetch
        self.unresolvable: Any = exceptions.Unresolvable
        self.checker: Any = validators.extend(base, {"pattern": pattern, "uniqueItems": unique})
        self.formats: Any = jsonschema.FormatChecker(("date", "email", "ipv4", "ipv6", "uuid"))
        self.formats.checks("date-time", raises=ValueError)(_is_date_time)
        regexes = jsonschema.FormatChecker(())
        regexes.checks("regex")(lambda text: not isinstance(text, str) or patterns.fault(text) is None)
        self.meta: Any = base(base.META_SCHEMA, format_checker=regexes)


@functools.cache
def _library() -> _Library:
    return _Library()


def _is_date_time(value: object) -> bool:
    """RFC 3339: a day, a time, and how far from UTC."""
    return not isinstance(value, str) or ("T" in value.upper() and datetime.fromisoformat(value).tzinfo is not None)


def _written(value: Any) -> str:
    """The same text for values that JSON Schema takes for equal: 1 and 1.0, but not 1 and true."""
    return json.dumps(value, sort_keys=True, default=str) if not isinstance(value, float) else f"{value:g}"
