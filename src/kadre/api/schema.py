"""A model -> the structural schema of a CRD.

Made from the annotations and not from pydantic's JSON Schema: a CRD knows neither `$ref` nor `anyOf` over types nor
`additionalProperties: false`, and the golden files must not change with a library. Descriptions are the attributes'
docstrings, read from the source only when a CRD is made.
"""

from __future__ import annotations

import ast
import functools
import inspect
import sys
import types
from collections.abc import Iterator
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel, WithJsonSchema
from pydantic.fields import FieldInfo

from kadre.api.resource import Condition, Spec

Schema = dict[str, Any]

PRESERVE = "x-kubernetes-preserve-unknown-fields"
_SCALARS: dict[Any, Schema] = {
    str: {"type": "string"},
    int: {"type": "integer", "format": "int64"},
    float: {"type": "number"},
    bool: {"type": "boolean"},
}
_LIMITS = {"ge": "minimum", "le": "maximum", "min_length": "minLength", "max_length": "maxLength"}


def of_model(model: type[Spec], *, defaults: bool) -> Schema:
    """The schema of a mapping; `defaults`: whether it carries the fields' defaults."""
    text = _class_text(model)
    if model.union:
        # A schema that lets a plain text pass can name no fields, and `kubectl explain` shows those alone.
        fields = [*(field.alias or name for name, field in model.model_fields.items()), *model.accepts]
        return {"description": f"{text} Its fields: {', '.join(fields)}.", PRESERVE: True}
    properties: Schema = {}
    for name, field in model.model_fields.items():
        part = of_annotation(field.rebuild_annotation(), defaults=defaults)
        part = {
            "description": field_text(model, name),
            **{key: value for key, value in part.items() if key != "description"},
        }
        if defaults and field.default is not None and not field.is_required() and field.default_factory is None:
            part["default"] = _json(field.default)
        properties[field.alias or name] = part
    for name, (annotation, description) in model.accepts.items():
        properties[name] = {**of_annotation(annotation, defaults=defaults), "description": description}
    for other, name in model.spellings.items():
        shape = {key: value for key, value in properties[name].items() if key not in {"description", "default"}}
        properties[other] = {"description": f"Another spelling of {name}.", **shape}
    schema: Schema = {"type": "object", "description": text, "properties": properties}
    respelled = {*model.spellings.values(), *model.accepts}
    required = [field.alias or name for name, field in model.model_fields.items() if field.is_required()]
    # Where a field may be written in another way, only the webhook and the controller can tell that it is missing.
    required = [] if model.accepts else [name for name in required if name not in respelled]
    if required:
        schema["required"] = required
    return schema


def of_annotation(annotation: Any, *, defaults: bool) -> Schema:
    """The schema of what a field may hold."""
    origin, args = get_origin(annotation), get_args(annotation)
    if annotation in _SCALARS:
        return dict(_SCALARS[annotation])
    if isinstance(annotation, type) and issubclass(annotation, Spec):
        return of_model(annotation, defaults=defaults)
    if origin is Annotated:
        return _annotated(args[0], args[1:], defaults=defaults)
    if origin in {Union, types.UnionType}:
        inner = [part for part in args if part is not type(None)]
        return of_annotation(inner[0], defaults=defaults) if len(inner) == 1 else {PRESERVE: True}
    if origin is Literal:
        return {"type": "string", "enum": list(args)}
    if origin is list:
        schema: Schema = {"type": "array", "items": of_annotation(args[0], defaults=defaults)}
        if args[0] is Condition:
            schema |= {"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["type"]}
        return schema
    if origin is dict:
        value = of_annotation(args[1], defaults=defaults)
        return (
            {"type": "object", PRESERVE: True}
            if value == {PRESERVE: True}
            else {"type": "object", "additionalProperties": value}
        )
    return {PRESERVE: True}


def _annotated(annotation: Any, extras: tuple[Any, ...], *, defaults: bool) -> Schema:
    for extra in extras:
        if isinstance(extra, WithJsonSchema):
            return dict(extra.json_schema or {})
    schema = of_annotation(annotation, defaults=defaults)
    for constraint in _constraints(extras):
        for attribute, keyword in _LIMITS.items():
            limit = getattr(constraint, attribute, None)
            if limit is not None:
                schema[keyword] = limit
    return schema


def _constraints(extras: tuple[Any, ...]) -> Iterator[Any]:
    for extra in extras:
        if isinstance(extra, FieldInfo):
            yield from extra.metadata
        else:
            yield extra


def _json(value: Any) -> Any:
    """A default as JSON has it: durations are whole numbers where they can be, as int-or-string wants them."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


def field_text(model: type[BaseModel], name: str) -> str:
    """The docstring below an attribute, on one line; empty where there is none."""
    for base in model.__mro__:
        text = _docstrings(base.__module__).get(base.__name__, {}).get(name)
        if text:
            return text
    return ""


def _class_text(model: type[BaseModel]) -> str:
    return " ".join(inspect.cleandoc(model.__doc__ or "").partition("\n\n")[0].split())


@functools.cache
def _docstrings(module: str) -> dict[str, dict[str, str]]:
    """Class -> attribute -> the text below it, of one module."""
    if not module.startswith(__package__):
        return {}
    tree = ast.parse(inspect.getsource(sys.modules[module]))
    return {node.name: dict(_attributes(node)) for node in tree.body if isinstance(node, ast.ClassDef)}


def _attributes(node: ast.ClassDef) -> Iterator[tuple[str, str]]:
    for before, after in zip(node.body, node.body[1:], strict=False):
        if isinstance(before, ast.AnnAssign) and isinstance(before.target, ast.Name) and isinstance(after, ast.Expr):
            value = after.value
            if isinstance(value, ast.Constant) and isinstance(value.value, str):
                yield before.target.id, " ".join(value.value.split())
