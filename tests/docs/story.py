"""A page as a story that can be run: its files, its servers and its commands, in the order they are written.

A comment on the line before a fenced block says what the block is:

    <!-- file: NAME -->      the block is the content of that file
    <!-- run: server -->     the command is started and stays until the next server or the page's end
    <!-- run -->             the commands are run, each must succeed

`<!-- on a cluster -->` before the first of them says that the page is of a cluster, and not of the laptop.

A block of `bash` without one is a mistake: what a reader may paste is run, what only shows a session is `console`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

BLOCK = re.compile(
    r"(?:^<!-- (?P<what>file|run)(?:: (?P<name>\S+))? -->\n)?^```(?P<language>\w*)\n(?P<text>.*?)^```$",
    re.MULTILINE | re.DOTALL,
)


@dataclass(frozen=True)
class Step:
    """One block. `name`: of a file; `line`: where the block begins, for messages."""

    kind: Literal["file", "server", "run", "unmarked"]
    text: str
    line: int
    name: str = ""


def needs_cluster(page: Path) -> bool:
    """Whether a page is acted out on a cluster."""
    return "<!-- on a cluster -->" in page.read_text(encoding="utf-8")


def steps(page: str) -> list[Step]:
    """What a page does, in order."""
    found = []
    for block in BLOCK.finditer(page):
        line = page.count("\n", 0, block.start()) + 1
        what, name, text = block["what"], block["name"] or "", block["text"]
        if what == "file":
            found.append(Step("file", text, line, name))
        elif what == "run":
            assert name in {"", "server"}, f"line {line}: run: {name}"
            found.append(Step("server" if name else "run", text, line))
        elif block["language"] == "bash":
            found.append(Step("unmarked", text, line))
    return found
