"""How commands print what they found: aligned tables as kubectl prints them, JSON, YAML."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from datetime import timedelta
from typing import Any

import typer

from kadre.cli.options import Format
from kadre.local.console import aligned

NONE_FOUND = "No resources found"


def table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Aligned columns, or `NONE_FOUND`."""
    found = list(rows)
    return "\n".join(aligned([header, *found])) if found else NONE_FOUND


def document(value: Any, form: Format) -> str:
    """Plain data as JSON or YAML, keys in their own order."""
    if form is Format.JSON:
        return json.dumps(value, indent=2, ensure_ascii=False)
    import yaml  # slow to load, and few ask for it

    return yaml.safe_dump(value, sort_keys=False, allow_unicode=True).rstrip("\n")


def show(text: str) -> None:
    """Print what was asked for: on standard output, where a pipe reads it."""
    typer.echo(text)


def age(passed: timedelta) -> str:
    """A duration as kubectl shows it, in the largest unit of which there are two: 90s, 12m, 30h, 5d."""
    seconds = max(0, int(passed.total_seconds()))
    for size, unit in ((86400, "d"), (3600, "h"), (60, "m")):
        if seconds >= 2 * size:
            return f"{seconds // size}{unit}"
    return f"{seconds}s"
