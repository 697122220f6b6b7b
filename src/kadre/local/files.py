"""Which files a path means, and what is in them."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path

from kadre.base.errors import ProblemError
from kadre.base.problems import Problem, Source

SUFFIXES = (".yaml", ".yml", ".json")
MAX_FILE = 10 * 1024 * 1024
"""Bytes of one file: more is no manifest."""
CASES = ".kadre.yaml"
"""How the names of files end that hold a case of `kadre test`: they may lie among manifests, and are none."""
STDIN = "-"


@dataclass(frozen=True, slots=True)
class Files:
    """`texts`: (text, file name as the user would write it); `folders`: those to watch for changes."""

    texts: list[tuple[str, str]] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)
    folders: list[Path] = field(default_factory=list)

    def raise_problems(self) -> None:
        """Raise ProblemError where a path could not be read."""
        if self.problems:
            raise ProblemError(self.problems)


def read_files(paths: Iterable[str]) -> Files:
    """Every manifest below the paths, hidden folders passed over; a file named outright is read whatever its name."""
    files = Files()
    for path in paths:
        if path == STDIN:
            _take(lambda: sys.stdin.buffer.read(MAX_FILE + 1), "<stdin>", files)
            continue
        where = Path(path)
        if where.is_dir():
            known = len(files.problems)
            found = _manifests(where, files)
            if not found and len(files.problems) == known:
                fix = f"put a {'/'.join(SUFFIXES)} file there, or name another folder or file"
                files.problems.append(Problem("NoManifests", f"no manifest in {path}", fix, source=Source(path)))
            for file in found:
                _read(file, files)
        elif where.exists():
            files.folders.append(where.parent)
            _read(where, files)
        else:
            files.folders.extend((where, where.parent))  # it may come back
            fix = "check the path; it is taken from the folder you are in"
            files.problems.append(Problem("NoSuchFile", "no such file or folder", fix, source=Source(path)))
    return files


def _read(file: Path, files: Files) -> None:
    def read() -> bytes:
        with file.open("rb") as opened:
            return opened.read(MAX_FILE + 1)  # not by its size: a pipe or a device has none

    _take(read, str(file), files)


def _take(read: Callable[[], bytes], name: str, files: Files) -> None:
    try:
        data = read()
        if len(data) > MAX_FILE:
            problem = f"the file is larger than {MAX_FILE // 1024 // 1024} MiB"
            files.problems.append(Problem("FileTooLarge", problem, "split it", source=Source(name)))
            return
        files.texts.append((data.decode().replace("\r\n", "\n"), name))
    except UnicodeDecodeError as error:
        message = f"the file is not UTF-8 (byte {error.start})"
        files.problems.append(Problem("NotUTF8", message, "save it as UTF-8", source=Source(name)))
    except OSError as error:
        message = f"the file cannot be read: {error.strerror}"
        files.problems.append(Problem("Unreadable", message, "check its permissions", source=Source(name)))


def _manifests(root: Path, files: Files) -> list[Path]:
    """Manifests below a folder, sorted; its folders, and what is wrong with them, go into `files`."""
    found, todo = [], [str(root)]
    while todo:
        folder = todo.pop()
        below = []
        try:
            with os.scandir(folder) as entries:
                for entry in entries:
                    if entry.name.startswith("."):
                        continue
                    if entry.is_dir(follow_symlinks=False):
                        below.append(entry.path)
                    elif _is_manifest(entry.name) and _is_file(entry):
                        found.append(Path(entry.path))
        except OSError as error:
            message = f"the folder cannot be read: {error.strerror}"
            fix = "check that it is there and its permissions, or name the files beside it"
            files.problems.append(Problem("Unreadable", message, fix, source=Source(folder)))
        files.folders.append(Path(folder))
        todo.extend(sorted(below, reverse=True))
    return sorted(found)


def _is_manifest(name: str) -> bool:
    return name.endswith(SUFFIXES) and not name.endswith(CASES)


def _is_file(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_file()
    except OSError:
        return True  # reading it says why it can't be
