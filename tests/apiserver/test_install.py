"""The definitions of our kinds go into a cluster, unless they would take somebody else's place."""

from __future__ import annotations

import asyncio
from itertools import repeat

import pytest

from kadre.api.crd import crds
from kadre.base.clock import FakeClock
from kadre.base.errors import KadreError
from kadre.base.tasks import Tasks
from kadre.kube import access, kinds
from kadre.kube.client import Client
from kadre.kube.kinds import Key, Kind, Object
from kadre.kube.leader import ConfigMapLock, Leader, LeaseLock
from kadre.operator import install
from kadre.operator.main import LOCK
from tests.apiserver.conftest import World
from tests.apiserver.test_late import until
from tests.support.between import between

SOME = [made for made in crds() if made["metadata"]["name"].endswith(".kaos.tools")]


async def _definition(world: World, name: str) -> Object:
    return await world.client.get(kinds.CRD, "", name)


@pytest.mark.requirement("one-controller")
async def test_somebody_elses_definition_is_named_with_the_way_out_and_nothing_is_changed(world: World) -> None:
    name = SOME[0]["metadata"]["name"]
    ours = await _definition(world, name)
    foreign = ours | {"metadata": ours["metadata"] | {"labels": {"app": "others"}}}
    foreign["metadata"].pop("managedFields")
    await world.client.replace(kinds.CRD, foreign)
    before = [(await _definition(world, each["metadata"]["name"]))["metadata"]["resourceVersion"] for each in SOME]
    found = access.by_kubeconfig(world.plane.kubeconfig)
    with pytest.raises(KadreError, match="somebody else's definitions") as refused:
        await install.apply_crds(SOME, found)
    command = str(refused.value).partition("kubectl ")[2]
    assert command.startswith(f"label crd {name} ")
    assert command.endswith(" --overwrite")
    after = [(await _definition(world, each["metadata"]["name"]))["metadata"]["resourceVersion"] for each in SOME]
    assert after == before
    # What the message says to do.
    key, _, value = command.split()[3].partition("=")
    labelled = await _definition(world, name)
    labelled["metadata"]["labels"][key] = value
    labelled["metadata"].pop("managedFields")
    await world.client.replace(kinds.CRD, labelled)
    assert await install.apply_crds(SOME, found) == [each["metadata"]["name"] for each in SOME]


@pytest.mark.requirement("one-controller")
@pytest.mark.parametrize(("kept", "kind"), [(LeaseLock, kinds.LEASE), (ConfigMapLock, kinds.CONFIG_MAP)])
async def test_a_controller_at_work_in_another_namespace_stops_the_second_and_one_that_ended_does_not(
    world: World, kept: type[LeaseLock | ConfigMapLock], kind: Kind
) -> None:
    async def at_work() -> None:
        await asyncio.Event().wait()

    tasks, found = Tasks("test"), access.by_kubeconfig(world.plane.kubeconfig)
    lock = kept(world.client, Key(world.namespace, LOCK))
    tasks.spawn("lead", Leader(lock, "first").lead(at_work))
    await world.when(kind, LOCK, lambda _: True)
    with pytest.raises(KadreError, match=f"at work in namespace {world.namespace}"):
        await install.apply_crds(SOME, found, sole="elsewhere")
    # An upgrade of that very one, and a person at a terminal.
    await install.apply_crds(SOME, found, sole=world.namespace)
    await install.apply_crds(SOME, found)
    await tasks.aclose()  # which gives the lead back
    await install.apply_crds(SOME, found, sole="elsewhere")


async def test_a_lead_that_was_never_given_back_is_nobodys(world: World) -> None:
    lease = {"metadata": {"name": LOCK, "namespace": world.namespace}, "spec": {"holderIdentity": "killed"}}
    await world.client.create(kinds.LEASE, lease)
    assert await install.another_controller(world.client, "elsewhere", 0.2) == ""


async def test_a_controller_at_work_is_seen_though_watches_end_early(world: World) -> None:
    lease = {"metadata": {"name": LOCK, "namespace": world.namespace}, "spec": {"holderIdentity": "first"}}
    await world.client.create(kinds.LEASE, lease)
    async with between(access.by_kubeconfig(world.plane.kubeconfig)) as (bad, way), Client(way, "tests") as client:
        bad.brief.add("leases")
        looking = asyncio.create_task(install.another_controller(client, "elsewhere"))
        await until(lambda: len(bad.watches) > 1)
        bad.brief.clear()
        await world.change(kinds.LEASE, LOCK, lambda obj: obj["spec"].update(leaseTransitions=1))
        assert await looking == world.namespace


PASSING = {
    "an API server that starts": ([403, 401, 403], ""),
    "one that is busy for long": ([429] * 10, "1"),
    "one that asks for longer than we wait": ([503] * 2, "30"),
}


@pytest.mark.requirement("crds-updated")
@pytest.mark.parametrize(("answers", "wait"), PASSING.values(), ids=PASSING)
async def test_what_an_api_server_says_for_a_moment_is_not_believed(
    world: World, answers: list[int], wait: str
) -> None:
    async with between(access.by_kubeconfig(world.plane.kubeconfig)) as (bad, way):
        bad.refused["GET", "/customresourcedefinitions"], bad.wait = iter(answers), wait
        clock = FakeClock()
        applying = asyncio.create_task(install.apply_crds(SOME, way, clock=clock))
        await passed(applying, clock)
        assert await applying == [each["metadata"]["name"] for each in SOME]
        assert bad.refusals == len(answers)


@pytest.mark.requirement("crds-updated")
@pytest.mark.parametrize(("answer", "seconds"), [(403, install.DOUBT), (503, install.PATIENCE)])
async def test_what_an_api_server_goes_on_saying_ends_the_installation(
    world: World, answer: int, seconds: float
) -> None:
    async with between(access.by_kubeconfig(world.plane.kubeconfig)) as (bad, way):
        bad.refused["GET", "/customresourcedefinitions"] = repeat(answer)
        clock = FakeClock()
        began = clock.monotonic()
        applying = asyncio.create_task(install.apply_crds(SOME, way, clock=clock))
        await passed(applying, clock)
        with pytest.raises(KadreError, match="could not be applied"):
            await applying
        assert seconds <= clock.monotonic() - began <= seconds + install.AGAIN.limit


async def passed(work: asyncio.Task[list[str]], clock: FakeClock) -> None:
    """Let the time pass that it waits for, until it has ended."""
    while not work.done():
        if clock._sleepers:
            await clock.advance(max(0.0, clock._sleepers[0][0] - clock.monotonic()))
        await asyncio.sleep(0)


@pytest.mark.requirement("crds-updated")
async def test_the_definitions_are_applied_though_the_api_server_is_just_starting(world: World) -> None:
    world.plane.api.kill()
    applying = asyncio.create_task(install.apply_crds(SOME, access.by_kubeconfig(world.plane.kubeconfig)))
    try:
        done, _ = await asyncio.wait({applying}, timeout=0.5)
        assert not done
    finally:
        world.plane.api.start()
        await asyncio.to_thread(world.plane.api.until, world.plane.serves)
    assert await asyncio.wait_for(applying, 60) == [each["metadata"]["name"] for each in SOME]
