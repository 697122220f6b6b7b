"""The repository as data for the tests beside this file: its files, its modules' syntax trees, its data tables."""

from __future__ import annotations

import ast
import subprocess
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent.parent
Function = ast.FunctionDef | ast.AsyncFunctionDef


@dataclass(frozen=True)
class Module:
    """One Python file. `path` is relative to the root, with `/`."""

    path: str

    @cached_property
    def text(self) -> str:
        """What the file says."""
        return (ROOT / self.path).read_text(encoding="utf-8")

    @cached_property
    def tree(self) -> ast.Module:
        """Its syntax tree."""
        return ast.parse(self.text, self.path)

    def functions(self) -> tuple[tuple[str, Function], ...]:
        """Every function with its qualified name, methods and inner functions included."""
        return self._functions

    @cached_property
    def _functions(self) -> tuple[tuple[str, Function], ...]:
        return tuple(_functions(self.tree, ""))


def _functions(node: ast.AST, prefix: str) -> Iterator[tuple[str, Function]]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, Function):
            yield prefix + child.name, child
        name = f"{prefix}{child.name}." if isinstance(child, Function | ast.ClassDef) else prefix
        yield from _functions(child, name)


@cache
def files() -> tuple[str, ...]:
    """Paths of every file that is in the repository or about to be: not the ignored ones."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        check=True,
        text=True,
    )
    return tuple(sorted(path for path in set(listed.stdout.split("\0")) if path and (ROOT / path).is_file()))


@cache
def modules(*folders: str) -> tuple[Module, ...]:
    """The Python files under these folders (all of them where none is named)."""
    wanted = tuple(f"{folder}/" for folder in folders)
    return tuple(module for module in _every() if not wanted or module.path.startswith(wanted))


@cache
def _every() -> tuple[Module, ...]:
    """Each once: whoever asks for some of them finds trees that others had made."""
    return tuple(Module(path) for path in files() if path.endswith(".py"))


def table(name: str) -> dict[str, Any]:
    """A TOML table by its path from the root."""
    return tomllib.loads((ROOT / name).read_text(encoding="utf-8"))


def dotted(node: ast.AST) -> str:
    """`a.b.c` for a name or an attribute of one; the empty string for anything else."""
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Attribute) and (base := dotted(node.value)):
        return f"{base}.{node.attr}"
    return ""
