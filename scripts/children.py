"""The objects that example agents become: from `NAME.in.yaml` beside them."""

from __future__ import annotations

from pathlib import Path

from kadre.api import crd, manifest
from kadre.api.dialects.kaos import ModelAPI
from kadre.operator.children import mcp_server, model_api
from kadre.operator.children.agent import children
from kadre.operator.children.common import Owner, Packages, Settings
from kadre.operator.children.environment import environment
from kadre.operator.children.server import ServerOwner
from kadre.plan.build import plan
from kadre.plan.lookup import Resources


class Pods(Resources):
    """Objects in memory, as a cluster has them: servers have pods of their own."""

    def served(self, namespace: str, service: str, port: int) -> str:
        """See Lookup."""
        return f"http://{service}.{namespace}.svc:{port}"


FOLDER = Path(__file__).parent.parent / "tests" / "golden" / "children"
VERSION = "81"
"""Of every Secret and ConfigMap there is."""
SETTINGS = Settings(image="kadre:golden", packages=Packages(index_url="http://packages/simple", ca="PEM"))


def texts() -> dict[str, str]:
    """Each example's objects as YAML, by the name of its file."""
    return {path.name.replace(".in.yaml", ".yaml"): _objects(path) for path in sorted(FOLDER.glob("*.in.yaml"))}


def _objects(path: Path) -> str:
    loaded = manifest.load(path.read_text(encoding="utf-8"), path.name)
    lookup = Pods(loaded.resources, {(secret.namespace, secret.name): secret.values for secret in loaded.secrets})
    # The first is what it is about: others are what that refers to.
    agent = loaded.resources[0]
    planned = plan(agent, lookup)
    if planned.server is not None:
        server = ServerOwner(planned.server, agent.kind, agent.api_version, agent.metadata.uid or "")
        make = model_api.children if isinstance(agent, ModelAPI) else mcp_server.children
        return "".join(f"---\n{crd.dump(child.manifest)}" for child in make(server, SETTINGS))
    if planned.plan is None:
        raise ValueError(f"{path.name}: {[str(problem) for problem in (*loaded.problems, *planned.problems)]}")
    read = environment(planned.plan, lambda *_: VERSION, "")
    owner = Owner(planned.plan, agent.kind, agent.api_version, agent.metadata.uid or "", read)
    return "".join(f"---\n{crd.dump(child.manifest)}" for child in children(owner, SETTINGS))
