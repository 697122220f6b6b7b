"""From paths to plans: reads the files, follows every reference, and says everything that is wrong with them."""

from __future__ import annotations

import hashlib
from collections import Counter
from pathlib import Path

import msgspec

from kadre.api import manifest
from kadre.local.files import read_files
from kadre.local.resolved import Resolved, SecretValues
from kadre.local.secrets import read_env, read_exported
from kadre.plan.build import NOTHING, plan_all
from kadre.plan.lookup import Resources
from kadre.plan.types import Override


def resolve(paths: tuple[str, ...], override: Override = NOTHING) -> Resolved:
    """Read everything below the paths, and plan it."""
    files = read_files(paths)
    loaded = manifest.load_many(files.texts)
    env, exported = read_env([Path(), *dict.fromkeys(files.folders)]), read_exported()
    secrets = {(doc.namespace, doc.name): doc.values for doc in loaded.secrets}
    rejected = {(named.kind, named.namespace, named.name) for named in loaded.rejected}
    config_maps = {(doc.namespace, doc.name): doc.values for doc in loaded.config_maps}
    services = {(named.namespace, named.name) for named in loaded.ignored if named.kind == "Service"}
    lookup = Resources(
        loaded.resources, secrets, env, rejected, exported=exported, config_maps=config_maps, services=services
    )
    planned = plan_all(lookup, override)
    order = {name: number for number, (_, name) in enumerate(files.texts)}
    problems = [*files.problems, *loaded.problems, *planned.problems]
    problems.sort(key=lambda problem: (order.get(problem.source.file, -1), problem.source.line))
    seen = msgspec.json.encode((files.texts, sorted(env.items()), sorted(exported.items())))
    return Resolved(
        plans=list(planned.plans.values()),
        problems=problems,
        kinds=dict(Counter(resource.kind for resource in loaded.resources)),
        ignored=[str(named) for named in loaded.ignored],
        folders=[str(folder) for folder in files.folders],
        secrets=[SecretValues(doc.namespace, doc.name, dict(doc.values)) for doc in loaded.secrets],
        env=env,
        exported=exported,
        fingerprint=hashlib.sha256(seen).hexdigest(),
    )
