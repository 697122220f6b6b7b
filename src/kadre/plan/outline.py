"""How plans are shown, in errors and logs: what differs from the defaults, without what may be secret."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import msgspec


def shown(data: msgspec.Struct, hidden: Collection[str]) -> str:
    """`hidden`: fields in which authors put secrets all the same."""
    told = []
    for field in msgspec.structs.fields(data):
        value = getattr(data, field.name)
        if value != _default(field):
            told.append(f"{field.name}={_outline(value) if field.name in hidden else repr(value)}")
    return f"{type(data).__name__}({', '.join(told)})"


def _default(field: msgspec.structs.FieldInfo) -> Any:
    return field.default if field.default_factory is msgspec.NODEFAULT else field.default_factory()


def _outline(value: Any) -> str:
    if isinstance(value, dict):
        return "{" + "".join(f"{key!r}: …, " for key in value).removesuffix(", ") + "}"
    if isinstance(value, tuple):
        return f"({value[0]!r}, …)"
    scheme, marked, rest = str(value).partition("://")
    return repr(f"{scheme}://{rest.partition('?')[0].rpartition('@')[2]}") if marked and scheme.isalpha() else "…"
