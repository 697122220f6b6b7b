"""What files come to: the plain data that a planner process hands to the process that serves.

The same plans, as the same JSON, are what a cluster's agent host reads: a process that serves never sees YAML.
"""

from __future__ import annotations

import msgspec

from kadre.base import problems as found
from kadre.base.errors import ProblemError
from kadre.base.problems import Problem
from kadre.plan.types import AgentPlan


class SecretValues(msgspec.Struct, frozen=True):
    """One Secret document of the files."""

    namespace: str
    name: str
    values: dict[str, str]

    def __repr__(self) -> str:
        return f"SecretValues({self.namespace}/{self.name})"


class Resolved(msgspec.Struct, frozen=True, kw_only=True):
    """What the files come to. Where `problems` has an error, `plans` lacks what it concerns."""

    plans: list[AgentPlan]
    problems: list[Problem]
    """Errors and warnings, by file and line."""
    kinds: dict[str, int]
    """How many objects of each kind there are."""
    ignored: list[str]
    """Objects of other people's kinds."""
    folders: list[str]
    """Those to watch for changes."""
    files: list[str]
    """Those that were read, rules of scripted models among them."""
    secrets: list[SecretValues]
    env: dict[str, str]
    """The lines of `.env`."""
    exported: dict[str, str]
    """The providers' own variables of the process."""
    fingerprint: str
    """Differs where the files or the environment do."""

    def __repr__(self) -> str:
        return f"Resolved({self.kinds})"

    def raise_errors(self) -> None:
        """Raise ProblemError, with the warnings too, where there is an error."""
        if found.errors(self.problems):
            raise ProblemError(self.problems)
