"""How commands print what they found: aligned tables as kubectl prints them, JSON, YAML."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import typer

from kadre.cli.options import Format
from kadre.local.console import aligned

log = logging.getLogger(__name__)

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


def log_to_output() -> None:
    """Write the log to standard error, a JSON object a line, as what collects a cluster's logs wants it. LOG_LEVEL."""
    handler = logging.StreamHandler()
    handler.setFormatter(_JsonLines())
    logging.basicConfig(handlers=[handler], level=log_level() or "INFO")
    if os.environ.get("LOG_LEVEL") and not log_level():
        log.warning("LOG_LEVEL=%s is no level: write debug, info, warning or error", os.environ["LOG_LEVEL"])


def log_level() -> str:
    """What LOG_LEVEL says, as logging spells it; empty where it says nothing that is a level."""
    level = os.environ.get("LOG_LEVEL", "").upper()
    return level if level in logging.getLevelNamesMapping() else ""


class _JsonLines(logging.Formatter):
    """A record as one line of JSON."""

    def format(self, record: logging.LogRecord) -> str:
        """See logging.Formatter."""
        line = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        if record.exc_info:
            line["error"] = self.formatException(record.exc_info)
        return json.dumps(line, ensure_ascii=False)


def age(passed: timedelta) -> str:
    """A duration as kubectl shows it, in the largest unit of which there are two: 90s, 12m, 30h, 5d."""
    seconds = max(0, int(passed.total_seconds()))
    for size, unit in ((86400, "d"), (3600, "h"), (60, "m")):
        if seconds >= 2 * size:
            return f"{seconds // size}{unit}"
    return f"{seconds}s"
