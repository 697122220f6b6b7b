"""What is seen of the cluster is older than what was done to it: late watches, lost answers, refused reads."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from functools import partial
from itertools import cycle
from typing import NamedTuple

import pytest

from kadre.base.clock import FakeClock
from kadre.base.tasks import Tasks
from kadre.kube import access, kinds
from kadre.kube.client import Client
from kadre.kube.informer import ABSENT_SECONDS, BRIEF, Informer
from kadre.kube.kinds import Key, Object, key_of
from kadre.operator.children.common import MANAGER, Settings
from kadre.operator.controller import Operator
from kadre.operator.reconcilers import agent as agents
from tests.apiserver.conftest import AGENT, SECONDS, World, has, is_true, operating
from tests.apiserver.test_agents import AGENT_YAML, MODEL_YAML
from tests.apiserver.test_faults import idle
from tests.apiserver.test_rollouts import model, plan_of, rolled
from tests.support.between import Between, between

pytestmark = pytest.mark.requirement("operator-faults")


ROUNDS = 30
MAX_TRIES = 6
"""Of an agent that fails, while another is changed so often: waits double from a second on."""
OTHER_YAML = AGENT_YAML.replace("name: helper", "name: other")


def looked_at(generation: int) -> Callable[[Object], bool]:
    """Whether the controller has come to that generation of an object."""
    return lambda obj: bool(obj.get("status", {}).get("observedGeneration") == generation)


class Scene(NamedTuple):
    """A controller that reaches the API by way of `bad`; the test itself reaches it straight."""

    world: World
    bad: Between
    operator: Operator


@pytest.fixture
async def scene(world: World) -> AsyncIterator[Scene]:
    async with (
        between(access.by_kubeconfig(world.plane.kubeconfig)) as (bad, way),
        operating(way) as operator,
    ):
        yield Scene(world, bad, operator)


async def test_a_status_that_could_not_be_written_makes_no_rollback_of_the_next_change(scene: Scene) -> None:
    world, bad, _ = scene
    await world.apply(MODEL_YAML + "---" + AGENT_YAML)
    first = plan_of(await rolled(world, 1))
    bad.refused["PATCH", "/agents/helper/status"] = 503
    await model(world, "second")
    changed = await world.when(kinds.DEPLOYMENT, "helper", lambda obj: plan_of(obj) != first)
    second = plan_of(changed)
    await world.some(kinds.REPLICA_SET, lambda obj: plan_of(obj) == second)
    await model(world, "third")
    await world.when(kinds.DEPLOYMENT, "helper", lambda obj: plan_of(obj) not in (first, second))
    bad.refused.clear()
    agent = await world.when(AGENT, "helper", lambda obj: obj["status"].get("revision") == 3)
    assert not is_true(agent, "RolledBack")


async def test_a_controller_that_starts_after_a_lost_status_makes_no_rollback_of_the_next_change(world: World) -> None:
    async with operating(world.plane.kubeconfig):
        await world.apply(MODEL_YAML + "---" + AGENT_YAML)
        first = await rolled(world, 1)
        before = (await world.client.get(AGENT, world.namespace, "helper"))["status"]
        await model(world, "second")
        second = await rolled(world, 2)
    # As it is left by a controller that did not get to write its last status.
    helper = {"apiVersion": AGENT.api_version, "kind": AGENT.kind, **world.named("helper"), "status": before}
    await world.client.apply(AGENT, helper, "status", manager=MANAGER)
    await model(world, "third")
    async with operating(world.plane.kubeconfig):
        third = await rolled(world, 3)
    assert plan_of(third) not in (plan_of(first), plan_of(second))


async def test_nothing_is_told_of_the_deployment_as_it_was_before_it_was_changed(scene: Scene) -> None:
    world, bad, _ = scene
    await world.apply(MODEL_YAML + "---" + AGENT_YAML)
    await world.when(AGENT, "helper", lambda obj: "1 of 1 pods are new" in rolling(obj))
    await rolled(world, 1)
    before = await world.client.get(AGENT, world.namespace, "helper")
    bad.hold("deployments")
    await model(world, "second")
    after = await world.when(AGENT, "helper", lambda obj: obj["status"]["planHash"] != before["status"]["planHash"])
    assert "0 of 1 pods are new" in rolling(after)
    bad.release("deployments")
    await world.when(AGENT, "helper", lambda obj: "1 of 1 pods are new" in rolling(obj))


def rolling(agent: Object) -> str:
    conditions = agent.get("status", {}).get("conditions") or ()
    return " ".join(each["message"] for each in conditions if each["type"] == "Reconciling")


async def test_a_deployment_made_anew_begins_to_count_anew(scene: Scene) -> None:
    world, _, _ = scene
    await world.apply(MODEL_YAML + "---" + AGENT_YAML)
    await rolled(world, 1)
    await model(world, "second")
    second = await rolled(world, 2)
    await world.client.delete(kinds.DEPLOYMENT, world.namespace, "helper")
    uid = second["metadata"]["uid"]
    await world.when(kinds.DEPLOYMENT, "helper", lambda obj: obj["metadata"]["uid"] != uid)
    await world.when(AGENT, "helper", lambda obj: obj["status"].get("revision") == 1 and "1 of 1" in rolling(obj))


async def test_a_child_deleted_before_its_making_was_answered_is_made_again(scene: Scene) -> None:
    world, bad, operator = scene
    uids: list[str] = []

    async def delete_it() -> None:
        bad.before_answer.clear()
        made = await world.client.get(kinds.SERVICE, world.namespace, "helper")
        uids.append(made["metadata"]["uid"])
        live = operator.owned.live(kinds.SERVICE)
        await until(lambda: Key(world.namespace, "helper") in live)
        await world.client.delete(kinds.SERVICE, world.namespace, "helper")
        await until(lambda: Key(world.namespace, "helper") not in live)

    bad.before_answer["PATCH", "/services/helper"] = delete_it
    await world.apply(MODEL_YAML + "---" + AGENT_YAML)
    await world.when(kinds.SERVICE, "helper", lambda obj: bool(uids) and obj["metadata"]["uid"] not in uids)


async def test_a_child_that_came_and_went_while_its_watch_was_broken_is_made_again(scene: Scene) -> None:
    world, bad, _ = scene
    bad.hold("services")
    await world.apply(MODEL_YAML + "---" + AGENT_YAML)
    made = await world.when(kinds.SERVICE, "helper", lambda _: True)
    await rolled(world, 1)
    await world.client.delete(kinds.SERVICE, world.namespace, "helper")
    bad.expire("services")
    await world.when(kinds.SERVICE, "helper", lambda obj: obj["metadata"]["uid"] != made["metadata"]["uid"])


async def test_an_answer_of_the_api_server_that_does_not_pass_is_told_until_it_does(scene: Scene) -> None:
    world, bad, _ = scene
    await world.apply(MODEL_YAML)
    bad.refused["PATCH", "/deployments/helper"] = 500
    await world.apply(AGENT_YAML)
    told = await world.condition(AGENT, "helper", "Reconciling", "ApiServerError")
    assert told["message"].startswith("the API server answers 500: PATCH /apis/apps/v1/")
    await world.condition(AGENT, "helper", "Ready", "ApiServerError")
    bad.refused.clear()
    await rolled(world, 1)
    bad.refused["PATCH", "/deployments/helper"] = 500
    await model(world, "second")
    agent = await world.when(AGENT, "helper", has("Reconciling", "ApiServerError"))
    assert has("Ready", "Starting")(agent)
    assert (agent["status"]["model"], agent["status"]["revision"]) == ("scripted/script", 1)
    bad.refused.clear()
    await rolled(world, 2)


@pytest.mark.parametrize(("answers", "told"), [([422], "Refused"), ([500, 429], "ApiServerError")])
async def test_an_answer_that_is_worded_otherwise_each_time_does_not_have_it_tried_without_a_pause(
    scene: Scene, answers: list[int], told: str
) -> None:
    world, bad, operator = scene
    bad.refused["PATCH", f"/{world.namespace}/deployments/helper"] = cycle(answers)  # there are those of tests before
    await world.apply(MODEL_YAML + "---" + AGENT_YAML)
    await world.when(AGENT, "helper", lambda obj: told in str(obj.get("status")))
    tried, written = bad.refusals, operator.reporter.writes
    for number in range(ROUNDS):  # time passes: as much as the controller needs to follow another agent so often
        await world.apply(OTHER_YAML.replace("You help.", f"You help {number}."))
        await world.when(AGENT, "other", looked_at(number + 1))
    assert bad.refusals - tried <= MAX_TRIES
    helper = await world.client.get(AGENT, world.namespace, "helper")
    assert told in str(helper["status"])
    assert operator.reporter.writes - written <= 4 * ROUNDS + MAX_TRIES


async def test_what_is_too_large_for_the_api_server_is_told_as_refused(scene: Scene) -> None:
    world, bad, _ = scene
    bad.refused["PATCH", "/deployments/helper"] = 413
    await world.apply(MODEL_YAML + "---" + AGENT_YAML)
    await world.condition(AGENT, "helper", "Stalled", "Refused")


async def test_plans_stay_while_it_is_not_shown_which_revisions_refer_to_them(world: World) -> None:
    async with operating(world.plane.kubeconfig):
        await world.apply(MODEL_YAML + "---" + AGENT_YAML)
        first = plan_of(await rolled(world, 1))
        await model(world, "second")
        second = plan_of(await rolled(world, 2))
    async with between(access.by_kubeconfig(world.plane.kubeconfig)) as (bad, way):
        bad.refused["GET", "/replicasets"] = 403
        async with operating(way) as operator:
            await model(world, "third")
            await world.when(kinds.DEPLOYMENT, "helper", lambda obj: plan_of(obj) not in (first, second))
            await idle(operator)
    for plan in (first, second):
        assert await world.get(kinds.CONFIG_MAP, plan) is not None


async def test_plans_stay_while_their_revisions_are_seen_late(scene: Scene) -> None:
    world, bad, operator = scene
    await world.apply(MODEL_YAML + "---" + AGENT_YAML)
    plans = [plan_of(await rolled(world, 1))]
    bad.hold("replicasets")
    for number, name in enumerate(["second", "third", "fourth"], start=2):
        await model(world, name)
        plans.append(plan_of(await rolled(world, number)))
    await idle(operator)
    for plan in plans:
        assert await world.get(kinds.CONFIG_MAP, plan) is not None
    bad.release("replicasets")
    await until(lambda: not operator._agents.rollouts._plans)


async def test_what_is_there_is_not_known_while_its_watch_is_broken(scene: Scene) -> None:
    world, bad, operator = scene
    knows = partial(operator.owned.knows, kinds.REPLICA_SET, world.namespace)
    await until(lambda: knows() and "replicasets" in bad.watches)
    bad.hold("replicasets")
    bad.refused["GET", "/replicasets"] = 500
    await world.apply(MODEL_YAML + "---" + AGENT_YAML)
    await until(lambda: "replicasets" in bad.holding)
    assert knows()
    bad.expire("replicasets")
    await until(lambda: not knows())
    bad.refused.clear()
    await until(knows)


@pytest.mark.parametrize("kind", ["replicasets", "deployments"])
async def test_a_list_that_is_refused_once_as_the_controller_starts_ends_no_rollback(world: World, kind: str) -> None:
    async with operating(world.plane.kubeconfig):
        await world.apply(MODEL_YAML + "---" + AGENT_YAML)
        first = await rolled(world, 1)
        await model(world, "second")
        await rolled(world, 2)
        undone = {"template": first["spec"]["template"]}
        await world.change(kinds.DEPLOYMENT, "helper", lambda obj: obj["spec"].update(undone))
        await world.condition(AGENT, "helper", "RolledBack", "RolloutUndone")
        before = await rolled(world, 3)
    async with between(access.by_kubeconfig(world.plane.kubeconfig)) as (bad, way):
        bad.refused["GET", f"/{kind}"] = iter([403])
        async with operating(way) as operator:
            await operator.acting.wait()
            await idle(operator)
            after = await world.client.get(kinds.DEPLOYMENT, world.namespace, "helper")
            assert after["metadata"]["generation"] == before["metadata"]["generation"]
            assert is_true(await world.client.get(AGENT, world.namespace, "helper"), "RolledBack")
            assert bad.refusals == 1


KEYED = "spec: {provider: openai, model: m, apiKeySecretRef: {name: openai, key: key}}"


async def test_a_secret_that_may_not_be_read_is_left_to_the_pods_and_asked_for_again(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(agents, "REFUSED_SECONDS", 0.1)
    world, bad, _ = scene
    secret = {"metadata": {"name": "openai", "namespace": world.namespace}, "stringData": {"other": "v"}}
    await world.client.create(kinds.SECRET, secret)
    bad.refused["GET", "/secrets/openai"] = 403
    await world.apply(MODEL_YAML.replace("spec: {provider: scripted, model: script}", KEYED) + "---" + AGENT_YAML)
    agent = await world.when(AGENT, "helper", lambda obj: "url" in obj.get("status", {}))
    assert not is_true(agent, "Stalled")
    bad.refused.clear()
    await world.condition(AGENT, "helper", "Stalled", "MissingSecretKey")


async def test_what_a_secret_held_is_not_kept_when_it_has_gone_while_it_was_read(scene: Scene) -> None:
    world, bad, operator = scene
    key = Key(world.namespace, "openai")
    secret = {"metadata": {"name": "openai", "namespace": world.namespace}, "stringData": {"key": "v"}}
    await world.client.create(kinds.SECRET, secret)

    async def delete_it() -> None:
        bad.before_answer.clear()
        await world.client.delete(kinds.SECRET, *key)
        await until(lambda: key not in operator.cluster.secrets.kept)

    bad.before_answer["GET", "/secrets/openai"] = delete_it
    await world.apply(MODEL_YAML.replace("spec: {provider: scripted, model: script}", KEYED) + "---" + AGENT_YAML)
    await world.condition(AGENT, "helper", "Stalled", "MissingSecret")
    assert ("Secret", key) not in operator.cluster._values


async def test_a_standby_queues_nothing_and_acts_on_everything_once_it_leads(world: World) -> None:
    tasks = Tasks("test")
    async with Client(access.by_kubeconfig(world.plane.kubeconfig), MANAGER) as client:
        operator = Operator(client, Settings(image="kadre:test"))
        tasks.spawn("follow", operator.follow())
        await world.apply(MODEL_YAML + "---" + AGENT_YAML)
        await until(
            lambda: any(key_of(world.named("helper")) in each.kept for each in operator.cluster.of_kind("Agent"))
        )
        assert len(operator.controller.queue) == 0
        tasks.spawn("act", operator.act())
        await world.when(kinds.DEPLOYMENT, "helper", lambda _: True)
        await tasks.aclose()


async def test_watches_that_end_at_once_are_begun_again_ever_more_rarely(world: World) -> None:
    clock, tasks = FakeClock(), Tasks("test")
    async with (
        between(access.by_kubeconfig(world.plane.kubeconfig)) as (bad, way),
        Client(way, "tests") as client,
    ):
        bad.brief.add("services")
        informer = Informer(client, kinds.SERVICE, lambda obj, _: key_of(obj), lambda *_: None, clock=clock)
        tasks.spawn("follow", informer.run())
        for begun in range(1, 9):
            await until(lambda: len(clock._sleepers) > 0)  # it waits for the clock, which stands still
            assert len(bad.watches) == begun
            due, _, _ = clock._sleepers[0]
            wait = due - clock.monotonic()
            await clock.advance(wait)
        assert BRIEF < wait <= ABSENT_SECONDS
        await tasks.aclose()


async def until(holds: Callable[[], bool]) -> None:
    """Wait until that holds in this process, which tells nobody."""
    async with asyncio.timeout(SECONDS):
        while not holds():  # noqa: ASYNC110
            await asyncio.sleep(0)
