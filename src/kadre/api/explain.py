"""pydantic's errors -> Problems in the words of somebody who writes YAML: where, what was expected, what to write."""

from __future__ import annotations

import types
from collections.abc import Iterable, Iterator
from typing import Any, Union, get_args, get_origin

from pydantic import BaseModel, ValidationError

from kadre.api.lines import Lines
from kadre.api.resource import Conflict, Mistake, Spec
from kadre.base.errors import shorten
from kadre.base.problems import Problem, Source, did_you_mean, nearest

MAX_PROBLEMS = 100
"""Told of one object; nobody reads more, and a generated file may hold thousands."""

_EXPECTED = {
    "string_type": "a text",
    "string_sub_type": "a text",
    "int_type": "a whole number",
    "int_from_float": "a whole number",
    "float_type": "a number",
    "finite_number": "a number",
    "bool_type": "true or false",
    "list_type": "a list",
    "dict_type": "a mapping",
    "model_type": "a mapping",
    "model_attributes_type": "a mapping",
}
_BOUNDS = {
    "greater_than_equal": ("ge", "at least"),
    "greater_than": ("gt", "more than"),
    "less_than_equal": ("le", "at most"),
    "less_than": ("lt", "less than"),
}


def explain(error: ValidationError, model: type[BaseModel], file: str, lines: Lines) -> list[Problem]:
    """Every error as a Problem with its path as written and its line."""
    found = error.errors(include_url=False)
    problems = [_problem(each, model, file, lines) for each in found[:MAX_PROBLEMS]]
    if len(found) > MAX_PROBLEMS:
        problems.append(
            Problem(
                "TooManyProblems",
                f"and {len(found) - MAX_PROBLEMS} more problems in this object",
                fix="mend these first",
                source=Source(file, lines.start),
            )
        )
    return problems


def only_unknown_fields(error: ValidationError) -> bool:
    """Whether the object would be right without the fields nobody knows."""
    return all(each["type"] == "extra_forbidden" for each in error.errors(include_url=False, include_input=False))


def _problem(error: Any, model: type[BaseModel], file: str, lines: Lines) -> Problem:
    parts: list[str | int] = [part for part in error["loc"] if part != "[key]"]
    path, line = lines.locate(parts, keep_last=error["type"] in {"missing", "extra_forbidden"})
    reason, message, fix = _words(error, model, parts)
    return Problem(reason, message, fix=fix, path=path, source=Source(file, line))


def _words(error: Any, model: type[BaseModel], parts: list[str | int]) -> tuple[str, str, str]:
    """Reason, message and fix."""
    kind, value, context = error["type"], error["input"], error.get("ctx", {})
    name = str(parts[-1]) if parts else ""
    if isinstance(value, Conflict):
        fix = f"keep one of {value.first} and {value.second}"
        return "ConflictingFields", f"{value.first} and {value.second} are both written, with different values", fix
    if kind == "missing":
        return "MissingField", f"{name} is required", f"add {name}:"
    if kind == "extra_forbidden":
        return _unknown_field(name, owner(model, parts[:-1]))
    if kind in _EXPECTED:
        return "WrongType", f"expected {_EXPECTED[kind]}, got {describe(value)}", _type_fix(kind, value)
    if kind == "literal_error":
        return _wrong_word(owner(model, parts[:-1]), name, value, context)
    if kind in _BOUNDS:
        key, words = _BOUNDS[kind]
        limit = f"{words} {context[key]:g}"
        return "InvalidValue", f"must be {limit}, got {value}", f"write a value of {limit}"
    if kind == "value_error":
        mistake = context["error"]
        fix = mistake.fix if isinstance(mistake, Mistake) else "write it as shown"
        return "InvalidValue", shorten(str(mistake)), fix
    return "InvalidValue", shorten(str(error["msg"])), "change the value"


def _unknown_field(name: str, owner_model: type[BaseModel] | None) -> tuple[str, str, str]:
    known = list(fields(owner_model)) if owner_model else []
    home = next((field for field, inner in _inner(owner_model) if name in fields(inner)), None) if owner_model else None
    if home:
        return "UnknownField", f"unknown field; it belongs into {home}", f"move it into {home}:"
    close = nearest(name, known)
    if close:
        return "UnknownField", f"unknown field{did_you_mean(name, known)}", f"write {close}"
    return (
        "UnknownField",
        "unknown field",
        f"remove it; known here: {', '.join(sorted(known))}" if known else "remove it",
    )


def _wrong_word(owner_model: type[BaseModel] | None, name: str, value: Any, context: Any) -> tuple[str, str, str]:
    allowed = _literal(owner_model, name) or [str(context["expected"])]
    if not isinstance(value, str):
        return "WrongType", f"expected one of {', '.join(allowed)}, got {describe(value)}", f"write {allowed[0]}"
    message = f"expected one of {', '.join(allowed)}, got {shorten(value, 60)!r}{did_you_mean(value, allowed)}"
    return "InvalidValue", message, f"write {nearest(value, allowed) or 'one of these'}"


def _type_fix(kind: str, value: Any) -> str:
    if value is None:
        return "give it a value, or remove the field"
    if kind.startswith("string") and isinstance(value, bool | int | float):
        return "put it in quotes"
    if isinstance(value, str) and kind in {"int_type", "float_type", "bool_type"}:
        return "write it without quotes" if value else "give it a value, or remove the field"
    if kind == "list_type":
        return "write each item on a line of its own, after `- `"
    return "mend the indentation, or the value"


def describe(value: Any) -> str:
    """What kind of YAML value this is; never the value itself, which may be a secret."""
    if value is None:
        return "nothing"
    if isinstance(value, bool):
        return "true or false"
    if isinstance(value, int | float):
        return "a number"
    if isinstance(value, str):
        return "a text"
    return "a list" if isinstance(value, list) else "a mapping"


def fields(model: type[BaseModel]) -> Iterator[str]:
    """Every YAML name a model accepts."""
    for name, info in model.model_fields.items():
        yield info.alias or name
    if issubclass(model, Spec):
        yield from model.spellings
        yield from model.accepts


def owner(model: type[BaseModel], parts: Iterable[str | int]) -> type[BaseModel] | None:
    """The model at a path below `model`; None where there is no model there."""
    current = model
    for part in parts:
        if isinstance(part, int):
            continue  # list items have the annotation's own model
        found = next((info for name, info in current.model_fields.items() if (info.alias or name) == part), None)
        inner = _models(found.annotation) if found else None
        if not inner:
            return None
        current = inner[0]
    return current


def _inner(model: type[BaseModel]) -> Iterator[tuple[str, type[BaseModel]]]:
    for name, info in model.model_fields.items():
        for inner in _models(info.annotation):
            yield info.alias or name, inner


def _models(annotation: Any) -> list[type[BaseModel]]:
    """The models an annotation such as `list[Step] | None` is about."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [model for part in get_args(annotation) if not isinstance(part, str) for model in _models(part)]


def _literal(model: type[BaseModel] | None, name: str) -> list[str]:
    """The words a field allows."""
    if model is None:
        return []
    for field, info in model.model_fields.items():
        if (info.alias or field) == name:
            return list(_words_of(info.annotation))
    return []


def _words_of(annotation: Any) -> Iterator[str]:
    origin = get_origin(annotation)
    if origin in {Union, types.UnionType, list}:
        for part in get_args(annotation):
            yield from _words_of(part)
    elif origin is not None:
        yield from (word for word in get_args(annotation) if isinstance(word, str))
