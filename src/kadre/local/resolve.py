"""From paths to plans: reads the files, follows every reference, and says everything that is wrong with them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from kadre.api import manifest
from kadre.base import problems as found
from kadre.base.errors import ProblemError
from kadre.base.problems import Problem
from kadre.local.files import Files, read_files
from kadre.local.secrets import read_env
from kadre.plan.build import plan_all
from kadre.plan.lookup import Resources
from kadre.plan.types import AgentKey, AgentPlan, Override


@dataclass(frozen=True, slots=True)
class Resolved:
    """What the files come to. `problems` are warnings only: errors are raised."""

    plans: Mapping[AgentKey, AgentPlan]
    problems: list[Problem]
    ignored: list[str]
    """Objects of other people's kinds."""
    secrets: Mapping[tuple[str, str], Mapping[str, str]]
    env: Mapping[str, str]


def env_folders(files: Files) -> list[Path]:
    """Where a `.env` is looked for: the folder we are in, then beside the files."""
    return [Path(), *dict.fromkeys(files.folders)]


def resolve(files: Files, override: Override) -> Resolved:
    """Plans for every agent in the files. Raises ProblemError with all problems where there is an error among them."""
    loaded = manifest.load_many(files.texts)
    env = read_env(env_folders(files))
    keys = {(doc.namespace, doc.name): tuple(doc.values) for doc in loaded.secrets}
    rejected = {(named.kind, named.namespace, named.name) for named in loaded.rejected}
    lookup = Resources(loaded.resources, keys, env, rejected)
    planned = plan_all(lookup, override)
    problems = [*files.problems, *loaded.problems, *planned.problems]
    if found.errors(problems):
        raise ProblemError(problems)
    secrets = {(doc.namespace, doc.name): doc.values for doc in loaded.secrets}
    ignored = [str(named) for named in loaded.ignored]
    return Resolved(planned.plans, problems, ignored, secrets, env)


def resolve_paths(paths: tuple[str, ...], override: Override) -> tuple[Files, Resolved]:
    """As `resolve`, reading the paths first."""
    files = read_files(paths)
    return files, resolve(files, override)
