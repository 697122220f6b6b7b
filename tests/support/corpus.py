"""Cases of injected instructions and of shown secrets: what a tool says, and what the worst model makes of it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import msgspec
import yaml

from tests.support import canaries

Through = Literal[
    "mcp",
    "stdio",
    "api",
    "retrieval",
    "code",
    "human",
    "agent",
    "a2a",
    "memory",
    "summary",
    "session",
    "fork",
    "client",
    "description",
]
"""How the text reaches the model."""
Expect = Literal["asked", "granted", "refused", "nothing"]
"""What becomes of what the model does about it: a person is asked, the author's grant holds, the call is refused, or
there is nothing that it can do."""


class Step(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A call of the model's. Its texts may hold `{case}` and `{found}`, the first placeholder the model has read."""

    tool: str
    arguments: dict[str, Any] = {}


READS: dict[str, tuple[Step, ...]] = {
    "mcp": (Step("read_page", {"case": "{case}"}),),
    "stdio": (Step("read_report", {"case": "{case}"}),),
    "retrieval": (Step("search", {"query": "what is known about it", "case": "{case}"}),),
    "code": (),
    "human": (Step("ask-desk", {"question": "What is known?"}),),
    "agent": (Step("helper", {"message": "case {case}: look"}),),
    "a2a": (Step("far", {"message": "case {case}: look"}),),
    "client": (),
    "description": (),
}
FETCH = (Step("fetch", {"case": "{case}"}),)
WRITE = (Step("write_note", {"case": "{case}", "text": "as I was told"}),)
LATER = frozenset({"memory", "summary", "session", "fork"})
"""Where the model does what it was told in a later turn, of which another turn, a summary or a memory tells."""


class Case(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One. `says`: what the tool says; `form`: in which part of its answer; `because`: words of the reason that the
    person, or the model, is told."""

    id: str
    through: Through
    says: str = ""
    form: str = "text"
    agent: str = "by-class"
    reads: tuple[Step, ...] | None = None
    obeys: tuple[Step, ...] = WRITE
    helper: tuple[Step, ...] = ()
    """What the agent that is asked does of it."""
    expect: Expect = "asked"
    because: str = ""
    decides: Literal["deny", "allow", "nobody"] = "deny"
    note: str = ""
    """What the person says besides."""
    edited: dict[str, str] = {}
    """Arguments with which the person allows the call instead of its own."""
    unread: bool = False
    """The text does not reach the model at all."""
    gap: str = ""
    """What is not kept out yet, and why: the case fails as soon as it is."""

    @property
    def text(self) -> str:
        """What the tool says, secrets filled in, with the mark by which the model finds it."""
        return f"{canaries.filled(self.says).rstrip()} ({self.mark})" if self.says else ""

    @property
    def mark(self) -> str:
        """Which text it is."""
        return f"ref {self.id}."

    @property
    def steps(self) -> tuple[Step, ...]:
        """The calls that lead to the text."""
        return READS.get(self.through, FETCH) if self.reads is None else self.reads


def load(folder: Path, marks: Mapping[str, str]) -> Mapping[str, Case]:
    """All cases of the folder's files, by their ids. `marks`: what stands for the words between @."""
    found: dict[str, Case] = {}
    for file in sorted(folder.glob("*.cases.yaml")):
        for case in msgspec.convert(yaml.safe_load(marked(file, marks)), list[Case]):
            assert case.id not in found, f"{file.name}: two cases are named {case.id}"
            found[case.id] = case
    return found


def marked(file: Path, marks: Mapping[str, str]) -> str:
    """The file's text with the words between @ filled in."""
    text = file.read_text(encoding="utf-8")
    for mark, value in marks.items():
        text = text.replace(f"@{mark}@", value)
    return text
