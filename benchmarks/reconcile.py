"""`python -m benchmarks.reconcile`: how fast the controller makes agents of what is declared, beside a floor.

Each round starts an API server of its own for either side, with the same agents in it. The floor sends the writes that
the controller would, and no others, over bare aiohttp; the controller is the `kadre operator` that people run. Prints a
table of medians and of ratios taken within a round.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import aclosing, contextmanager
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

import psutil

from benchmarks import processes
from benchmarks.machine import describe
from kadre.api import manifest
from kadre.api.crd import crds
from kadre.api.kinds.agent import Agent
from kadre.base.clock import SystemClock
from kadre.kube import access, kinds
from kadre.kube.client import Client, Scope
from kadre.kube.kinds import Kind, Object
from kadre.operator import install
from kadre.operator.children.agent import children
from kadre.operator.children.common import Owner, Settings
from kadre.operator.cluster import our_kinds
from kadre.operator.status import Facts, of_agent
from kadre.plan.build import plan
from kadre.plan.lookup import Resources
from tests.cluster.control_plane import ControlPlane

NAMESPACE = "bench"
KINDS = {kind.kind: kind for kind in our_kinds() if kind.group == "kagent.dev"}
IMAGE = "kadre:bench"
WRITES = "kadre_api_writes_total"
OTHERS = 10
"""Of how many agents one more uses another model, and has nothing to do with what changes."""
PROMPT = "You help people with their clusters. " * 20


class Cost(NamedTuple):
    """What one side took for all agents. `rss`: MiB at the end; 0 where it is of no interest."""

    seconds: float
    cpu: float
    writes: int
    rss: float = 0.0


class Later(NamedTuple):
    """The writes of a controller that starts anew; and what a changed model rolls then, of its users and of others.

    In this order: without what acts on Deployments, an earlier revision is never seen, and its plan is cleared away by
    whoever starts anew after it.
    """

    rolled: int
    others: int
    writes: int
    rss: float
    """MiB of the one that started anew, when everything has rolled."""
    anew: float
    """The same, when it has looked at everything."""


def declared(number: int, model: str = "model") -> Object:
    """One agent as its author writes it."""
    spec = {"modelConfig": model, "systemMessage": PROMPT, "scaling": {"minReplicas": 2, "maxReplicas": 4}}
    metadata = {"name": f"agent-{number}" if model == "model" else f"{model}-{number}", "namespace": NAMESPACE}
    return {"apiVersion": "kagent.dev/v1alpha1", "kind": "Agent", "metadata": metadata, "spec": spec}


def model_config(name: str = "model") -> Object:
    """The model of all of them, or of the few others."""
    metadata = {"name": name, "namespace": NAMESPACE}
    spec = {"provider": "scripted", "model": "script"}
    return {"apiVersion": "kagent.dev/v1alpha1", "kind": "ModelConfig", "metadata": metadata, "spec": spec}


@contextmanager
def api() -> Iterator[ControlPlane]:
    """An API server with our kinds and the namespace, without what acts on Deployments."""
    with tempfile.TemporaryDirectory(prefix="kadre-bench-") as folder:
        plane = ControlPlane(Path(folder))
        plane.start()
        plane.manager.stop()  # its own work on what is made would be in both sides' way
        try:
            asyncio.run(_prepare(plane))
            yield plane
        finally:
            plane.stop()


async def _prepare(plane: ControlPlane) -> None:
    found = access.by_kubeconfig(plane.kubeconfig)
    await install.apply_crds(crds(), found)
    async with Client(found, "bench") as client:
        await client.create(kinds.NAMESPACE, {"metadata": {"name": NAMESPACE}})


async def _declare(client: Client, agents: int) -> list[Object]:
    await client.apply(KINDS["ModelConfig"], model_config())
    return [await client.apply(KINDS["Agent"], declared(number)) for number in range(agents)]


def floor(agents: int) -> Cost:
    """The writes alone."""
    with api() as plane:
        made = asyncio.run(_with(plane, agents))
        file = plane.folder / "writes"
        file.write_text("\n\n".join("\n".join(json.dumps(write) for write in _writes(agent)) for agent in made))
        command = [sys.executable, "-m", "benchmarks.apps.apply_floor", str(file), str(plane.kubeconfig)]
        done = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    return Cost(done["seconds"], done["cpu"], done["writes"])


async def _with(plane: ControlPlane, agents: int) -> list[Object]:
    async with Client(access.by_kubeconfig(plane.kubeconfig), "bench") as client:
        return await _declare(client, agents)


def _writes(agent: Object) -> Iterator[tuple[str, str]]:
    """What the controller writes for an agent: its objects, and its status twice."""
    resource, _ = manifest.parse(agent)
    config, _ = manifest.parse(model_config())
    assert isinstance(resource, Agent)
    assert config is not None
    planned = plan(resource, Resources([resource, config])).plan
    assert planned is not None
    owner = Owner(planned, "Agent", "kagent.dev/v1alpha1", agent["metadata"]["uid"])
    for child in children(owner, Settings(image=IMAGE)):
        yield child.kind.path(NAMESPACE, child.name), json.dumps(child.manifest)
    fields = {"model": "scripted/script", "url": "http://agent", "planHash": "0" * 12}
    status = of_agent({}, Facts(fields=fields), None, 1, SystemClock().now())
    path = KINDS["Agent"].path(NAMESPACE, agent["metadata"]["name"], "status")
    said = {"apiVersion": "kagent.dev/v1alpha1", "kind": "Agent", "metadata": {"name": agent["metadata"]["name"]}}
    yield path, json.dumps(said | {"status": status})
    yield path, json.dumps(said | {"status": status | {"replicas": 0}})


def controller(agents: int) -> tuple[Cost, Later]:
    """`kadre operator`, from the moment it is there to the last agent's objects and status; and what comes after."""
    with api() as plane:
        asyncio.run(_with(plane, 0))
        with _running(plane) as (seen, port):
            asyncio.run(_model_is_told(plane))
            cpu, began = _cpu(seen), time.monotonic()
            asyncio.run(_watched(plane, agents))
            seconds, used = time.monotonic() - began, _cpu(seen) - cpu
            cost = Cost(seconds, used, int(_figure(port, WRITES)), _rss(seen))
        with _running(plane) as (seen, port):
            _wait_until_looked_at(port, agents + 1)
            writes, anew = int(_figure(port, WRITES)), _rss(seen)
            rolled, others = asyncio.run(_changed(plane, agents))
            return cost, Later(rolled, others, writes, _rss(seen), anew)


