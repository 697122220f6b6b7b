"""`python -m benchmarks.pool`: what many agents cost in one pod, beside a floor that only follows and forwards.

Both follow the same plans at an API server of their own round, and answer for every agent with one call to the same
model. The pool is the `kadre pool` that people run; a pod of its own for each is worked out from one `kadre host`.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

from benchmarks import processes
from benchmarks.machine import describe
from benchmarks.processes import Process
from benchmarks.reconcile import NAMESPACE, PROMPT, api
from benchmarks.systems import Launch
from kadre.kube import access, kinds
from kadre.kube.client import Client
from kadre.kube.kinds import Object
from kadre.operator.children import plan_map, pools
from kadre.operator.children import pool as parts
from kadre.operator.children.common import Owner
from kadre.plan.types import AgentKey, AgentPlan, ModelPlan
from tests.cluster.control_plane import ControlPlane

APPLIED = 10
"""Plans of which the time from their being there to their answer is measured."""
BOUND = 120
"""MiB that 200 agents may take."""


class Cost(NamedTuple):
    """What one side came to: MiB with everything served and when each agent has answered; seconds; CPU of a turn."""

    idle: float
    talked: float
    seconds: float
    """Until all plans are served, from the process's start."""
    soon: float
    """From a new plan to its answer, at the median; 0: not measured."""
    cpu: float
    """Milliseconds of a turn."""


def plan(number: int, model: str) -> AgentPlan:
    """One agent's plan, with a prompt as people write them."""
    key = AgentKey(NAMESPACE, f"agent-{number}")
    made = ModelPlan(provider="vllm", model="m", endpoint=model)
    return AgentPlan(key=key, model=made, system_prompt=f"{PROMPT} {number}", description=f"Agent {number}")


def config_map(number: int, model: str) -> Object:
    """The same as the controller writes it."""
    return plan_map.plan_map(
        Owner(plan(number, model), "Agent", "kagent.dev/v1alpha1", "uid", "", ("default",))
    ).manifest


def role(numbers: range, model: str) -> Object:
    """The Role of a pool that may serve these, as the controller writes it."""
    digests = tuple(plan_map.digest(plan(number, model)) for number in numbers)
    metadata = {"name": parts.called("default"), "namespace": NAMESPACE}
    rules = parts.rules(parts.Pool(NAMESPACE, "default", plans=digests))
    return {"apiVersion": kinds.ROLE.api_version, "kind": kinds.ROLE.kind, "metadata": metadata, "rules": rules}


async def _declare(plane: ControlPlane, numbers: range, model: str) -> None:
    async with Client(access.by_kubeconfig(plane.kubeconfig), "bench") as client:
        for number in numbers:
            made = config_map(number, model)
            made["metadata"].pop("ownerReferences")  # of nobody who is there: they would be collected
            await client.apply(kinds.CONFIG_MAP, made)
        told = {"metadata": {"name": parts.told_in("default"), "namespace": NAMESPACE}}
        await client.apply(kinds.CONFIG_MAP, {"apiVersion": "v1", "kind": "ConfigMap", **told})
        await client.apply(kinds.ROLE, role(range(numbers.stop), model))


def chat(port: int, number: int) -> bool:
    """Whether the agent answers."""
    body = json.dumps({"message": "hello", "session_id": f"s-{number}"}).encode()
    url = f"http://127.0.0.1:{port}/agents/agent-{number}/chat"
    request = urllib.request.Request(url, body, {"Content-Type": "application/json"})
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:
            return bool(json.load(answer)["response"])
    except urllib.error.HTTPError as error:
        if error.code != 404:
            raise
        return False


