"""Who may call which tool: what an author's `capabilities` offer, and what allows it.

Called by the engine for every tool of an MCP server, with plain values: the rule is here and nowhere else.

A capability is one of

- a class. `read`: tools known to only read. `exec`: tools that run what they are given, told by a word of the name
  (attach, command, eval, exec, execute, run, shell). `admin`: tools that change who may do what or take a machine out
  of service, told likewise (admin, auth, cordon, drain, grant, impersonate, rbac, role, taint, token). `write`: every
  other tool. `query`: tools known to only read, and a tool named `query`.
- a tool's name, or a glob over names (`pods_*`).

A tool known to only read is never `write`, but it is `exec` or `admin` too where its name says so: listing any class it
belongs to offers it. What a tool does is told by its server; where it says nothing, the tool is a write.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from fnmatch import fnmatchcase
from typing import Literal

Grant = Literal["name", "class", "none", "hidden"]
"""What allows a tool: its own name or that of the resource it is of, a class or a pattern, nothing; or it is not
offered."""

_EXEC = frozenset({"attach", "command", "eval", "exec", "execute", "run", "shell"})
_ADMIN = frozenset({"admin", "auth", "cordon", "drain", "grant", "impersonate", "rbac", "role", "taint", "token"})
# `pods_exec`, `pods-exec`, `podsExec` and `PodsExec` are the same two words.
_WORD = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+")


def classes(tool: str, read_only: bool | None) -> frozenset[str]:
    """Every class the tool belongs to; never empty. `read_only` None: its server does not say."""
    words = {word.lower() for word in _WORD.findall(tool)}
    found = {"exec"} if words & _EXEC else set()
    if words & _ADMIN:
        found.add("admin")
    if read_only:
        found |= {"read", "query"}
    elif not found:
        found.add("write")
    if tool.lower() == "query":
        found.add("query")
    return frozenset(found)


def allowed(capabilities: Sequence[str], tool: str, read_only: bool | None) -> bool:
    """Whether one of the capabilities covers the tool. An empty list covers none: it is for the caller to mind."""
    mine = classes(tool, read_only)
    return any(listed in mine or fnmatchcase(tool, listed) for listed in capabilities)


def grant(capabilities: Sequence[str], tool: str, *, read_only: bool | None, granted: bool) -> Grant:
    """What allows this tool.

    A list is an allow-list and an allow rule: what it covers is offered and called, the rest is hidden. Without one, a
    server its author named as a resource (`granted`) is allowed whole; a bare endpoint may read, all else is asked for.
    """
    if capabilities:
        if tool in capabilities:
            return "name"
        return "class" if allowed(capabilities, tool, read_only) else "hidden"
    if granted:
        return "name"
    return "class" if read_only else "none"
