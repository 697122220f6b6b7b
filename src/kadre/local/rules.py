"""Reads the scripted model's rules from a file."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

from kadre.api import reader
from kadre.base.errors import ProblemError
from kadre.base.problems import Problem, Source

MAX_BYTES = 1024 * 1024
"""Bytes of a rules file: far above any that a person wrote."""


def read_rules(path: str) -> list[Any]:
    """The rules in a YAML (or JSON) file, not checked yet. Raises ProblemError where it is none."""
    file = Path(path)
    source = Source(path)
    try:
        size = file.stat().st_size
        text = file.read_text(encoding="utf-8") if size <= MAX_BYTES else ""
    except UnicodeDecodeError as error:
        raise _problem(f"the rules file is not UTF-8 (byte {error.start})", "save it as UTF-8", source) from error
    except OSError as error:
        fix = "check the path; it is taken from the folder you are in"
        raise _problem(f"the rules file cannot be read: {error.strerror}", fix, source) from error
    if size > MAX_BYTES:
        raise _problem(f"the rules file is larger than {MAX_BYTES // 1024 // 1024} MiB", "leave some out", source)
    problems: list[Problem] = []
    documents = list(reader.read(text, path, problems))
    if problems:
        raise ProblemError(problems)
    if len(documents) != 1 or not isinstance(documents[0].value, list):
        fix = "write one list, every rule beginning with `- `, as in `- match: hello`"
        raise _problem("a rules file is one list of rules", fix, source)
    rules: list[Any] = documents[0].value
    return rules


def version(path: str) -> str:
    """Tells one content of the file from another; empty where there is none."""
    try:
        with Path(path).open("rb") as file:
            return hashlib.sha256(file.read(MAX_BYTES + 1)).hexdigest()
    except OSError:
        return ""


def _problem(message: str, fix: str, source: Source) -> ProblemError:
    return ProblemError([Problem("InvalidRules", message, fix, source=source)])
