"""Whose turn it is when an upgraded controller makes other pods of everybody."""

from __future__ import annotations

import msgspec

from kadre.base.clock import FakeClock
from kadre.kube import kinds
from kadre.kube.access import Access
from kadre.kube.apply import Seen
from kadre.kube.client import ALL, Client
from kadre.kube.kinds import Key
from kadre.operator.cluster import Declared, Ref
from kadre.operator.owned import Owned
from kadre.operator.rights import Rights
from kadre.operator.rollouts import Rollouts
from kadre.operator.status import Rollout
from kadre.operator.upgrades import MOST, SECONDS, Upgrades

SETTLED = Rollout(generation=1, observed=1, wanted=1, replicas=1, updated=1, available=1, template="old")
ROLLING = Rollout(generation=2, observed=2, wanted=1, replicas=2, updated=1, available=1, template="new")


def agent(generation: int = 1) -> Declared:
    reported = msgspec.json.encode({"observedGeneration": generation})
    return Declared(b"{}", "uid", 1, deleting=False, reported=reported)


def ref(number: int) -> Ref:
    return Ref("kagent.dev", "Agent", "team", f"agent-{number}")


class World:
    """Deployments as the controller sees them, which nobody changes but the test."""

    def __init__(self, agents: int) -> None:
        self.clock = FakeClock()
        self.woken: list[Ref] = []
        client = Client(Access("http://nowhere", None), "test")
        rights = Rights(client, lambda: None, ALL, self.clock)
        self.owned = Owned(client, self.clock, rights, lambda _: None, lambda *_: None, lambda _: None)
        (informer,) = [each for each in self.owned.informers() if each.kind is kinds.DEPLOYMENT]
        self.deployments = informer.kept
        self.upgrades = Upgrades(self.owned, Rollouts(self.owned), self.clock, self.woken.append)
        for number in range(agents):
            self.becomes(number, SETTLED)

    def becomes(self, number: int, rollout: Rollout) -> None:
        self.deployments[Key("team", f"agent-{number}")] = Seen("uid", "owner", b"", rollout)

    def waits(self, number: int, wanted: str = "new", generation: int = 1) -> bool:
        waits = self.upgrades.waits(ref(number), agent(generation), wanted)
        if not waits:
            self.upgrades.made(Key("team", f"agent-{number}"))
            self.becomes(number, ROLLING)
        return waits


def test_ten_go_first_and_one_that_settles_makes_room() -> None:
    world = World(13)
    assert [world.waits(number) for number in range(13)] == [False] * MOST + [True] * 3
    world.upgrades.look(Key("team", "agent-4"))
    assert world.woken == []
    world.becomes(4, SETTLED)
    world.upgrades.look(Key("team", "agent-4"))
    assert world.woken == [ref(10)]
    assert [world.waits(number) for number in (10, 11)] == [False, True]


async def test_one_that_is_stuck_makes_room_after_its_deadline() -> None:
    world = World(13)
    assert sum(world.waits(number) for number in range(13)) == 3
    await world.clock.advance(SECONDS + 1)
    assert not world.waits(11)


async def test_those_that_could_not_be_changed_keep_their_place_for_as_long_as_others() -> None:
    world = World(23)
    refused = [not world.upgrades.waits(ref(number), agent(), "new") for number in range(23)]
    assert sum(refused) == MOST
    for number in range(MOST):
        world.upgrades.look(Key("team", f"agent-{number}"))
    assert world.woken == []
    await world.clock.advance(SECONDS + 1)
    assert [world.waits(number) for number in range(MOST, 23)] == [False] * MOST + [True] * 3
    assert [world.waits(number) for number in range(MOST)] == [True] * MOST


def test_one_that_is_deleted_makes_room() -> None:
    world = World(12)
    assert sum(world.waits(number) for number in range(12)) == 2
    world.upgrades.forget(ref(0))
    assert world.woken == [ref(10)]


def test_what_its_author_changes_and_what_this_controller_knows_waits_for_nobody() -> None:
    world = World(13)
    assert not world.upgrades.waits(ref(12), agent(), "old")  # as it is already
    assert [world.waits(number) for number in range(12)] == [False] * MOST + [True] * 2
    assert not world.waits(12, wanted="another model")
    assert not world.waits(11, generation=0)  # the agent is of a later generation than was acted on


def test_what_another_controller_left_rolling_counts() -> None:
    world = World(12)
    for number in range(4):
        world.becomes(number, ROLLING)
    assert sum(world.waits(number) for number in range(4, 12)) == 2


async def test_those_that_are_refused_again_and_again_leave_room_to_those_that_wait() -> None:
    world = World(MOST + 3)
    refused, waiting = range(MOST), range(MOST, MOST + 3)
    for _ in range(2):
        for number in refused:  # asks, has its turn, and cannot be changed: `made` is never told
            assert not world.upgrades.waits(ref(number), agent(), "new")
        assert [world.upgrades.waits(ref(number), agent(), "new") for number in waiting] == [True] * 3
        await world.clock.advance(60)
    await world.clock.advance(SECONDS)
    for number in refused:
        world.upgrades.waits(ref(number), agent(), "new")
    assert not any(world.waits(number) for number in waiting)
    assert any(not world.upgrades.waits(ref(number), agent(), "new") for number in refused)
