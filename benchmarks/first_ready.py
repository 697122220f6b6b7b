"""`python -m benchmarks.first_ready`: how long one agent takes from its manifest to being ready, beside a floor.

On a node of our own with the chart installed. The floor is a bare Deployment of the very pod that an agent runs in,
made by one request: same image, command, probes and plan. Both take turns in one run, each alone on the node. Prints
medians and the ratio. Needs what `make e2e` needs: root, Go and Debian's containerd.
"""

from __future__ import annotations

import argparse
import asyncio
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import aclosing, contextmanager
from pathlib import Path
from statistics import median

from kadre.kube import access, kinds
from kadre.kube.client import Client, Scope
from kadre.kube.kinds import Kind, Object
from kadre.operator.cluster import our_kinds
from tests.cluster import addons, images, programs
from tests.cluster.node import Node, missing

NAMESPACE = "bench"
CHART = Path(__file__).parents[1] / "charts" / "kadre"
KINDS = {kind.kind: kind for kind in our_kinds() if kind.group == "kagent.dev"}
FIRST = "first"
"""The agent whose pod the bare Deployments copy."""
SECONDS = 120.0


@contextmanager
def cluster() -> Iterator[Path]:
    """The kubeconfig of a node with Kadre installed."""
    with tempfile.TemporaryDirectory(prefix="kadre-bench-") as folder:
        node = Node(Path(folder))
        try:
            node.start()
            node.load(images.kadre())
            addons.names(node)
            _install(node)
            yield node.kubeconfig
        finally:
            node.stop()


def _install(node: Node) -> None:
    repository, _, tag = images.KADRE.rpartition(":")
    command = [str(programs.published("helm")), "install", "kagent", str(CHART), f"--kubeconfig={node.kubeconfig}"]
    command += ["-n", "kagent", "--create-namespace", "--wait"]
    command += ["--set", f"image.repository={repository}", "--set", f"image.tag={tag}"]
    subprocess.run(command, check=True, capture_output=True)


def agent(name: str) -> Object:
    """An agent as its author writes it."""
    spec = {"model": {"provider": "scripted", "name": "script"}, "systemMessage": "You help."}
    metadata = {"name": name, "namespace": NAMESPACE}
    return {"apiVersion": "kagent.dev/v1alpha1", "kind": "Agent", "metadata": metadata, "spec": spec}


def bare(name: str, of: Object) -> Object:
    """A Deployment that runs what that one runs, and belongs to nobody."""
    template = {"metadata": {"labels": {"app": name}}, "spec": of["spec"]["template"]["spec"]}
    spec = {"replicas": 1, "selector": {"matchLabels": {"app": name}}, "template": template}
    metadata = {"name": name, "namespace": NAMESPACE}
    return {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": metadata, "spec": spec}


def is_ready(obj: Object) -> bool:
    """Whether an agent says that it is."""
    conditions = obj.get("status", {}).get("conditions") or ()
    return any(each["type"] == "Ready" and each["status"] == "True" for each in conditions)


def is_available(obj: Object) -> bool:
    """Whether a Deployment has its pod."""
    return bool(obj.get("status", {}).get("availableReplicas"))


async def measured(client: Client, kind: Kind, obj: Object, holds: Callable[[Object], bool]) -> float:
    """Seconds from the request that makes the object until that holds of it; it is gone in the end, with its pod."""
    name, scope = obj["metadata"]["name"], Scope(NAMESPACE)
    version = (await client.list(kind, scope)).version
    async with asyncio.timeout(SECONDS), aclosing(client.watch(kind, version, scope)) as events:
        began = time.monotonic()
        await client.apply(kind, obj)
        async for event in events:
            if event.object["metadata"].get("name") == name and holds(event.object):
                break
        took = time.monotonic() - began
    if name != FIRST:
        await client.delete(kind, NAMESPACE, name)
        await _gone(client, name)
    return took


async def _gone(client: Client, name: str) -> None:
    """Wait until no pod of that name is left: an end costs the node as much as a beginning."""
    scope = Scope(NAMESPACE, f"app={name}")
    page = await client.list(kinds.POD, scope)
    left = {pod["metadata"]["name"] for pod in page.items}
    async with asyncio.timeout(SECONDS), aclosing(client.watch(kinds.POD, page.version, scope)) as events:
        while left:
            event = await anext(events)
            if event.type == "DELETED":
                left.discard(event.object["metadata"]["name"])


async def take_turns(kubeconfig: Path, rounds: int) -> list[tuple[float, float]]:
    """Seconds of the bare Deployment and of the agent, round by round."""
    async with Client(access.by_kubeconfig(kubeconfig), "bench") as client:
        await client.create(kinds.NAMESPACE, {"metadata": {"name": NAMESPACE}})
        await measured(client, KINDS["Agent"], agent(FIRST), is_ready)
        of = await client.get(kinds.DEPLOYMENT, NAMESPACE, FIRST)
        found = []
        for number in range(rounds):
            floor = await measured(client, kinds.DEPLOYMENT, bare(f"bare-{number}", of), is_available)
            ours = await measured(client, KINDS["Agent"], agent(f"agent-{number}"), is_ready)
            found.append((floor, ours))
            print(f"round {number + 1}/{rounds}: {floor:.2f} s and {ours:.2f} s", file=sys.stderr)
    return found


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.first_ready", description=(__doc__ or "").splitlines()[0]
    )
    parser.add_argument("--rounds", type=int, default=7)
    given = parser.parse_args()
    if missing():
        print(f"left out, for this machine can run no node: {missing()}")
        return
    with cluster() as kubeconfig:
        rounds = asyncio.run(take_turns(kubeconfig, given.rounds))
    floor, ours = (median(each[side] for each in rounds) for side in (0, 1))
    ratio = median(ours / floor for floor, ours in rounds)
    print(f"bare Deployment {floor:.2f} s, agent {ours:.2f} s, agent x floor {ratio:.2f} (<= 1.2)")


if __name__ == "__main__":
    main()
