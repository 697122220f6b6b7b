"""A host over a server: a turn outlives the server, a question the process, two hosts share a session."""

from __future__ import annotations

import asyncio
from pathlib import Path

from kadre.base.clock import SystemClock
from kadre.local.hosting import Journals
from kadre.plan.types import MemoryPlan, PostgresPlan, RedisPlan, SecretRef
from tests.support.scene import Asking, Scene
from tests.support.stores import Store, new_space


async def test_a_turn_under_way_goes_on_when_the_server_was_killed_and_started(store: Store) -> None:
    scene = Scene(await store.open(new_space()))
    go = asyncio.Event()
    model = await scene.says(go, "done")
    live = await scene.start("hello", session_id="s")
    await model.called.wait()
    await asyncio.to_thread(store.server.kill)
    restarting = asyncio.create_task(asyncio.to_thread(store.server.start))
    go.set()
    await asyncio.wait_for(live.wait(), 20)
    await restarting
    info = await scene.journal.run(live.info.run_id)
    assert info is not None
    assert (info.status, info.last_seq) == ("completed", live.events[-1].seq)
    await scene.host.aclose()


async def test_a_run_that_waits_for_a_person_is_taken_up_by_the_next_process(store: Store) -> None:
    space = new_space()
    written: list[str] = []

    def write(text: str) -> str:
        """Write it."""
        written.append(text)
        return "written"

    first = Scene(await store.open(space))
    await first.says([("write", {"text": "x"})], tools=[Asking(write)])
    live = await first.start()
    approval = await first.approval(live)
    await first.host.aclose()
    second = Scene(await store.open(space))
    await second.says("it is written", tools=[Asking(write)])
    assert await second.host.recover() == []
    await second.host.approve(live.info.run_id, approval.id, "allow", "ann")
    again = await second.host.open(live.info.run_id)
    await asyncio.wait_for(again.wait(), 30)
    assert (again.finished is not None and again.finished.status, written) == ("completed", ["x"])
    await second.host.aclose()


async def test_two_hosts_take_turns_in_a_conversation(store: Store) -> None:
    space = new_space()
    here, there = [Scene(await store.open(space, lease=120)) for _ in range(2)]
    go = asyncio.Event()
    await here.says(go, "answered here")
    model = await there.says("answered there")
    first = await here.start("asked here", session_id="s")
    second = await there.start("asked there", session_id="s")
    assert second.info.order == 2
    go.set()
    await asyncio.wait_for(asyncio.gather(first.wait(), second.wait()), 30)  # sooner than anybody looks unasked
    heard = [message.content for message in model.requests[0].messages if message.role != "system"]
    assert heard == ["asked here", "answered here", "asked there"]
    for scene in (here, there):
        await scene.host.aclose()


def memory(kind: str, url: SecretRef) -> MemoryPlan:
    if kind == "redis":
        return MemoryPlan(type="redis", redis=RedisPlan(url=url))
    return MemoryPlan(type="postgres", postgres=PostgresPlan(url=url))


class OneAddress:
    """A SecretReader whose every Secret leads to the same server."""

    def __init__(self, dsn: str) -> None:
        self.dsn = dsn

    def read(self, ref: SecretRef) -> str | None:
        """See SecretReader."""
        return self.dsn


async def test_two_secrets_that_lead_to_one_database_are_one_journal(store: Store, tmp_path: Path) -> None:
    journals = Journals(tmp_path, OneAddress(store.url()), SystemClock())
    refs = [SecretRef(namespace="team", name=name, key="url") for name in ("one", "other")]
    one, other = [await journals.of(memory(store.type, ref)) for ref in refs]
    assert one is other
    await one.aclose()
