"""The `{{ … }}` references in a workflow: where they are and what they name. Pure text work, no lookup."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

_NAME = r"[A-Za-z0-9_-]+"
_INPUT = re.compile(rf"\.input\.({_NAME})((?:\.{_NAME}|\[\d+\])*)")
_OUTPUT = re.compile(rf"\.steps\.({_NAME})\.output(?:\.({_NAME})((?:\.{_NAME}|\[\d+\])*))?")


@dataclass(frozen=True, slots=True)
class Reference:
    """`{{ .input.name }}` (step is empty) or `{{ .steps.step.output.name }}` (name empty: all outputs)."""

    text: str
    step: str
    name: str
    rest: str
    """What follows the name, as in `.summary`: a path into the value."""


@dataclass(frozen=True, slots=True)
class Broken:
    """Something in `{{ }}` that is no reference, or braces that don't close."""

    text: str


def references(text: str) -> Iterator[Reference | Broken]:
    """Everything in `{{ }}` in one text, in order."""
    start = text.find("{{")
    while start >= 0:
        end = text.find("}}", start + 2)
        if end < 0:
            yield Broken(text[start : start + 60])
            return
        yield _parse(text[start + 2 : end].strip())
        start = text.find("{{", end + 2)


def _parse(text: str) -> Reference | Broken:
    if match := _INPUT.fullmatch(text):
        return Reference(text, "", match.group(1), match.group(2))
    if match := _OUTPUT.fullmatch(text):
        return Reference(text, match.group(1), match.group(2) or "", match.group(3) or "")
    return Broken(text[:60])


def texts(value: Any, path: str) -> Iterator[tuple[str, str]]:
    """Every text within a value, with its path."""
    if isinstance(value, str):
        yield path, value
    elif isinstance(value, dict):
        for key, part in value.items():
            yield from texts(part, f"{path}.{key}")
    elif isinstance(value, list):
        for number, part in enumerate(value):
            yield from texts(part, f"{path}[{number}]")
