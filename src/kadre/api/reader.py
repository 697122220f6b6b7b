"""YAML text -> plain values with the line of every field.

Built on libyaml's events and a stack of our own instead of a loader: nothing recurses, so that depth is a bound and
not a crash; keys written twice are seen; and the same pass keeps the lines. Values are those JSON has.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import yaml

from kadre.api import scalars
from kadre.api.lines import Lines, Tree
from kadre.base.errors import shorten
from kadre.base.problems import Problem, Source

MAX_BYTES = 10 * 1024 * 1024
MAX_DEPTH = 64
MAX_NODES = 1_000_000
"""Values in one file; those repeated by an alias count each time."""
MAX_REPEATED = 100_000
"""Values in one file that are there through an alias."""

_LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_COLLECTION_TAGS = {None, "!", "tag:yaml.org,2002:map", "tag:yaml.org,2002:seq"}
_SURROGATES = re.compile(r"\\u([dD][89abAB][0-9a-fA-F]{2})\\u([dD][c-fC-F][0-9a-fA-F]{2})")
_HINTS = {
    "mapping values are not allowed": "put a value that contains ': ' in quotes, or mend the indentation",
    "cannot start any token": "indent with spaces, and put values that begin with % @ ` or a tab in quotes",
    "did not find expected key": "mend the indentation, or put the value in quotes",
    "could not find expected ':'": "write key: value, and indent texts of several lines below `|`",
    "did not find expected ',' or": "close the bracket, or put the value in quotes",
    "did not find expected '-' indicator": "mend the indentation of the list",
    "unexpected end of stream": "close the quote or bracket",
}


@dataclass(frozen=True, slots=True)
class Document:
    """One YAML document: its value and where its fields are."""

    value: Any
    lines: Lines


class _Stop(Exception):
    """Reading can't go on."""

    def __init__(self, reason: str, message: str, fix: str, line: int) -> None:
        super().__init__(message)
        self.problem = Problem(reason, message, fix=fix, source=Source("", line))


@dataclass(slots=True)
class _Node:
    """A finished value. `size`: values in it, aliases expanded; `depth`: levels of nesting in it."""

    value: Any
    line: int
    tree: Tree | None = None
    size: int = 1
    depth: int = 0
    merges: bool = False
    """It is `<<` without quotes, which as a key takes another mapping in."""


@dataclass(slots=True)
class _Frame:
    """A mapping or list that is being read. `key`: of the value that comes next; `merging`: that key is `<<`."""

    value: Any
    line: int
    anchor: str | None
    tree: Tree = field(default_factory=dict)
    key: str | None = None
    key_line: int = 0
    merging: bool = False
    merges: list[_Node] = field(default_factory=list)
    size: int = 1
    depth: int = 1

    @property
    def wants_key(self) -> bool:
        """Whether what comes next is a key."""
        return self.key is None and isinstance(self.value, dict)


def read(text: str, file: str, problems: list[Problem]) -> Iterator[Document]:
    """The documents in `text`, one at a time, up to the first that can't be read.

    What is wrong with the YAML is appended to `problems` by the end.
    """
    reader = _Reader()
    data = b""
    try:
        data = _encoded(text)
        yield from reader.documents(data)
    except _Stop as stop:
        reader.problems.append(stop.problem)
    except yaml.YAMLError as error:
        reader.problems.append(_syntax(error, data))
    problems.extend(_placed(problem, file) for problem in reader.problems)


def _placed(problem: Problem, file: str) -> Problem:
    return Problem(
        problem.reason, problem.message, problem.fix, path=problem.path, source=Source(file, problem.source.line)
    )


def _encoded(text: str) -> bytes:
    text = text.removeprefix("\ufeff")
    if text.lstrip()[:1] in {"{", "["} and "\\u" in text:  # JSON's escapes of emoji, which YAML doesn't know
        text = _SURROGATES.sub(_join_surrogates, text)
    try:
        data = text.encode()
    except UnicodeEncodeError as error:
        line = text.count("\n", 0, error.start) + 1
        raise _Stop("InvalidText", "this is not UTF-8 text", "save the file as UTF-8", line) from None
    if len(data) > MAX_BYTES:
        size, most = len(data) / 1_048_576, MAX_BYTES // 1_048_576
        raise _Stop("TooLarge", f"the file has {size:.1f} MiB; at most {most} are read", "split the file", 1)
    return data


def _join_surrogates(match: re.Match[str]) -> str:
    high, low = (int(part, 16) for part in match.groups())
    return f"\\U{0x10000 + ((high - 0xD800) << 10) + (low - 0xDC00):08x}"


def _syntax(error: yaml.YAMLError, data: bytes) -> Problem:
    """A YAML error as a person would put it."""
    if isinstance(error, yaml.MarkedYAMLError):
        mark = error.problem_mark or error.context_mark
        message = str(error.problem or error.context or "this is not YAML")
        line = min(mark.line, data.rstrip().count(b"\n")) + 1 if mark else 0  # the end of a file is on its last line
    elif isinstance(error, yaml.reader.ReaderError):
        message, line = str(error.reason), data.count(b"\n", 0, error.position) + 1
    else:
        message, line = shorten(str(error)), 0
    fix = next((hint for part, hint in _HINTS.items() if part in message), "mend the line, or the one above it")
    return Problem("InvalidYaml", f"this is not YAML: {shorten(message)}", fix=fix, source=Source("", line))


