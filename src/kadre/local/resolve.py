"""From paths to plans: reads the files, follows every reference, and says everything that is wrong with them."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Collection, Iterable
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from kadre.api import manifest
from kadre.base.errors import ProblemError
from kadre.base.problems import Problem, Source
from kadre.engine.models.scripted_rules import parse_rules
from kadre.local.files import MAX_FILE, Files, read_files
from kadre.local.resolved import Resolved, SecretValues
from kadre.local.rules import read_rules, version
from kadre.local.secrets import read_env, read_exported
from kadre.plan import models
from kadre.plan.build import NOTHING, plan_all
from kadre.plan.lookup import FileText, Resources
from kadre.plan.types import AgentPlan, Override


class Seen(NamedTuple):
    """What the files hold, before anything is planned."""

    files: Files
    loaded: manifest.Loaded
    env: dict[str, str]
    exported: dict[str, str]
    lookup: OnDisk


class OnDisk(Resources):
    """What manifests on this machine say, and the files that they name."""

    def __init__(self, *args: Any, **more: Any) -> None:
        super().__init__(*args, **more)
        self.texts: dict[str, FileText] = {}
        """Of the files that were asked for, by path."""

    def file(self, path: str) -> FileText:
        """See Lookup."""
        if path not in self.texts:
            self.texts[path] = _text(Path(path))
        return self.texts[path]


def look(paths: tuple[str, ...]) -> Seen:
    """Read everything below the paths."""
    files = read_files(paths)
    loaded = manifest.load_many(files.texts)
    env, exported = read_env([Path(), *dict.fromkeys(files.folders)]), read_exported()
    secrets = {(doc.namespace, doc.name): doc.values for doc in loaded.secrets}
    rejected = {(named.kind, named.namespace, named.name) for named in loaded.rejected}
    config_maps = {(doc.namespace, doc.name): doc.values for doc in loaded.config_maps}
    lookup = OnDisk(
        loaded.resources, secrets, env, rejected, exported=exported, config_maps=config_maps, services=loaded.services
    )
    return Seen(files, loaded, env, exported, lookup)


def resolve(paths: tuple[str, ...], override: Override = NOTHING, bearing: Collection[str] = ()) -> Resolved:
    """Read everything below the paths, and plan it. `bearing`: reasons of errors in spite of which there are plans."""
    files, loaded, env, exported, lookup = look(paths)
    planned = plan_all(lookup, override, bearing=bearing)
    order = {name: number for number, (_, name) in enumerate(files.texts)}
    rules = _Rules([*models.named_rules(loaded.resources), *([override.model.rules] if override.model else ())])
    plans = [rules.versioned(plan) for plan in planned.plans.values()]
    documents = {Path(path).resolve() for path in lookup.texts}
    about_manifests = [
        problem
        for problem in loaded.problems
        if not rules.has(problem.source.file) and not (documents and Path(problem.source.file).resolve() in documents)
    ]
    problems = [*files.problems, *about_manifests, *planned.problems, *rules.problems]
    problems.sort(key=lambda problem: (order.get(problem.source.file, -1), problem.source.line))
    named = [*rules.versions, *lookup.texts]
    read = (files.texts, rules.versions, sorted(lookup.texts.items()))
    seen = msgspec.json.encode((*read, sorted(env.items()), sorted(exported.items())))
    folders = dict.fromkeys([*files.folders, *(Path(path).parent for path in named)])
    return Resolved(
        plans=plans,
        problems=problems,
        kinds=dict(Counter(resource.kind for resource in loaded.resources)),
        ignored=[str(named) for named in loaded.ignored],
        folders=[str(folder) for folder in folders],
        files=[*order, *named],
        secrets=[SecretValues(doc.namespace, doc.name, dict(doc.values)) for doc in loaded.secrets],
        env=env,
        exported=exported,
        fingerprint=hashlib.sha256(seen).hexdigest(),
    )


def _text(path: Path) -> FileText:
    if path.exists() and not path.is_file():
        return FileText("", "is a folder, a pipe or a device")  # of which the reading may have no end
    try:
        with path.open("rb") as file:
            data = file.read(MAX_FILE + 1)
        text = data.decode()
    except OSError as error:
        return FileText("", f"cannot be read: {error.strerror}")
    except UnicodeDecodeError as error:
        return FileText("", f"is not UTF-8 (byte {error.start})")
    if len(data) > MAX_FILE:
        return FileText("", f"is larger than {MAX_FILE // 1024 // 1024} MiB")
    return FileText(text.replace("\r\n", "\n"))


class _Rules:
    """The files of scripted models' rules: they may lie among manifests, and are none."""

    def __init__(self, named: Iterable[str]) -> None:
        self._named = {Path(path).resolve() for path in named if path}
        self.versions: dict[str, str] = {}
        """Of those in use, by path as written."""
        self.problems: list[Problem] = []

    def has(self, file: str) -> bool:
        """Whether that manifest is a file of rules."""
        return bool(self._named) and Path(file).resolve() in self._named

    def versioned(self, plan: AgentPlan) -> AgentPlan:
        """The plan with what its rules are now, so that it is another plan where they are others."""
        path = plan.model.rules
        if not path:
            return plan
        if path not in self.versions:
            self.versions[path] = version(path)
            try:
                parse_rules(read_rules(path), Source(path))
            except ProblemError as error:
                self.problems.extend(error.problems)
        model = msgspec.structs.replace(plan.model, rules_version=self.versions[path])
        return msgspec.structs.replace(plan, model=model)
