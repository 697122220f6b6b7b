"""Two processes over one store: one wins, the other is told, and neither spoils what is the other's."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from kadre.base import errors
from kadre.base.clock import FakeClock
from kadre.engine import events as ev
from kadre.engine.memory.postgres_server import connect, place
from kadre.engine.memory.remote_journal import RemoteJournal
from tests.contract.journal.story import AGENT, START, Teller, numbers, said, whole_run
from tests.support.postgres import Cluster
from tests.support.redis import RedisServer
from tests.support.stores import Store

Pair = tuple[RemoteJournal, RemoteJournal]
SELDOM = 120.0
"""A lease of so many seconds: for a third of them nobody looks who has not been told."""
SECONDS = 30


async def test_of_two_processes_that_append_to_a_run_at_once_exactly_one_wins(shared: Pair) -> None:
    await Teller("run-1", "s").create(shared[0])
    for seq in range(2, 42):
        rivals = [Teller("run-1", "s") for _ in shared]
        for rival in rivals:
            rival.seq = seq
        results = await asyncio.gather(
            *(
                rival.append(journal, rival.event(ev.System, reason=f"R{index}", message=""))
                for index, (rival, journal) in enumerate(zip(rivals, shared, strict=True))
            ),
            return_exceptions=True,
        )
        assert sorted(str(type(result)) for result in results) == sorted(map(str, (type(None), errors.Fenced)))
        (kept,) = await shared[0].events("run-1", seq)
        assert isinstance(kept, ev.System)
        assert kept.reason == f"R{results.index(None)}"
    assert numbers(await shared[1].events("run-1")) == list(range(1, 43))


async def test_runs_created_in_one_session_by_two_processes_get_numbers_of_their_own(shared: Pair) -> None:
    made = await asyncio.gather(
        *(Teller(f"run-{index}", "s").create(shared[index % 2], queue_limit=99) for index in range(40))
    )
    assert sorted(created.run.order for created in made) == list(range(1, 41))
    assert sorted(created.position for created in made) == list(range(40))
    for created in made:
        started = (await shared[0].events(created.run.run_id))[0]
        assert isinstance(started, ev.RunStarted)
        assert started.position == created.position == created.run.order - 1


async def test_a_run_id_is_created_once_whoever_asks(shared: Pair) -> None:
    made = await asyncio.gather(*(Teller("run-1", f"s{index}").create(shared[index % 2]) for index in range(10)))
    assert [created.existing for created in made].count(False) == 1
    assert len(await shared[0].runs()) == len(await shared[0].sessions()) == 1


async def test_a_turn_comes_when_a_run_ends_in_another_process(store: Store, space: str) -> None:
    shared = [await store.open(space, lease=SELDOM) for _ in range(2)]
    runs = [Teller(f"run-{index}", "s") for index in range(6)]
    for index, run in enumerate(runs):
        await run.create(shared[index % 2])
    started: list[str] = []

    async def drive(index: int, run: Teller) -> None:
        await shared[index % 2].turn(run.run_id)
        started.append(run.run_id)
        await run.end(shared[index % 2])

    async with asyncio.timeout(SECONDS):
        await asyncio.gather(*(drive(index, run) for index, run in enumerate(runs)))
    assert started == [run.run_id for run in runs]
    for journal in shared:
        await journal.aclose()


SLOW_COMMIT = """
    CREATE FUNCTION slow() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN PERFORM pg_advisory_xact_lock_shared(42); RETURN NULL; END $$;
    CREATE CONSTRAINT TRIGGER slow AFTER UPDATE ON runs DEFERRABLE INITIALLY DEFERRED FOR EACH ROW
        WHEN (new.status = 'completed') EXECUTE FUNCTION slow();
    SELECT pg_advisory_lock(42)"""
WAITING = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'kadre' AND wait_event_type = 'Lock'"


@pytest.mark.stores
@pytest.mark.needs("postgres")
async def test_a_run_that_is_added_while_the_one_before_it_ends_gets_its_turn(
    cluster: Cluster, stores: Callable[[str], Store], space: str
) -> None:
    shared = [await stores("postgres").open(space, lease=SELDOM) for _ in range(2)]
    before, after = Teller("run-1", "s"), Teller("run-2", "s")
    await before.create(shared[0])
    db = await connect(place(cluster.dsn(), space))
    await db.execute(SLOW_COMMIT)
    async with asyncio.timeout(SECONDS):
        ending = asyncio.create_task(before.end(shared[0]))
        while not await db.fetchval(WAITING):  # all of it is done but the commit
            pass
        added = asyncio.create_task(_added(after, shared[1]))
        while await db.fetchval(WAITING) < 2 and not shared[1]._turns._waiting:
            pass
        for _ in range(50):  # it has looked, if it does not wait with being added
            await db.fetchval(WAITING)
        await db.close()  # and the commit goes on
        await asyncio.gather(ending, added)
    for journal in shared:
        await journal.aclose()


async def _added(run: Teller, journal: RemoteJournal) -> None:
    await run.create(journal)
    await journal.turn(run.run_id)


async def test_an_approval_decided_in_another_process_moves_the_run_on(shared: Pair) -> None:
    run = Teller("run-1", "s")
    await run.create(shared[0])
    await run.append(shared[0], run.asks("a", "b"))
    with pytest.raises(errors.Conflict) as refused:
        await Teller("run-2", "s").create(shared[1])
    assert [approval["id"] for approval in refused.value.details["approvals"]] == ["a", "b"]
    for key, status in (("a", "waiting"), ("b", "running")):
        await run.append(shared[1], run.event(ev.ApprovalDecided, approval_id=key, decision="allow", by="ann"))
        info = await shared[0].run("run-1")
        assert info is not None
        assert info.status == status


async def test_a_session_that_is_used_again_as_it_is_to_be_forgotten_is_whole_or_new(shared: Pair) -> None:
    for index in range(20):
        await whole_run(shared[0], f"old-{index}", "s")
        created, _ = await asyncio.gather(
            Teller(f"run-{index}", "s", minute=9).create(shared[1]),
            shared[0].delete_sessions_before(AGENT, START.replace(hour=13)),
        )
        history = said(await shared[0].history(AGENT, "s", created.run.order, 9))
        assert len(history) == 2 * (created.run.order - 1)
        run = Teller(f"run-{index}", "s")
        run.seq = 2
        await run.end(shared[1])
        assert await shared[0].delete_sessions_before(AGENT, START.replace(hour=13)) == 1


async def test_processes_that_open_a_new_store_at_once_make_one_of_it(store: Store, space: str) -> None:
    opened = await asyncio.gather(*(store.open(space, clock=FakeClock()) for _ in range(6)))
    assert len({journal._watch.owner for journal in opened}) == 6
    await asyncio.gather(*(whole_run(journal, f"run-{index}", "s") for index, journal in enumerate(opened)))
    assert sorted(info.order for info in await opened[0].runs(session_id="s")) == [1, 2, 3, 4, 5, 6]
    for journal in opened:
        await journal.aclose()


async def test_a_store_of_a_newer_version_is_left_alone(store: Store, space: str) -> None:
    await (await store.open(space)).aclose()
    if isinstance(store.server, RedisServer):
        await store.server.asked("SET", f"{space}:version", "99")
    else:
        db = await connect(place(store.url(), space))
        await db.execute("UPDATE version SET number = 99")
        await db.close()
    with pytest.raises(errors.ProblemError) as refused:
        await store.open(space)
    assert [problem.reason for problem in refused.value.problems] == ["JournalTooNew"]