class _Reader:
    """Turns the events of one file into documents."""

    def __init__(self) -> None:
        self.problems: list[Problem] = []
        self._stack: list[_Frame] = []
        self._anchors: dict[str, _Node] = {}
        self._keys: dict[str, str] = {}
        self._nodes = 0
        self._repeated = 0

    def documents(self, data: bytes) -> Iterator[Document]:
        """Every document that isn't empty. Raises _Stop and yaml.YAMLError."""
        root: _Node | None = None
        for event in yaml.parse(data, Loader=_LOADER):
            line = event.start_mark.line + 1 if event.start_mark else 0
            if isinstance(event, yaml.ScalarEvent):
                root = self._scalar(event, line)
            elif isinstance(event, yaml.MappingStartEvent | yaml.SequenceStartEvent):
                self._open({} if isinstance(event, yaml.MappingStartEvent) else [], line, event)
            elif isinstance(event, yaml.MappingEndEvent | yaml.SequenceEndEvent):
                root = self._close()
            elif isinstance(event, yaml.AliasEvent):
                root = self._add(self._alias(event.anchor or "", line), None)
            elif isinstance(event, yaml.DocumentStartEvent):
                root = None
                self._anchors.clear()
            elif isinstance(event, yaml.DocumentEndEvent) and root is not None and root.value is not None:
                yield Document(root.value, Lines(root.line, root.tree or {}))

    def _scalar(self, event: Any, line: int) -> _Node:
        text: str = event.value
        if self._stack and self._stack[-1].wants_key:
            # A key is a text, whatever it looks like.
            node = _Node(text, line, merges=text == "<<" and event.implicit[0])
        else:
            try:
                node = _Node(_value(event, text), line)
            except ValueError as error:
                raise _Stop("InvalidValue", str(error), "put it in quotes to make it a text", line) from None
        return self._add(node, event.anchor)

    def _open(self, value: Any, line: int, event: Any) -> None:
        if event.tag not in _COLLECTION_TAGS:
            raise _Stop("InvalidValue", f"the tag {event.tag[:60]} means nothing here", "remove it", line)
        if self._stack and self._stack[-1].wants_key:
            raise _Stop(
                "InvalidKey", "a mapping or list can't be a key", "put a text that begins with { or [ in quotes", line
            )
        if len(self._stack) >= MAX_DEPTH:
            raise _too_deep(line)
        self._stack.append(_Frame(value, line, event.anchor))

    def _close(self) -> _Node:
        frame = self._stack.pop()
        for merged in frame.merges:
            for key, value in merged.value.items():
                if key not in frame.value:
                    frame.value[key] = value
                    frame.tree[key] = (merged.tree or {}).get(key, merged.line)
        return self._add(_Node(frame.value, frame.line, frame.tree, frame.size, frame.depth), frame.anchor)

    def _alias(self, name: str, line: int) -> _Node:
        node = self._anchors.get(name)
        if node is None:
            inside = any(frame.anchor == name for frame in self._stack)
            message = f"the alias *{name} is inside what it repeats" if inside else f"there is no anchor &{name}"
            raise _Stop("UnknownAlias", message, "write the value itself", line)
        self._repeated += node.size
        if self._repeated > MAX_REPEATED:
            raise _Stop("TooLarge", f"aliases repeat more than {MAX_REPEATED} values", "write the values out", line)
        return _Node(node.value, line, node.tree, node.size, node.depth)

    def _add(self, node: _Node, anchor: str | None) -> _Node:
        """Put a finished value where it belongs."""
        self._nodes += 1
        if self._nodes + self._repeated > MAX_NODES:
            raise _Stop("TooLarge", f"more than {MAX_NODES} values in one file", "split the file", node.line)
        if anchor is not None:
            self._anchors[anchor] = node
        if not self._stack:
            return node
        frame = self._stack[-1]
        if len(self._stack) + node.depth > MAX_DEPTH:
            raise _too_deep(node.line)
        frame.size += node.size
        frame.depth = max(frame.depth, node.depth + 1)
        if isinstance(frame.value, list):
            frame.tree[len(frame.value)] = _entry(node.line, node)
            frame.value.append(node.value)
        elif frame.key is not None:
            self._put(frame, frame.key, node)
        elif isinstance(node.value, str):
            frame.key, frame.key_line = self._keys.setdefault(node.value, node.value), node.line
            frame.merging = node.merges
        else:
            raise _Stop("InvalidKey", "only a text can be a key", "write the key itself", node.line)
        return node

    def _put(self, frame: _Frame, key: str, node: _Node) -> None:
        frame.key = None
        if frame.merging:
            parts = node.value if isinstance(node.value, list) else [node.value]
            if not all(isinstance(part, dict) for part in parts):
                raise _Stop("InvalidValue", "<< takes a mapping or a list of mappings", "write <<: *anchor", node.line)
            trees = node.tree or {}
            for number, part in enumerate(parts):
                entry = trees.get(number) if isinstance(node.value, list) else (node.line, trees)
                line, tree = entry if isinstance(entry, tuple) else (node.line, {})
                frame.merges.append(_Node(part, line, tree))
        elif key in frame.value:
            first = frame.tree[key]
            place = first[0] if isinstance(first, tuple) else first
            message = f"{key} is written twice in one mapping, first at line {place}"
            self.problems.append(
                Problem("DuplicateKey", message, fix="keep one of the two", source=Source("", frame.key_line))
            )
        else:
            frame.value[key] = node.value
            frame.tree[key] = _entry(frame.key_line, node)


def _value(event: Any, text: str) -> Any:
    if event.tag is not None:
        return scalars.tagged(text, event.tag)
    return scalars.plain(text) if event.implicit[0] else text


def _entry(line: int, node: _Node) -> Any:
    return (line, node.tree) if node.tree else line


def _too_deep(line: int) -> _Stop:
    return _Stop("TooDeep", f"more than {MAX_DEPTH} levels of nesting", "flatten the document", line)
