"""Files as texts with metadata, for `kadre ingest`: text, Markdown, HTML, JSON and CSV, by their names' endings.

A file that is many documents (rows, lines, an array) is read one by one. Nothing is fetched, and nothing in it is run.
"""

from __future__ import annotations

import csv
import json
import math
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from html.parser import HTMLParser
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from kadre.base.errors import shorten
from kadre.base.problems import Problem, Source
from kadre.engine.vectors.port import Scalar

MAX_BYTES = 64 * 1024 * 1024
"""Of a file that is read whole: all but CSV and JSON lines."""
MAX_FRONT = 64 * 1024
"""Characters of front matter."""
MAX_VALUE = 1000
"""Characters of one value of metadata."""
SHORT = 100
"""Characters of a value that may be something to filter by."""
TEXTS = ("text", "content", "body")
"""Names by which the field of a row or an object is known that is its text."""
_SILENT = frozenset({"script", "style", "template", "noscript", "svg", "head"})
# What may stand in the head of a page, which need not be closed: any other tag begins its body.
_IN_HEAD = frozenset({"base", "head", "html", "link", "meta", "noscript", "script", "style", "template", "title"})
# A line under the first `---` that names a value at once: else that is a rule, and what follows is text.
_NAMED = re.compile(r"\n(#[^\n]*\n)*[\w\"'-][^\n:]{0,100}:(\s|$)")
_BLOCKS = frozenset(
    (
        *(
            "address",
            "article",
            "aside",
            "blockquote",
            "br",
            "dd",
            "div",
            "dl",
            "dt",
            "footer",
            "h1",
            "h2",
            "h3",
            "h4",
            "h5",
        ),
        *("h6", "header", "hr", "li", "main", "nav", "ol", "p", "pre", "section", "table", "tr", "ul"),
    )
)


class Text(NamedTuple):
    """One document of a file."""

    text: str
    metadata: dict[str, Scalar]


class Unreadable(Exception):
    """A file that cannot be read as what its name says. The message is for people."""


def read(path: Path) -> Iterator[Text]:
    """The documents of a file, one by one. Raises Unreadable, perhaps after some of them."""
    reader = READERS.get(path.suffix.lower())
    if reader is None:
        raise Unreadable(f"{path.suffix or 'a name without an ending'} is none of {', '.join(READERS)}")
    try:
        for text, metadata in reader(path):
            yield Text(_clean(text), scalars(metadata))
    except OSError as error:
        raise Unreadable(error.strerror or str(error)) from error
    except UnicodeDecodeError as error:
        raise Unreadable(f"it is no UTF-8 text (at byte {error.start})") from error
    except (ValueError, csv.Error, yaml.YAMLError, RecursionError) as error:
        raise Unreadable(shorten(str(error), 200)) from error


def found(paths: Iterable[Path], *, may_be_empty: bool = False) -> tuple[list[Path], list[Problem]]:
    """The files that the paths are, those of folders by name, and all that is wrong with them.

    `may_be_empty`: there need not be a document in a folder.
    """
    files: dict[Path, None] = {}
    problems = []
    for path in paths:
        if path.is_dir():
            named = sorted(each for each in path.rglob("*") if each.suffix.lower() in READERS and each.is_file())
            inside = dict.fromkeys(each for each in named if not _hidden(each, path))
            files.update(inside)
            if not inside and not may_be_empty:
                problems.append(_problem(path, "NoDocuments", "there is no document in this folder", "name others"))
        elif path.exists():
            files[path] = None
        else:
            problems.append(_problem(path, "MissingFile", "there is no such file", "check the name"))
    return list(files), problems


def check(path: Path) -> list[Problem]:
    """What is wrong with a file: it is read to its end, and nothing of it is kept."""
    try:
        some = sum(bool(document.text.strip()) for document in read(path))
    except Unreadable as error:
        return [_problem(path, "UnreadableFile", f"it cannot be read: {error}", "mend it, or leave it out")]
    return [] if some else [_problem(path, "EmptyFile", "there is no text in it", "leave it out")]


def scalars(values: Mapping[Any, Any]) -> dict[str, Scalar]:
    """What of the values can be metadata: a list as one text, what is nested not at all."""
    kept: dict[str, Scalar] = {}
    for name, value in values.items():
        made: Any = value
        if isinstance(value, list | tuple):
            made = ", ".join(str(each) for each in value if not isinstance(each, list | tuple | Mapping))
        if made is None or isinstance(made, Mapping):
            continue
        exact = isinstance(made, bool | int) and abs(made) < 1 << 63
        if not exact and not (isinstance(made, float) and math.isfinite(made)):
            made = _clean(str(made)[:MAX_VALUE])
        kept[_clean(str(name)[:MAX_VALUE])] = made
    return kept


def _clean(text: str) -> str:
    """Without NUL, and without halves of characters, which JSON can write and no store can hold."""
    return text.replace("\0", "").encode(errors="replace").decode()


