"""Checks that several kinds share: parameters, defaults, patterns. All return every problem, never only the first."""

from __future__ import annotations

import ast
import re
import warnings
from collections.abc import Iterator, Mapping
from typing import Any

from kadre.api.parts import PATH_PARAMETER, Parameter
from kadre.base import patterns, schemas
from kadre.base.problems import Problem, did_you_mean

_PARAMETER_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]{0,63}")
_HEADER_NAME = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]{1,128}")
_OWN_HEADERS = frozenset(
    {"connection", "content-length", "host", "idempotency-key", "te", "trailer", "transfer-encoding"}
)
_TYPES: dict[str, tuple[type, ...]] = {
    "string": (str,),
    "integer": (int,),
    "number": (int, float),
    "boolean": (bool,),
    "array": (list,),
    "object": (dict,),
}
_ONLY_FOR = {
    "pattern": "string",
    "format": "string",
    "min_length": "string",
    "max_length": "string",
    "items": "array",
    "min_items": "array",
    "max_items": "array",
    "properties": "object",
}


def path_parameters(url: str) -> list[str]:
    """The `{names}` in a URL, in order."""
    return PATH_PARAMETER.findall(url)


def is_of_type(value: Any, kind: str) -> bool:
    """Whether a YAML value is of a JSON type; a boolean is no number."""
    if isinstance(value, bool):
        return kind == "boolean"
    if kind == "integer" and isinstance(value, float):
        return value.is_integer()
    return isinstance(value, _TYPES[kind])


def check_parameters(parameters: list[Parameter], path: str) -> Iterator[Problem]:
    """Names twice or unusable, and each parameter by itself."""
    seen: set[str] = set()
    for number, parameter in enumerate(parameters):
        here = f"{path}[{number}]"
        if parameter.name in seen:
            yield Problem(
                "DuplicateName",
                f"the parameter {parameter.name} is declared twice",
                fix="rename or remove one of the two",
                path=f"{here}.name",
            )
        seen.add(parameter.name)
        if not _PARAMETER_NAME.fullmatch(parameter.name):
            yield Problem(
                "InvalidName",
                f"{parameter.name!r} can't be a parameter's name",
                fix="use letters, digits, _ - and ., beginning with a letter or _, at most 64 of them",
                path=f"{here}.name",
            )
        yield from check_parameter(parameter, here)


def check_parameter(parameter: Parameter, path: str) -> Iterator[Problem]:
    """Bounds for another type or that cross, a pattern that is none, and values that break its own rules."""
    for field, kind in _ONLY_FOR.items():
        if getattr(parameter, field) is not None and parameter.type != kind:
            alias = Parameter.model_fields[field].alias or field
            yield Problem(
                "WrongField",
                f"{alias} has no meaning for a parameter of type {parameter.type}",
                fix=f"remove it, or write type: {kind}",
                path=f"{path}.{alias}",
            )
    if parameter.type not in {"integer", "number"} and not (parameter.minimum is None and parameter.maximum is None):
        yield Problem(
            "WrongField",
            f"minimum and maximum have no meaning for a parameter of type {parameter.type}",
            fix="remove them, or write type: number",
            path=path,
        )
    yield from _check_bounds(parameter, path)
    if parameter.pattern is not None:
        yield from check_pattern(parameter.pattern, f"{path}.pattern")
    if parameter.items is not None:
        yield from check_schema(parameter.items, f"{path}.items")
    for name, inner in (parameter.properties or {}).items():
        yield from check_schema(inner, f"{path}.properties.{name}")
    yield from _check_values(parameter, path)


def check_pattern(pattern: str, path: str) -> Iterator[Problem]:
    """A regular expression that is none."""
    if wrong := patterns.fault(pattern):
        yield Problem(
            "InvalidPattern",
            f"the pattern is not a regular expression: {wrong}",
            fix="mend it; it is RE2, without (?=…) and \\1; a backslash in double quotes must be written twice",
            path=path,
        )


def check_schema(schema: Any, path: str) -> Iterator[Problem]:
    """A JSON Schema that is none, or that nothing can be checked by."""
    wrong = schemas.fault(schema)
    if wrong:
        fix = "mend it; it is JSON Schema, draft 2020-12, with RE2 as patterns: type, properties, items, required, enum"
        yield Problem("InvalidSchema", f"this is no JSON Schema: {wrong}", fix=fix, path=path)


def _check_bounds(parameter: Parameter, path: str) -> Iterator[Problem]:
    pairs = (("min_length", "max_length"), ("minimum", "maximum"), ("min_items", "max_items"))
    for low, high in pairs:
        least, most = getattr(parameter, low), getattr(parameter, high)
        if least is not None and most is not None and least > most:
            alias = Parameter.model_fields[low].alias or low
            yield Problem(
                "InvalidRange",
                f"{alias} {least} is more than {Parameter.model_fields[high].alias or high} {most}",
                fix="exchange them",
                path=f"{path}.{alias}",
            )


