"""A document, followed at a terminal: its files saved and its commands typed, each in its turn and none left out.

A test says which command is next, word for word, and what is seen then; another one than the document's next fails. So
a document that grows a command, or a test that leaves one out, is noticed.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from tests.cluster import programs
from tests.cluster.processes import Process

FENCE = re.compile(r"^```(?P<language>bash|yaml)\n(?P<text>.*?)^```", re.MULTILINE | re.DOTALL)
HEREDOC = re.compile(r"<<(\w+)")
PROMISES = Path(__file__).parents[2] / "requirements.toml"
LEFT_OUT = "…"
"""Stands for any words of a command that a test does not repeat."""


@dataclass(frozen=True)
class Step:
    """A block of YAML, or one command with its continued lines joined. `line`: where it begins in the document."""

    kind: Literal["yaml", "command"]
    text: str
    line: int


def steps(page: str) -> list[Step]:
    """What a document has its reader do, in order."""
    found = []
    for block in FENCE.finditer(page):
        first = page.count("\n", 0, block.start("text")) + 1
        if block["language"] == "yaml":
            found.append(Step("yaml", block["text"], first))
        else:
            found += [Step("command", text, first + offset) for offset, text in _commands(block["text"])]
    return found


def _commands(text: str) -> Iterator[tuple[int, str]]:
    """The commands of a block, each with the number of lines before it."""
    lines = iter(enumerate(text.splitlines()))
    for offset, line in lines:
        if not line.strip() or line.startswith("#"):
            continue
        command = line
        while command.endswith("\\"):
            command = f"{command[:-1].rstrip()} {next(lines)[1].strip()}"
        if ended := HEREDOC.search(command):
            while command.rpartition("\n")[2] != ended[1]:
                command = f"{command}\n{next(lines)[1]}"
        yield offset, command


class Guide:
    """Somebody who follows one document, in a folder of their own.

    `changed`: what is written otherwise here than in the document (outside addresses, names of the chart and of
    images), in commands and files alike; all of it has to occur.
    """

    def __init__(self, page: str, kubeconfig: Path, folder: Path, changed: Mapping[str, str]) -> None:
        self.folder = folder
        self._steps = iter(steps(page))
        self._changed = changed
        self._unused = set(changed)
        programs_of_theirs = folder / "bin"
        programs_of_theirs.mkdir()
        (programs_of_theirs / "helm").symlink_to(programs.published("helm"))
        self._env = os.environ | {
            "HOME": str(folder),
            "HELM_CACHE_HOME": str(folder / "helm"),
            "HELM_CONFIG_HOME": str(folder / "helm"),
            "HELM_DATA_HOME": str(folder / "helm"),
            "KUBECONFIG": str(kubeconfig),
            "PATH": os.pathsep.join([str(programs_of_theirs), str(Path(sys.executable).parent), os.environ["PATH"]]),
        }

    def types(self, command: str, *sees: str, fails: str = "", editor: str = "", stdin: str = "", **chosen: str) -> str:
        """Type the next command, which shows all of `sees`; what it shows.

        `fails`: what it complains of, where it has to; `editor`: a command that edits the file it is given; `chosen`:
        what is typed for `<placeholders>`, with `_` for `-`.
        """
        text = self._next(command, chosen)
        done = self._bash(text, stdin, {"KUBE_EDITOR": editor} if editor else {})
        said = done.stdout + done.stderr
        assert bool(done.returncode) == bool(fails), f"{text}\n{said}"
        unseen = [part for part in (*sees, fails) if part not in said]
        assert not unseen, f"{text}\ndoes not show {unseen}:\n{said}"
        return said

    @contextmanager
    def keeps(self, command: str, *sees: str, **chosen: str) -> Iterator[None]:
        """Type the next command, which stays, as in a terminal of its own; by now it has shown all of `sees`."""
        text = self._next(command, chosen)
        log = self.folder / "terminal.log"
        log.unlink(missing_ok=True)
        settings = [f"{name}={self._env[name]}" for name in ("HOME", "KUBECONFIG", "PATH")]
        process = Process(text, ["env", *settings, "bash", "-c", f"exec {text}"], log, self.folder)
        process.start()
        try:
            process.until(lambda: all(part in log.read_text() for part in sees), 30)
            yield
        finally:
            process.stop()

    def cannot_yet(self, command: str, promise: str) -> None:
        """Leave out the next command: the table of promises says which subject brings what it needs."""
        step = self._step("command")
        assert _matches(command, step.text), f"line {step.line}: the next command is: {step.text}"
        table = {each["id"]: each for each in tomllib.loads(PROMISES.read_text())["promise"]}
        assert table[promise]["state"] == "gap", f"line {step.line}: {promise} is kept: type {step.text}"
        assert table[promise]["until"], f"{promise}: no subject brings it"

    def saves(self, *names: str) -> None:
        """Save the next block of YAML as a file, or its documents as a file each."""
        text = self.reads()
        parts = text.split("\n---\n") if len(names) > 1 else [text]
        for name, part in zip(names, parts, strict=True):
            file = self.folder / name
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(part)

    def reads(self) -> str:
        """The next block of YAML."""
        return self._as_here(self._step("yaml").text)

    def also(self, command: str, stdin: str = "") -> str:
        """Do what the document takes for granted; what that shows."""
        done = self._bash(command, stdin, {})
        assert done.returncode == 0, f"{command}\n{done.stdout}{done.stderr}"
        return done.stdout

    def exports(self, **variables: str) -> None:
        """Have these in the shell, as the document takes it for granted."""
        self._env |= variables

    def ends(self) -> None:
        """The document has nothing more to do, and everything that is changed here occurred in it."""
        left = [f"line {step.line}: {step.text}" for step in self._steps]
        assert not left, "\n".join(left)
        assert not self._unused, f"not in the document: {self._unused}"

    def _next(self, command: str, chosen: Mapping[str, str]) -> str:
        step = self._step("command")
        assert _matches(command, step.text), f"line {step.line}: the next command is: {step.text}"
        text = self._as_here(step.text)
        for name, value in chosen.items():
            placeholder = f"<{name.replace('_', '-')}>"
            assert placeholder in text, f"line {step.line}: no {placeholder} in: {text}"
            text = text.replace(placeholder, value)
        return text

    def _step(self, kind: str) -> Step:
        step = next(self._steps, None)
        assert step is not None, "the document has ended"
        assert step.kind == kind, f"line {step.line}: the next is a {step.kind}: {step.text}"
        return step

    def _as_here(self, text: str) -> str:
        for written, here in self._changed.items():
            if written in text:
                self._unused.discard(written)
                text = text.replace(written, here)
        return text

    def _bash(self, command: str, stdin: str, more: Mapping[str, str]) -> subprocess.CompletedProcess[str]:
        if " -it " in command:  # it wants a terminal
            words = ["script", "--quiet", "--return", "--command", command, "/dev/null"]
        else:
            words = ["bash", "-o", "pipefail", "-c", command]
        return subprocess.run(
            words,
            check=False,
            input=stdin,
            capture_output=True,
            text=True,
            timeout=150,
            cwd=self.folder,
            env=self._env | dict(more),
        )


def _matches(command: str, text: str) -> bool:
    """Whether a test's words are a document's, up to those it leaves out."""
    parts = [re.escape(part) for part in command.split(LEFT_OUT)]
    return re.fullmatch(".*".join(parts), text, re.DOTALL) is not None
