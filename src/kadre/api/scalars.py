"""What a plain YAML word means: YAML 1.1 as kubectl reads it (`yes` is true), without its dates and base-60 numbers."""

from __future__ import annotations

import re
from typing import Any

_INT = re.compile(r"[-+]?(0|[1-9][0-9_]*|0o?[0-7][0-7_]*|0x[0-9a-fA-F][0-9a-fA-F_]*|0b[01][01_]*)")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
_NOT_JSON = re.compile(r"[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)")
_WORDS: dict[str, Any] = {
    **dict.fromkeys(("", "~", "null", "Null", "NULL"), None),
    **dict.fromkeys(("true", "True", "TRUE", "yes", "Yes", "YES", "on", "On", "ON"), True),
    **dict.fromkeys(("false", "False", "FALSE", "no", "No", "NO", "off", "Off", "OFF"), False),
}
_NUMBER_STARTS = frozenset("0123456789+-.")
_LARGEST_INT = 2**63
_TAG = "tag:yaml.org,2002:"


def plain(text: str) -> Any:
    """The value of an unquoted word. Raises ValueError for a number that JSON can't carry."""
    if text in _WORDS:
        return _WORDS[text]
    if text[0] not in _NUMBER_STARTS:
        return text
    if _INT.fullmatch(text):
        return _integer(text)
    if _FLOAT.fullmatch(text):
        return _finite(text)
    if _NOT_JSON.fullmatch(text):
        raise ValueError(f"{text} is no number that JSON can carry")
    return text


def tagged(text: str, tag: str) -> Any:
    """The value of a word with a tag such as `!!str`. Raises ValueError where the two don't go together."""
    kind = tag.removeprefix(_TAG)
    if kind == "str" or tag == "!":
        return text
    if kind not in {"int", "float", "bool", "null"}:
        raise ValueError(f"the tag {tag[:60]} means nothing here")
    value = plain(text)
    if kind == "float" and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if type(value).__name__ != {"null": "NoneType"}.get(kind, kind):
        raise ValueError(f"{text[:60]!r} is not of type {kind}")
    return value


def _integer(text: str) -> int | float:
    digits = text.replace("_", "")
    bare = digits.lstrip("+-")
    if len(bare) > 80:
        return _finite(digits)
    octal = len(bare) > 1 and bare[0] == "0" and bare[1].isdigit()
    value = int(digits, 8 if octal else 0)
    return value if -_LARGEST_INT <= value < _LARGEST_INT else float(value)


def _finite(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        raise ValueError(f"{text[:60]} is no number") from None
    if value in {float("inf"), float("-inf")}:
        raise ValueError(f"{text[:60]} is larger than any number that JSON can carry")
    return value