def _problem(path: Path, reason: str, message: str, fix: str) -> Problem:
    return Problem(reason, message, fix, source=Source(str(path)))


def _hidden(path: Path, below: Path) -> bool:
    return any(part.startswith(".") for part in path.relative_to(below).parts)


def _whole(path: Path) -> str:
    size = path.stat().st_size
    if size > MAX_BYTES:
        raise Unreadable(f"it has {size} bytes; at most {MAX_BYTES} are read: cut it into several")
    return path.read_text(encoding="utf-8-sig").replace("\0", "")


def _text(path: Path) -> Iterator[Text]:
    yield Text(_whole(path), {})


def _markdown(path: Path) -> Iterator[Text]:
    text = _whole(path)
    metadata: dict[str, Scalar] = {}
    first, _, rest = text.partition("\n")
    if first.rstrip() == "---":
        front, ended, after = f"\n{rest}".partition("\n---")
        if ended and len(front) <= MAX_FRONT:
            values = yaml.safe_load(front) if _NAMED.match(front) else None
            if isinstance(values, Mapping):
                metadata, text = scalars(values), after.partition("\n")[2]
    yield Text(text, metadata)


def _html(path: Path) -> Iterator[Text]:
    page = _Page()
    page.feed(_whole(path))
    page.close()
    text = "\n".join(line for line in (" ".join(line.split()) for line in "".join(page.parts).splitlines()) if line)
    title = " ".join("".join(page.title).split())
    yield Text(text, {"title": title[:MAX_VALUE]} if title else {})


def _json(path: Path) -> Iterator[Text]:
    value = json.loads(_whole(path))
    for one in value if isinstance(value, list) else [value]:
        yield _object(one)


def _json_lines(path: Path) -> Iterator[Text]:
    with path.open(encoding="utf-8-sig") as lines:
        for number, line in enumerate(lines, 1):
            if line.strip():
                try:
                    yield _object(json.loads(line))
                except ValueError as error:
                    raise Unreadable(f"line {number}: {error}") from error


def _csv(path: Path, delimiter: str = ",") -> Iterator[Text]:
    with path.open(encoding="utf-8-sig", newline="") as file:
        rows = csv.DictReader(file, delimiter=delimiter, strict=True)
        for row in rows:
            if None in row or any(value is None for value in row.values()):
                raise Unreadable(f"line {rows.line_num}: it has other columns than the first line")
            yield _object(row)


def _tsv(path: Path) -> Iterator[Text]:
    yield from _csv(path, "\t")


def _object(value: Any) -> Text:
    """Of an object with a text the rest is metadata; of another one all is text, and what is short metadata too."""
    if isinstance(value, str):
        return Text(value.replace("\0", ""), {})
    if isinstance(value, Mapping):
        name = next((name for name in TEXTS if isinstance(value.get(name), str)), None)
        if name is not None:
            rest = {key: each for key, each in value.items() if key != name}
            return Text(value[name].replace("\0", ""), scalars(rest))
        lines = [f"{key}: {each if isinstance(each, str) else json.dumps(each)}" for key, each in value.items()]
        short = {key: each for key, each in value.items() if len(str(each)) <= SHORT}
        return Text("\n".join(lines).replace("\0", ""), scalars(short))
    return Text(json.dumps(value, ensure_ascii=False), {})


class _Page(HTMLParser):
    """What a reader sees of a page."""

    def __init__(self) -> None:
        super().__init__()
        self.parts: list[str] = []
        self.title: list[str] = []
        self._silent: list[str] = []
        self._titled = False

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:  # noqa: ARG002
        """See HTMLParser."""
        if self._silent == ["head"] and tag not in _IN_HEAD:
            self._silent.clear()
        self._titled = tag == "title" and "svg" not in self._silent
        if tag in _SILENT:
            self._silent.append(tag)
        elif tag == "body":
            self._silent.clear()  # a head that nobody closed
        if tag in _BLOCKS:
            self.parts.append("\n")

    def handle_endtag(self, tag: str) -> None:
        """See HTMLParser."""
        self._titled = False
        if tag in self._silent:
            del self._silent[self._silent.index(tag) :]
        if tag in _BLOCKS:
            self.parts.append("\n")

    def handle_data(self, data: str) -> None:
        """See HTMLParser."""
        if self._titled:
            self.title.append(data)
        elif not self._silent or (self._silent == ["head"] and data.strip()):
            self._silent.clear()
            self.parts.append(data)


READERS: dict[str, Callable[[Path], Iterator[Text]]] = {
    ".txt": _text,
    ".text": _text,
    ".rst": _text,
    ".md": _markdown,
    ".markdown": _markdown,
    ".html": _html,
    ".htm": _html,
    ".json": _json,
    ".jsonl": _json_lines,
    ".csv": _csv,
    ".tsv": _tsv,
}
