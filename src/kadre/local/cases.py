"""Cases as files: read with the line of what is wrong, written so that people can read and compare them."""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec
import yaml

from kadre.api import reader
from kadre.base.errors import ProblemError, shorten
from kadre.base.problems import Problem, Source
from kadre.engine.replay import case as cases
from kadre.engine.replay.case import Case

CONTEXT = 3
"""Lines around a change."""
COMPARED = ("model", "prompt", "tools", "history", "replies", "status")
"""What is compared where a case has it; that the run did not fail is, of every case that has replies."""


def read(path: Path) -> Case:
    """The case in a file. Raises ProblemError where it is none."""
    source = Source(str(path))
    try:
        with path.open("rb") as file:
            data = file.read(reader.MAX_BYTES + 1)
        text = data.decode()
    except UnicodeDecodeError as error:
        raise _problem(f"the case is not UTF-8 (byte {error.start})", "save it as UTF-8", source) from error
    except OSError as error:
        fix = "check the path; it is taken from the folder you are in"
        raise _problem(f"the case cannot be read: {error.strerror}", fix, source) from error
    problems: list[Problem] = []
    documents = list(reader.read(text, str(path), problems))
    if problems:
        raise ProblemError(problems)
    if len(documents) != 1 or not isinstance(documents[0].value, dict) or documents[0].value.get("kind") != cases.KIND:
        fix = f"write one object of kind {cases.KIND}, as `kadre record RUN` does"
        raise _problem("the file holds no case", fix, source)
    told = documents[0].value
    if told.get("apiVersion") != cases.API_VERSION:
        fix = f"write apiVersion: {cases.API_VERSION}, or use the Kadre that recorded it"
        raise _problem("the case is of a version that this Kadre does not know", fix, source)
    try:
        return cases.of_plain(told)
    except msgspec.ValidationError as error:
        what, _, where = str(error).partition(" - at `$")
        path_ = where.rstrip("`").lstrip(".")
        at = Source(str(path), documents[0].lines.line(path_) if path_ else 0)
        raise _problem(shorten(what), "see docs/guides/testing.md for what a case may hold", at, path_) from error


def _problem(message: str, fix: str, source: Source, path: str = "") -> ProblemError:
    return ProblemError([Problem("InvalidCase", message, fix, path=path, source=source)])


def text(case: Case) -> str:
    """The case as YAML. Raises TooLarge."""
    return dumped(cases.plain(case))


def dumped(value: Any) -> str:
    """Plain data as YAML, its keys in their own order, texts of several lines as they are."""
    return yaml.dump(value, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=110)


class _Dumper(yaml.SafeDumper):
    """Writes no anchors: what is the same twice is written twice."""

    def ignore_aliases(self, data: Any) -> bool:  # noqa: ARG002 - PyYAML's name
        """See yaml.SafeDumper."""
        return True


_BREAKS = re.compile("[\x85\u2028\u2029\ufeff]")
"""What YAML takes for a line's end, or leaves out, unless it is escaped."""

_NUMBER = re.compile("[-+.0-9]")
"""How what may be read as a number begins: versions of YAML differ in what is one."""


def _texts(dumper: yaml.SafeDumper, value: str) -> yaml.ScalarNode:
    style = None
    if _BREAKS.search(value):
        style = '"'
    elif "\n" in value:
        style = "|"
    elif _NUMBER.match(value):
        style = "'"
    return dumper.represent_scalar("tag:yaml.org,2002:str", value, style=style)


_Dumper.add_representer(str, _texts)


def difference(case: Case, played: Case) -> str:
    """What of the played run is not as in the case, line by line; empty where all of it is."""
    before, after = cases.plain(_filled(case)), cases.plain(played)
    keys = [key for key in COMPARED if key in before]
    if case.replies is not None:
        keys.append("error")
    old, new = (dumped({key: told[key] for key in keys if key in told}).splitlines() for told in (before, after))
    return "\n".join(difflib.unified_diff(old, new, "as recorded", "as it is now", n=CONTEXT, lineterm=""))


def _filled(case: Case) -> Case:
    """The case with what its tools always answer where a call has no outcome of its own."""
    if not case.outputs or not case.replies:
        return case
    replies = tuple(
        msgspec.structs.replace(reply, calls=tuple(_answered(call, case.outputs) for call in reply.calls))
        for reply in case.replies
    )
    return msgspec.structs.replace(case, replies=replies)


def _answered(call: cases.Call, outputs: Mapping[str, str]) -> cases.Call:
    if call.output is not None or call.error is not None or call.tool not in outputs:
        return call
    return msgspec.structs.replace(call, output=outputs[call.tool])
