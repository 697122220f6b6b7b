"""From paths to plans: reads the files, follows every reference, and says everything that is wrong with them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from kadre.api import manifest
from kadre.base import problems as found
from kadre.base.errors import ProblemError
from kadre.base.problems import Problem
from kadre.local.files import Files, read_files
from kadre.local.secrets import read_env
from kadre.plan.build import NOTHING, plan_all
from kadre.plan.lookup import Resources
from kadre.plan.types import AgentKey, AgentPlan, Override


@dataclass(frozen=True, slots=True)
class Resolved:
    """What the files come to. Where `problems` has an error, `plans` lacks what it concerns."""

    files: Files
    plans: Mapping[AgentKey, AgentPlan]
    problems: list[Problem]
    """Errors and warnings, by file and line."""
    kinds: Counter[str]
    """How many objects of each kind there are."""
    ignored: list[str]
    """Objects of other people's kinds."""
    secrets: Mapping[tuple[str, str], Mapping[str, str]]
    env: Mapping[str, str]

    @property
    def fingerprint(self) -> int:
        """Differs where the files or the environment do."""
        return hash((tuple(self.files.texts), tuple(sorted(self.env.items()))))

    def raise_errors(self) -> None:
        """Raise ProblemError, with the warnings too, where there is an error."""
        if found.errors(self.problems):
            raise ProblemError(self.problems)


def resolve(paths: tuple[str, ...], override: Override = NOTHING) -> Resolved:
    """Read everything below the paths, and plan it."""
    files = read_files(paths)
    loaded = manifest.load_many(files.texts)
    env = read_env([Path(), *dict.fromkeys(files.folders)])
    secrets = {(doc.namespace, doc.name): doc.values for doc in loaded.secrets}
    rejected = {(named.kind, named.namespace, named.name) for named in loaded.rejected}
    planned = plan_all(Resources(loaded.resources, secrets, env, rejected), override)
    order = {name: number for number, (_, name) in enumerate(files.texts)}
    problems = [*files.problems, *loaded.problems, *planned.problems]
    problems.sort(key=lambda problem: (order.get(problem.source.file, -1), problem.source.line))
    return Resolved(
        files=files,
        plans=planned.plans,
        problems=problems,
        kinds=Counter(resource.kind for resource in loaded.resources),
        ignored=[str(named) for named in loaded.ignored],
        secrets=secrets,
        env=env,
    )
