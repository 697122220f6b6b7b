"""An upgraded controller rolls what it makes otherwise than the one before: ten agents at a time."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing, asynccontextmanager

import pytest

from kadre.base.tasks import Tasks
from kadre.kube import access, kinds
from kadre.kube.client import Scope
from kadre.kube.errors import ApiError
from kadre.kube.kinds import Object, key_of
from kadre.operator import upgrades
from kadre.operator.children.common import Settings
from kadre.operator.reconcilers import agent as agents
from kadre.operator.status import rollout
from kadre.operator.upgrades import MOST, WAITS
from tests.apiserver.conftest import AGENT, World, has, operating
from tests.apiserver.test_agents import MODEL_YAML
from tests.apiserver.test_faults import idle
from tests.support.between import between

pytestmark = pytest.mark.timeout(400)  # thirty rollouts, with every pod in between
AGENTS = 30
OLD, NEW = Settings(image="kadre:old"), Settings(image="kadre:new")
AGENT_YAML = """
apiVersion: kagent.dev/v1alpha1
kind: Agent
metadata: {{name: agent-{number}}}
spec: {{modelConfig: small}}
"""


@asynccontextmanager
async def easy_node(world: World) -> AsyncIterator[None]:
    """Somebody who says of every pod that it is ready, as a node would once it ran it."""

    async def say_ready(pod: Object) -> None:
        if pod.get("status", {}).get("phase") == "Running" or "deletionTimestamp" in pod["metadata"]:
            return
        status = {"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]}
        metadata = {key: pod["metadata"][key] for key in ("name", "namespace", "uid")}
        made = {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "status": status}
        try:
            await world.client.apply(kinds.POD, made, "status")
        except ApiError as error:
            if not (error.missing or error.conflict):  # it has gone meanwhile
                raise

    async def work() -> None:
        scope = Scope(world.namespace)
        page = await world.client.list(kinds.POD, scope)
        for pod in page.items:
            await say_ready(pod)
        async with aclosing(world.client.watch(kinds.POD, page.version, scope)) as events:
            async for event in events:
                if event.type == "ADDED":
                    await say_ready(event.object)

    tasks = Tasks("node")
    tasks.spawn("ready", work())
    try:
        yield
    finally:
        await tasks.aclose()


def image(deployment: Object) -> str:
    (container,) = deployment["spec"]["template"]["spec"]["containers"]
    name: str = container["image"]
    return name


async def watched(world: World, wanted: Settings, together: int) -> int:
    """Wait until all agents run that image; the most that were rolling to it at once. `together`: of which they are."""
    scope, known, most = Scope(world.namespace), dict[str, Object](), 0
    page = await world.client.list(kinds.DEPLOYMENT, scope)
    known |= {key_of(each).name: each for each in page.items}

    def done() -> bool:
        there = [each for each in known.values() if image(each) == wanted.image and rollout(each).settled]
        return len(there) == together

    async with asyncio.timeout(150), aclosing(world.client.watch(kinds.DEPLOYMENT, page.version, scope)) as events:
        while not done():
            event = await anext(events)
            known[key_of(event.object).name] = event.object
            rolling = [each for each in known.values() if image(each) == wanted.image and not rollout(each).settled]
            most = max(most, len(rolling))
    return most


@pytest.mark.requirement("operator-upgrade")
async def test_an_upgrade_rolls_ten_agents_at_a_time_and_one_without_another_image_none(world: World) -> None:
    await world.apply("---".join([MODEL_YAML, *(AGENT_YAML.format(number=number) for number in range(AGENTS))]))
    async with easy_node(world):
        async with operating(world.plane.kubeconfig, OLD):
            await watched(world, OLD, AGENTS)
            await world.every(AGENT, {f"agent-{number}": has("Ready", "Available") for number in range(AGENTS)})
        async with operating(world.plane.kubeconfig, NEW):
            most = await watched(world, NEW, AGENTS)
        assert 1 < most <= MOST
    before = await world.client.list(kinds.DEPLOYMENT, Scope(world.namespace))
    async with operating(world.plane.kubeconfig, NEW) as again:
        await again.acting.wait()
        await idle(again)
        after = await world.client.list(kinds.DEPLOYMENT, Scope(world.namespace))
        names = [each["metadata"]["name"] for each in before.items]
        generations = [[each["metadata"]["generation"] for each in page.items] for page in (before, after)]
        assert generations[0] == generations[1]
        # What changes while a controller is at work is no upgrade: nobody waits, though no pod becomes ready now.
        await world.apply(MODEL_YAML.replace("model: script", "model: other"))
        later = {name: after_generation(number) for name, number in zip(names, generations[0], strict=True)}
        await world.every(kinds.DEPLOYMENT, later)


@pytest.mark.requirement("operator-upgrade")
async def test_an_upgrade_that_the_api_server_refuses_goes_no_further_than_ten_agents(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(agents, "REFUSED_SECONDS", 0.1)
    names = [f"agent-{number}" for number in range(MOST + 5)]
    await world.apply("---".join([MODEL_YAML, *(AGENT_YAML.format(number=number) for number in range(MOST + 5))]))
    async with easy_node(world), between(access.by_kubeconfig(world.plane.kubeconfig)) as (bad, way):
        async with operating(world.plane.kubeconfig, OLD, [world.namespace]):
            await world.every(AGENT, dict.fromkeys(names, has("Ready", "Available")))
        bad.refused |= {("PATCH", f"/deployments/{name}"): 422 for name in names}
        async with operating(way, NEW, [world.namespace]):
            told = dict.fromkeys(
                names, lambda obj: has("Stalled", "Refused")(obj) or has("UpToDate", WAITS.reason)(obj)
            )
            await world.every(AGENT, told)
            found = (await world.client.list(AGENT, Scope(world.namespace))).items
            assert sum(has("Stalled", "Refused")(each) for each in found) == MOST
            bad.refused.clear()
            assert 1 < await watched(world, NEW, len(names)) <= MOST


@pytest.mark.requirement("operator-upgrade")
async def test_one_that_waits_keeps_saying_its_model_where_its_revisions_are_not_shown(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    await world.apply(MODEL_YAML + "---" + AGENT_YAML.format(number=0))
    async with easy_node(world), between(access.by_kubeconfig(world.plane.kubeconfig)) as (bad, way):
        async with operating(world.plane.kubeconfig, OLD, [world.namespace]):
            await world.every(AGENT, {"agent-0": has("Ready", "Available")})
        monkeypatch.setattr(upgrades, "MOST", 0)
        bad.refused["GET", "/replicasets"] = 403
        async with operating(way, NEW, [world.namespace]):
            agent = await world.when(AGENT, "agent-0", has("UpToDate", WAITS.reason))
            assert agent["status"]["model"] == "scripted/script"


def after_generation(number: int) -> Callable[[Object], bool]:
    """Whether an object is of a later generation."""
    return lambda obj: bool(obj["metadata"]["generation"] > number)
