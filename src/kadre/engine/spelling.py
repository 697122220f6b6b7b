"""How tools write a text: as it is, within JSON, a URL or a page, indented, in hexadecimal, in base64 and amid others.

Law: pure, and quick where a text is not there, as nearly none is: each way to write one has a `needle`, a part that is
the same however it is written, and only around that is the text looked at closely.
"""

from __future__ import annotations

import functools
import html
import itertools
import json
import re
from base64 import b64encode
from collections.abc import Callable, Iterator
from urllib.parse import quote

LARGE = 16 * 1024
"""Characters from which on a text is looked for only as it is usually written: a pattern of it takes long to make."""
MOST_ESCAPED = 2048
"""Characters that may be escaped, from which on that holds too."""
_PLAIN = re.compile(r"[A-Za-z0-9._~-]+")
"""What is written as it is everywhere but in base64."""
_MARGIN = 80
_NEWLINE = rf"[ \t\r]*(?:(?:(?:\\r)?(?:\n|\\n)(?:\\t|[^\w\n]){{0,{_MARGIN}}})+|(?:%0[dD])?%0[aA])"
"""Between two lines, within JSON and URLs too, with what indents or quotes the second."""
_LONG_LINE = 32
"""Characters of a line that is looked for by itself too."""
_PLAIN_BASE64 = re.compile("[A-Za-z0-9]+")
_IN_BASE64 = {"+": r"(?:[+-]|%2[bB])", "/": r"(?:\\?/|_|%2[fF])"}
_ANY_BASE64 = r"(?:[A-Za-z0-9+_-]|\\?/)"
_PADDING = "(?:={1,2}|(?:%3[dD]){1,2})?"


Made = Callable[[], str]
"""Makes a pattern."""


class Form:
    """One way to write a text.

    `needle` is wherever it is written so, at most `before` characters after its beginning and `after` before its end.
    `pattern` is of all that it may look like: made when it is needed, for that takes its time.
    """

    def __init__(self, needle: str, before: int, after: int, pattern: Made) -> None:
        self.needle = needle
        self._before = before
        self._after = max(after, len(needle))
        self._pattern = functools.cache(lambda: re.compile(pattern()))

    def spans(self, text: str) -> Iterator[tuple[int, int]]:
        """Where it is in the text, from and to."""
        for start, end in self._near(text):
            yield from (match.span() for match in self._pattern().finditer(text, start, end))

    def _near(self, text: str) -> Iterator[tuple[int, int]]:
        """The parts of the text that are looked at closely: around each needle, no place twice."""
        if not self.needle:
            yield 0, len(text)
            return
        start = end = 0
        at = text.find(self.needle)
        while at != -1:
            if at - self._before > end:
                if end:
                    yield start, end
                start = at - self._before
            end = at + self._after
            at = text.find(self.needle, at + len(self.needle))
        yield start, end


def forms(value: str) -> Iterator[Form]:
    """All the ways to write it."""
    if len(value) > LARGE or len(value) - sum(map(len, _PLAIN.findall(value))) > MOST_ESCAPED:
        written = (value, json.dumps(value)[1:-1], json.dumps(value, ensure_ascii=False)[1:-1], quote(value, safe=""))
        encoded = b64encode(value.encode()).decode().rstrip("=")
        yield from (Form(text, 0, 0, functools.partial(re.escape, text)) for text in dict.fromkeys((*written, encoded)))
        return
    lines = [line.strip() for line in value.split("\n") if line.strip()]
    yield _as_text(value, lines)
    if len(lines) > 1:
        yield from (_as_text(line, [line]) for line in lines if len(line) >= _LONG_LINE and " " not in line)
    for offset in range(3):
        yield _in_base64(value.encode(), offset)
    digits = value.encode().hex()
    yield from (Form(each, 0, 0, functools.partial(re.escape, each)) for each in {digits, digits.upper()})


def _as_text(value: str, lines: list[str]) -> Form:
    needle = _longest(_PLAIN, value)
    before, _, after = value.partition(needle) if needle else ("", "", value)

    def pattern() -> str:
        if len(lines) == 1:
            return _spelt(lines[0])
        told = [bool(len(line) > _MARGIN or re.search(r"\w", line)) for line in lines]
        if not any(told):
            return re.escape(value)
        # Within it those that may be a margin are taken for one: to try all ways to read many of them has no end.
        told[0] = told[-1] = True
        return _NEWLINE.join(map(_spelt, itertools.compress(lines, told)))

    return Form(needle, _room(before), len(needle) + _room(after), pattern)


def _room(part: str) -> int:
    """Characters that the part may take up: one becomes twelve at most, a line's end is more before an indented one."""
    plain, ends = sum(map(len, _PLAIN.findall(part))), part.count("\n")
    return plain + 12 * (len(part) - plain) + 120 * ends


def _longest(kind: re.Pattern[str], text: str) -> str:
    return max(kind.findall(text), key=len, default="")


def _spelt(line: str) -> str:
    """A pattern of all that the line may look like."""
    found = []
    for char, run in itertools.groupby(line):
        number = len(list(run))
        if _PLAIN.fullmatch(char):
            found.append(re.escape(char * number))
        elif char == "\\":  # in a row two may be one or two: no pattern of each could be searched for quickly
            found.append(rf"(?:\\{{{number},{2 * number}}}|(?:%5[cC]){{{number}}})")
        else:
            found.append(_character(char) * number)
    return "".join(found)


@functools.lru_cache(4096)
def _character(char: str) -> str:
    """A pattern of all that a character may look like that is not written as it is everywhere."""
    exact = {char, html.escape(char)}
    if char in "/'":
        exact.add(f"\\{char}")
    elif char == " ":
        exact.add("+")
    loose = {json.dumps(char)[1:-1], "".join(f"%{byte:02x}" for byte in char.encode())}
    loose |= {f"&#{ord(char)};", f"&#x{ord(char):x};"}
    return f"(?:{'|'.join([*map(re.escape, sorted(exact)), *map(_in_any_case, sorted(loose - exact))])})"


def _in_any_case(digits: str) -> str:
    return "".join(f"[{char}{char.upper()}]" if char in "abcdef" else re.escape(char) for char in digits)


def _in_base64(data: bytes, offset: int) -> Form:
    """The data in base64, `offset` bytes (modulo 3) after its beginning.

    Of that its first and its last character are not certain: they have bits of what is beside it.
    """
    bits = 8 * (offset + len(data))
    certain = b64encode(bytes(offset) + data).decode()[-(-8 * offset // 6) : bits // 6]
    needle = _longest(_PLAIN_BASE64, certain)
    before, _, after = certain.partition(needle) if needle else ("", "", certain)

    def pattern() -> str:
        middle = "".join(_IN_BASE64.get(char, char) for char in certain)
        return f"{_ANY_BASE64 if offset else ''}{middle}{_ANY_BASE64 + _PADDING if bits % 6 else ''}"

    return Form(needle, 3 * len(before) + 12, len(needle) + 3 * len(after) + 12, pattern)
