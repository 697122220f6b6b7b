"""Which agent of a cluster a name means, and which agents a pod may speak for, as the gateway knows them."""

from __future__ import annotations

from typing import Any

import pytest

from kadre.base.clock import FakeClock
from kadre.kube.kinds import Key
from kadre.operator.gateway.fleet import LEFT_SECONDS, ClusterFleet, Slice, Told
from kadre.plan.types import KAOS_GROUP, AgentKey

TAKEN, READY = "NameTaken", "Ready"
HERE, THERE, OF_KAOS = AgentKey("a", "foo"), AgentKey("b", "foo"), AgentKey("a", "foo", KAOS_GROUP)


class Fleet(ClusterFleet):
    """A fleet that is told of agents and pods by the test."""

    def __init__(self) -> None:
        self.clock = FakeClock()
        client: Any = None  # nothing is followed
        super().__init__(client, clock=self.clock)

    def agent(self, key: AgentKey, status: str = READY, pool: str = "") -> None:
        """The agent is as that from now on."""
        kept, at = self._agents[key.group].kept, Key(key.namespace, key.name)
        before, after = kept.get(at), Told("", "", "", status, pool=pool)
        kept[at] = after  # as its informer does
        self._agent_changed(key.group, at, before, after)

    def pod(self, service: AgentKey, name: str) -> None:
        """A pod is behind the Service of that name."""
        self._slice_changed(Key(service.namespace, name), None, Slice(service, (f"{name}:80",), frozenset({name})))


@pytest.fixture
def fleet() -> Fleet:
    return Fleet()


def test_of_each_group_in_a_namespace_the_one_whose_name_is_taken_gives_way(fleet: Fleet) -> None:
    fleet.agent(HERE, TAKEN)
    fleet.agent(OF_KAOS)
    fleet.agent(THERE)
    assert set(fleet.named("foo")) == {OF_KAOS, THERE}
    # Where it answers it keeps its name, whatever else of its is somebody's.
    fleet.pod(HERE, "foo-1")
    assert set(fleet.named("foo")) == {HERE, OF_KAOS, THERE}


def test_a_name_is_not_lost_to_one_of_another_namespace(fleet: Fleet) -> None:
    fleet.agent(HERE)
    fleet.agent(THERE, TAKEN)
    assert set(fleet.named("foo")) == {HERE, THERE}


def test_a_pod_speaks_for_its_agent_or_its_pools_and_for_no_other(fleet: Fleet) -> None:
    fleet.agent(HERE, TAKEN)
    fleet.agent(THERE, pool="p")
    fleet.agent(AgentKey("b", "bar"))
    fleet.pod(HERE, "foo-1")
    fleet.pod(AgentKey("b", "kadre-pool-p"), "p-1")
    assert fleet.agent_of("a", "foo-1") == fleet.agent_of("a", "foo-1", "a/foo") == HERE
    assert fleet.agent_of("b", "p-1", "b/foo") == fleet.agent_of("b", "p-1", "b/foo.kagent.dev") == THERE
    for said in ("", "b/bar", "a/foo", "b/foo.kaos.tools", "b/none", "foo", "/"):
        assert fleet.agent_of("b", "p-1", said) is None, said


@pytest.mark.parametrize(("before", "after"), [("", "p"), ("p", ""), ("p", "q")])
async def test_where_an_agent_was_asks_as_it_until_its_runs_there_have_ended(
    fleet: Fleet, before: str, after: str
) -> None:
    service = AgentKey("b", "kadre-pool-p") if before else THERE
    fleet.agent(THERE, pool=before)
    fleet.pod(service, "was")
    assert fleet.agent_of("b", "was", "b/foo") == THERE
    fleet.agent(THERE, pool=after)
    if not before:  # its own Service goes with its own pods
        fleet._slice_changed(Key("b", "was"), Slice(service, (), frozenset({"was"})), None)
    assert fleet.agent_of("b", "was", "b/foo") == THERE
    assert fleet.agent_of("b", "never", "b/foo") is None
    await fleet.clock.advance(LEFT_SECONDS)
    assert fleet.agent_of("b", "was", "b/foo") is None
