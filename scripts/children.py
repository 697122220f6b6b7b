"""The objects that example agents become: from `NAME.in.yaml` beside them."""

from __future__ import annotations

from pathlib import Path

from kadre.api import crd, manifest
from kadre.api.kinds.agent import Agent
from kadre.operator.children.agent import children
from kadre.operator.children.common import Owner, Settings
from kadre.operator.children.environment import environment
from kadre.plan.build import plan
from kadre.plan.lookup import Resources

FOLDER = Path(__file__).parent.parent / "tests" / "golden" / "children"
VERSION = "81"
"""Of every Secret and ConfigMap there is."""
SETTINGS = Settings(image="kadre:golden")


def texts() -> dict[str, str]:
    """Each example's objects as YAML, by the name of its file."""
    return {path.name.replace(".in.yaml", ".yaml"): _objects(path) for path in sorted(FOLDER.glob("*.in.yaml"))}


def _objects(path: Path) -> str:
    loaded = manifest.load(path.read_text(encoding="utf-8"), path.name)
    lookup = Resources(loaded.resources, {(secret.namespace, secret.name): secret.values for secret in loaded.secrets})
    (agent,) = [resource for resource in loaded.resources if isinstance(resource, Agent)]
    planned = plan(agent, lookup)
    if planned.plan is None:
        raise ValueError(f"{path.name}: {[str(problem) for problem in (*loaded.problems, *planned.problems)]}")
    read = environment(planned.plan, lambda *_: VERSION, "")
    owner = Owner(planned.plan, agent.kind, agent.api_version, agent.metadata.uid or "", read)
    return "".join(f"---\n{crd.dump(child.manifest)}" for child in children(owner, SETTINGS))
