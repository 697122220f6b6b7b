"""Where each field of a document was written, kept small: a number for a scalar, a pair for what has parts."""

from __future__ import annotations

import re
from typing import Any

Tree = dict[str | int, Any]
"""Key or index -> line, or (line, Tree) where the value is a mapping or a list."""

_PART = re.compile(r"([^.\[\]]+)|\[([^\]]*)\]")
_PLAIN = re.compile(r"[^.\[\]]+")

OTHER_NAMES: dict[str, tuple[str, ...]] = {
    "systemPrompt": ("systemMessage", "instructions"),
    "sessionTTL": ("ttl",),
    "maxConversationHistory": ("maxHistory",),
    "endpoint": ("baseUrl", "apiBase"),
    "model": ("name",),
    "api": ("config",),
    "retrieval": ("config",),
    "code": ("config",),
    "human": ("config",),
    "mcp": ("config",),
    "a2a": ("config",),
}
"""Where a canonical field isn't in a document, it may have been written under one of these."""


def split(path: str) -> list[str | int]:
    """`spec.tools[0].name` -> spec, tools, 0, name; a key with a point in it is in brackets: `labels[app.io/name]`."""
    return [name or (int(key) if key.isdecimal() else key) for name, key in _PART.findall(path)]


def join(parts: list[str | int]) -> str:
    """The reverse of `split`."""
    text = ""
    for part in parts:
        if isinstance(part, int) or not _PLAIN.fullmatch(part):
            text += f"[{part}]"
        else:
            text += f".{part}" if text else part
    return text


def _tree(value: Any) -> Tree:
    if isinstance(value, dict):
        return {key: (0, _tree(part)) for key, part in value.items()}
    if isinstance(value, list):
        return {number: (0, _tree(part)) for number, part in enumerate(value)}
    return {}


class Lines:
    """Lines of one document, from the line it starts at."""

    __slots__ = ("_tree", "start")

    def __init__(self, start: int, tree: Tree) -> None:
        self.start = start
        self._tree = tree

    @classmethod
    def of(cls, value: Any) -> Lines:
        """For a value that was in no file: every field is known, and its line isn't."""
        return cls(0, _tree(value))

    def line(self, path: str) -> int:
        """The line of a field, or of the nearest thing around it that was written."""
        return self.locate(split(path))[1]

    def locate_path(self, path: str) -> tuple[str, int]:
        """`locate` for a path that is one text."""
        return self.locate(split(path))

    def below(self, *parts: str | int) -> Lines:
        """The lines of a part of the document, as a document of its own."""
        line, tree = self.start, self._tree
        for part in parts:
            entry = tree.get(part, line)
            line, tree = entry if isinstance(entry, tuple) else (entry, {})
        return Lines(line, tree)

    def locate(self, parts: list[str | int], *, keep_last: bool = True) -> tuple[str, int]:
        """The path as the user spelled it, and its line.

        Parts that are in no document (the model folded a shorter spelling into them) are left out; the last one is
        kept all the same with `keep_last`, since a field that is missing must be named.
        """
        tree: Any = self._tree
        line, written = self.start, list[str | int]()
        for number, part in enumerate(parts):
            found = self._step(tree, part)
            if found is None:
                if keep_last and number == len(parts) - 1:
                    written.append(part)
                continue
            entry = tree[found]
            line, tree = entry if isinstance(entry, tuple) else (entry, {})
            written.append(found)
        return join(written), line

    @staticmethod
    def _step(tree: Tree, part: str | int) -> str | int | None:
        if part in tree:
            return part
        return next((name for name in OTHER_NAMES.get(str(part), ()) if name in tree), None)
