"""Reads the JSON that a model without tool calls was asked for, as it grows. Pure.

What comes may be cut short, wrapped in a code fence, or no JSON at all, from an endpoint that ignores the schema: what
is neither a call nor an answer is text, and is taken as the answer.
"""

from __future__ import annotations

import json
import re
from typing import Any

import msgspec

_FENCE = "```"
_ANSWER = re.compile(r'\s*(?:```(?:json)?\s*)?\{\s*"answer"\s*:\s*"')
_MAY_BE_JSON = re.compile(r"\s*(?:[{`]|$)")
_CHARACTERS = re.compile(r'(?:[^"\\]|\\u[0-9a-fA-F]{4}|\\[^u])*')
_HALF = re.compile(r"\\u[dD][89abAB][0-9a-fA-F]{2}$")
"""The first half of a character that JSON writes as two escapes."""


class Said(msgspec.Struct, frozen=True):
    """A whole reply: a tool call where `tool` is set, else an answer."""

    tool: str = ""
    arguments: str = "{}"
    """JSON text."""
    answer: str = ""


class Reading:
    """One reply. Feed it the pieces of a stream; `end` it with the whole text, streamed or not."""

    def __init__(self) -> None:
        self._raw = ""
        self._at: int | None = None
        """How far into `_raw` the answer has been read; None: it has not begun."""
        self._is_text = False
        self._shown: list[str] = []

    def feed(self, piece: str) -> str:
        """The part of the answer that can be shown now."""
        self._raw += piece
        text = self._next()
        if text:
            self._shown.append(text)
        return text

    def end(self, whole: str) -> tuple[Said, str]:
        """What was said, and the part of the answer that has not been shown yet."""
        said = _parse(whole)
        shown = "".join(self._shown)
        if said is None:
            self._raw, self._at, self._is_text, self._shown = whole, None, False, []
            cut = self._next()  # a cut-off {"answer": "… is the answer as far as it came
            said = Said(answer=cut if self._at is not None else whole)
        return said, said.answer[len(shown) :] if not said.tool else ""

    def _next(self) -> str:
        if self._is_text or (self._at is None and not _MAY_BE_JSON.match(self._raw)):
            text = self._raw if not self._is_text else self._raw[self._at or 0 :]
            self._is_text, self._at = True, len(self._raw)
            return text
        if self._at is None:
            begun = _ANSWER.match(self._raw)
            if begun is None:
                return ""
            self._at = begun.end()
        found = _CHARACTERS.match(self._raw, self._at)
        text = _HALF.sub("", found[0]) if found else ""
        self._at += len(text)
        decoded: str = json.loads(f'"{text}"', strict=False)
        return decoded.encode(errors="replace").decode()  # half a pair in the middle is no text


def _parse(text: str) -> Said | None:
    inner = text.strip()
    if inner.startswith(_FENCE) and inner.endswith(_FENCE):
        inner = inner.removeprefix(_FENCE).removesuffix(_FENCE).removeprefix("json").strip()
    try:
        value: Any = msgspec.json.decode(inner)
    except (msgspec.DecodeError, RecursionError):
        return None
    if not isinstance(value, dict):
        return None
    tool, arguments, answer = value.get("tool"), value.get("arguments", {}), value.get("answer")
    if isinstance(tool, str) and tool and isinstance(arguments, dict):
        return Said(tool, msgspec.json.encode(arguments).decode())
    return Said(answer=answer) if isinstance(answer, str) else None
