"""Durations as people write them in YAML: `30s`, `1h30m`, `500ms`, or a bare number of seconds."""

from __future__ import annotations

import re

_PART = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h|d)")
_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}


def parse_duration(value: str | float) -> float:
    """Seconds. Raises ValueError that says what is accepted."""
    if isinstance(value, bool):
        raise ValueError("expected a duration such as 30s, 5m or 1h30m, got a boolean")
    if isinstance(value, int | float):
        if value < 0:
            raise ValueError("a duration cannot be negative")
        return float(value)
    text = value.strip()
    if re.fullmatch(r"\d+(\.\d+)?", text):
        return float(text)
    if not text or not re.fullmatch(rf"(?:{_PART.pattern})+", text):
        raise ValueError(f"expected a duration such as 30s, 5m or 1h30m, got {value!r}")
    return sum(float(number) * _SECONDS[unit] for number, unit in _PART.findall(text))