def _check_values(parameter: Parameter, path: str) -> Iterator[Problem]:
    if parameter.enum is not None and not parameter.enum:
        yield Problem(
            "InvalidValue", "enum allows no value at all", fix="list the values, or remove it", path=f"{path}.enum"
        )
    for number, value in enumerate(parameter.enum or ()):
        if not is_of_type(value, parameter.type):
            yield Problem(
                "WrongType",
                f"{value!r} is not of type {parameter.type}",
                fix=f"list values of type {parameter.type}; texts that look like something else need quotes",
                path=f"{path}.enum[{number}]",
            )
    default = parameter.default
    if default is None:
        return
    message = violation(parameter, default)
    if message:
        yield Problem(
            "InvalidDefault",
            f"the default {message}",
            fix="change the default, or what is allowed",
            path=f"{path}.default",
        )


def check_headers(headers: Mapping[str, Any], path: str, *, field: bool = True) -> Iterator[Problem]:
    """Names that no header can have, and values of several lines. `path`: the mapping's, without `field` a name's."""
    for name, value in headers.items():
        here = f"{path}.{name}" if field else path
        if not _HEADER_NAME.fullmatch(name):
            fix = "use letters, digits and -, as in X-Team"
            yield Problem("InvalidName", f"{name!r} can't be the name of an HTTP header", fix=fix, path=here)
        elif name.lower() in _OWN_HEADERS:
            yield Problem("InvalidName", f"{name} is set by what sends the request", fix="remove it", path=here)
        if isinstance(value, str) and not value.replace("\t", " ").isprintable():
            message = f"the value of {name} has a line break or another control character in it"
            yield Problem("InvalidValue", message, fix="write it on one line", path=here)


def check_values(parameters: list[Parameter], values: Mapping[str, Any], path: str) -> Iterator[Problem]:
    """Values given for parameters: unknown names, required ones that are missing, and values that break the rules."""
    known = {parameter.name: parameter for parameter in parameters}
    for name, value in values.items():
        if name not in known:
            yield Problem(
                "UnknownInput",
                f"there is no input {name}{did_you_mean(name, known)}",
                fix=f"name one of {', '.join(known)}" if known else "remove it",
                path=f"{path}.{name}",
            )
        elif message := violation(known[name], value):
            yield Problem("InvalidValue", f"the value {message}", fix="change the value", path=f"{path}.{name}")
    for name, parameter in known.items():
        if parameter.required and parameter.default is None and name not in values:
            yield Problem("MissingField", f"the input {name} is required", fix=f"add {name}:", path=f"{path}.{name}")


def violation(parameter: Parameter, value: Any) -> str | None:
    """How `value` breaks the parameter's rules, as the end of a sentence; None where it does not."""
    if not is_of_type(value, parameter.type):
        return f"{value!r} is not of type {parameter.type}"
    if parameter.enum and not any(value == allowed and type(value) is type(allowed) for allowed in parameter.enum):
        return f"{value!r} is not one of {', '.join(map(str, parameter.enum))}"
    if isinstance(value, str):
        return _text_violation(parameter, value)
    if isinstance(value, int | float) and not isinstance(value, bool):
        if parameter.minimum is not None and value < parameter.minimum:
            return f"{value} is less than minimum {parameter.minimum:g}"
        if parameter.maximum is not None and value > parameter.maximum:
            return f"{value} is more than maximum {parameter.maximum:g}"
    if isinstance(value, list):
        if len(value) < (parameter.min_items or 0):
            return f"has fewer than {parameter.min_items} items"
        if parameter.max_items is not None and len(value) > parameter.max_items:
            return f"has more than {parameter.max_items} items"
    return None


def check_python(source: str, path: str) -> Iterator[Problem]:
    """Code that Python cannot read, told before a process fails to start with it."""
    try:
        with warnings.catch_warnings(action="ignore"):  # of style, which is the author's own
            ast.parse(source)
    except SyntaxError as error:
        message = f"this is not Python: line {error.lineno} of it: {error.msg}"
        yield Problem("InvalidPython", message, fix="mend the line, or the one above it", path=path)
    except (ValueError, RecursionError, MemoryError) as error:
        yield Problem("InvalidPython", f"Python cannot read this: {error}", fix="write it more simply", path=path)


def _text_violation(parameter: Parameter, value: str) -> str | None:
    if len(value) < (parameter.min_length or 0):
        return f"{value!r} is shorter than {parameter.min_length} characters"
    if parameter.max_length is not None and len(value) > parameter.max_length:
        return f"is longer than {parameter.max_length} characters"
    pattern = parameter.pattern
    if pattern is None or patterns.fault(pattern) or patterns.found(pattern, value):
        return None  # a pattern that is none is told by itself
    return f"{value!r} does not match {pattern}"