@contextmanager
def _running(plane: ControlPlane) -> Iterator[tuple[psutil.Process, int]]:
    port = processes.free_port()
    command = [sys.executable, "-m", "kadre", "operator", "--agent-image", IMAGE]
    command += ["--health-probe-bind-address", "0", "--metrics-bind-address", f"127.0.0.1:{port}"]
    env = os.environ | {"KUBECONFIG": str(plane.kubeconfig)}
    running = subprocess.Popen(command, env=env, stderr=subprocess.DEVNULL)
    try:
        yield psutil.Process(running.pid), port
    finally:
        running.terminate()
        running.wait()


async def _changed(plane: ControlPlane, agents: int) -> tuple[int, int]:
    """Change the model of all but a few agents: how many of them rolled, and how many of the few."""
    async with Client(access.by_kubeconfig(plane.kubeconfig), "bench") as client:
        await client.apply(KINDS["ModelConfig"], model_config("other"))
        few = [declared(number, "other") for number in range(agents // OTHERS)]
        for agent in few:
            await client.apply(KINDS["Agent"], agent)
        await _until(client, KINDS["Agent"], lambda found: len(found) == agents + len(few), _is_done)
        hashes = {agent["status"]["planHash"] for agent in (await client.list(KINDS["Agent"])).items}
        changed = model_config()
        changed["spec"]["temperature"] = 0.5
        await client.apply(KINDS["ModelConfig"], changed)
        await _until(
            client,
            KINDS["Agent"],
            lambda found: len(found) == agents,
            lambda agent: agent["status"].get("planHash") not in hashes,
        )
        rolled = [made for made in (await client.list(kinds.DEPLOYMENT)).items if made["metadata"]["generation"] > 1]
        others = sum(made["metadata"]["name"].startswith("other-") for made in rolled)
        return len(rolled) - others, others


def _cpu(process: psutil.Process) -> float:
    times = process.cpu_times()
    return float(times.user + times.system)


def _rss(process: psutil.Process) -> float:
    return float(process.memory_info().rss) / 2**20


async def _model_is_told(plane: ControlPlane) -> None:
    async with Client(access.by_kubeconfig(plane.kubeconfig), "bench") as client:
        await _until(client, KINDS["ModelConfig"], lambda found: len(found) == 1, lambda obj: "status" in obj)


async def _watched(plane: ControlPlane, agents: int) -> None:
    async with Client(access.by_kubeconfig(plane.kubeconfig), "bench") as client:
        declaring = asyncio.create_task(_declare(client, agents))
        await _until(client, KINDS["Agent"], lambda found: len(found) == agents, _is_done)
        await declaring


def _is_done(agent: Object) -> bool:
    return "planHash" in (agent.get("status") or {})


async def _until(client: Client, kind: Kind, enough: Any, holds: Any) -> None:
    while True:  # a watch ends after some minutes
        page = await client.list(kind, Scope())
        found = {obj["metadata"]["name"] for obj in page.items if holds(obj)}
        if enough(found):
            return
        async with aclosing(client.watch(kind, page.version, Scope())) as events:
            async for event in events:
                if event.type in {"ADDED", "MODIFIED"} and holds(event.object):
                    found.add(event.object["metadata"]["name"])
                    if enough(found):
                        return


def _wait_until_looked_at(port: int, objects: int) -> None:
    until = time.monotonic() + 600
    while time.monotonic() < until:
        try:
            if _figure(port, "kadre_reconciles_total") >= objects and not _figure(port, "kadre_queue_length"):
                return
        except OSError:
            pass  # it does not listen yet
        time.sleep(0.2)
    raise TimeoutError("the controller has not looked at everything within ten minutes")


def _figure(port: int, name: str) -> float:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics") as answer:
        lines = answer.read().decode().splitlines()
    return next(float(line.split()[1]) for line in lines if line.startswith(f"{name} "))


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.reconcile", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--agents", type=int, default=500)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--out", type=Path, help="folder for the report and the raw figures (default: not kept)")
    given = parser.parse_args()
    machine = describe(Path(tempfile.gettempdir()))
    rounds = []
    for number in range(given.rounds):
        rounds.append((floor(given.agents), *controller(given.agents)))
        print(f"round {number + 1}/{given.rounds}: {rounds[-1]}", file=sys.stderr)
    told = "\n".join(report(given.agents, rounds))
    print(told)
    if given.out:
        name = f"reconcile-{given.agents}-{machine['date'].partition(' ')[0]}"
        heading = "\n".join(
            f"- {key}: {value}" for key, value in machine.items() if key not in {"cores", "journals on"}
        )
        (given.out / f"{name}.md").write_text(f"# Reconciling {given.agents} agents\n\n{heading}\n\n{told}\n")
        raw = [[part._asdict() for part in parts] for parts in rounds]
        (given.out / f"{name}.json").write_text(json.dumps({"machine": machine, "rounds": raw}, indent=1) + "\n")


def report(agents: int, rounds: list[tuple[Cost, Cost, Later]]) -> Iterator[str]:
    """A table of medians, and what is asked of them."""
    yield "| | s | CPU s | ms CPU a write | writes | MiB |"
    yield "|---|---:|---:|---:|---:|---:|"
    for name, side in (("floor", 0), ("kadre operator", 1)):
        costs = [(base, ours)[side] for base, ours, _ in rounds]
        yield (
            f"| {name} | {median(cost.seconds for cost in costs):.2f} | {median(cost.cpu for cost in costs):.2f} "
            f"| {median(cost.cpu / cost.writes for cost in costs) * 1000:.2f} "
            f"| {median(cost.writes for cost in costs):.0f} | {median(cost.rss for cost in costs):.0f} |"
        )
    seconds = median(ours.seconds / base.seconds for base, ours, _ in rounds)
    cpu = median((ours.cpu / ours.writes) / (base.cpu / base.writes) for base, ours, _ in rounds)
    resident = median(max(ours.rss, later.rss, later.anew) for _, ours, later in rounds)
    yield ""
    yield f"- time x floor {seconds:.2f} (<= 1.6), CPU a write x floor {cpu:.2f} (<= 2.5)"
    yield f"- resident at most {resident:.0f} MiB (<= 90 with 500 agents, <= 160 with 5,000)"
    rolled, others = min(later.rolled for *_, later in rounds), max(later.others for *_, later in rounds)
    yield f"- a changed model rolled {rolled} of its {agents} agents (= all) and {others} others (= 0)"
    writes = max(later.writes for *_, later in rounds)
    yield f"- started anew over a cluster that is right: {writes} writes (= 0)"


if __name__ == "__main__":
    main()