def served(port: int) -> int:
    """How many agents are served; 0 before it answers."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=5) as answer:
            return int(json.load(answer)["agents"])
    except OSError:
        return 0


def until(holds: Any, seconds: float = 60.0) -> float:
    """Seconds until it holds. Raises TimeoutError."""
    began = time.monotonic()
    while not holds():
        if time.monotonic() - began > seconds:
            raise TimeoutError("it took longer than anything here does")
        time.sleep(0.005)
    return time.monotonic() - began


@contextmanager
def model_server(folder: Path) -> Iterator[str]:
    """The model that all of them ask: its address."""
    port = processes.free_port()
    process = Process(processes.module("mock_model", "--port", str(port)), port, folder, processes.cores()[1])
    try:
        process.wait_until_open()
        yield f"http://127.0.0.1:{port}/v1"
    finally:
        process.stop()


def measured(launch: Launch, port: int, folder: Path, agents: int, new: Any) -> Cost:
    """One side. `new`: declares one more plan."""
    process = Process(launch, port, folder, processes.cores()[0])
    try:
        seconds = until(lambda: served(port) >= agents)
        idle = process.rss()
        before = process.cpu()
        for number in range(agents):
            if not chat(port, number):
                raise RuntimeError(f"agent {number} is not served")
        cpu = (process.cpu() - before) / agents * 1000
        talked = process.rss()
        soon = []
        for number in range(agents, agents + APPLIED) if new else ():
            began = time.monotonic()
            new(number)
            until(lambda number=number: chat(port, number))
            soon.append(time.monotonic() - began)
    finally:
        process.stop()
    return Cost(idle, talked, seconds, median(soon) if soon else 0.0, cpu)


def round_of(folder: Path, agents: int) -> dict[str, Cost]:
    """Every side, once."""
    found = {}
    with ExitStack() as stack:
        model = stack.enter_context(model_server(folder))
        for side in ("floor", "kadre pool"):
            plane = stack.enter_context(api())
            asyncio.run(_declare(plane, range(agents), model))
            port, config = processes.free_port(), _config(plane)
            selector = pools.selector("default")
            launch = processes.module("apps.pool_floor", str(port), str(config), NAMESPACE, selector)
            if side != "floor":
                words = ["pool", "--pod=bench", "--host=127.0.0.1", f"--port={port}", f"--data-dir={folder / 'data'}"]
                launch = Launch([sys.executable, "-m", "kadre", *words], {"KUBECONFIG": str(config)})

            def new(number: int, plane: ControlPlane = plane) -> None:
                asyncio.run(_declare(plane, range(number, number + 1), model))

            found[side] = measured(launch, port, folder, agents, new)
        found["kadre host, of one agent"] = _alone(folder, model)
    return found


def _alone(folder: Path, model: str) -> Cost:
    port, file = processes.free_port(), folder / "plan.json"
    file.write_bytes(plan_map.encoded(plan(0, model)))
    words = ["host", f"--plan={file}", "--host=127.0.0.1", f"--port={port}", f"--data-dir={folder / 'alone'}"]
    return measured(Launch([sys.executable, "-m", "kadre", *words], {}), port, folder, 1, None)


def _config(plane: ControlPlane) -> Path:
    """A kubeconfig whose namespace is that of the plans."""
    told = json.loads(plane.kubeconfig.read_text())
    told["contexts"][0]["context"]["namespace"] = NAMESPACE
    made = plane.folder / "bench.kubeconfig"
    made.write_text(json.dumps(told))
    return made


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.pool", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--agents", type=int, default=200)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--out", type=Path, help="folder for the report and the raw figures (default: not kept)")
    given = parser.parse_args()
    machine = describe(Path(tempfile.gettempdir()))
    rounds = []
    for number in range(given.rounds):
        with tempfile.TemporaryDirectory(prefix="kadre-bench-") as folder:
            rounds.append(round_of(Path(folder), given.agents))
        print(f"round {number + 1}/{given.rounds}: {rounds[-1]}", file=sys.stderr)
    told = "\n".join(report(given.agents, rounds))
    print(told)
    if given.out:
        name = f"pool-{given.agents}-{machine['date'].partition(' ')[0]}"
        heading = "\n".join(f"- {key}: {value}" for key, value in machine.items() if key != "journals on")
        (given.out / f"{name}.md").write_text(f"# {given.agents} agents in one pod\n\n{heading}\n\n{told}\n")
        raw = [{side: cost._asdict() for side, cost in each.items()} for each in rounds]
        (given.out / f"{name}.json").write_text(json.dumps({"machine": machine, "rounds": raw}, indent=1) + "\n")


def report(agents: int, rounds: list[dict[str, Cost]]) -> Iterator[str]:
    """A table of medians, and what is asked of them."""
    columns = ("MiB", "MiB when each has answered", "s until all are served", "ms from a new plan to its answer")
    yield f"| | {' | '.join(columns)} | ms CPU a turn |"
    yield "|---|---:|---:|---:|---:|---:|"
    for side in rounds[0]:
        of = Cost(*[median(figures) for figures in zip(*[each[side] for each in rounds], strict=True)])
        told = f"{of.soon * 1000:.0f} | {of.cpu:.2f}" if of.soon else " | "  # of one turn no CPU can be told
        yield f"| {side} | {of.idle:.0f} | {of.talked:.0f} | {of.seconds:.2f} | {told} |"
    pool = median(each["kadre pool"].talked for each in rounds)
    ratio = median(each["kadre pool"].talked / each["floor"].talked for each in rounds)
    alone = median(each["kadre host, of one agent"].talked for each in rounds) * agents
    soon = max(each["kadre pool"].soon for each in rounds)
    yield ""
    yield f"- resident {pool:.0f} MiB with {agents} agents (<= {BOUND} with 200): x floor {ratio:.2f}"
    yield f"- in pods of their own they would take {alone:.0f} MiB"
    yield f"- from a new plan to its answer {soon * 1000:.0f} ms at most (<= 2000)"


if __name__ == "__main__":
    main()
