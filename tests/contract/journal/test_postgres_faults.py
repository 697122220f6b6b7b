"""PostgreSQL when things go wrong: the server killed or stopped, the way to it cut, a password wrong."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from datetime import timedelta

import msgspec
import pytest

from kadre.base import errors
from kadre.base.clock import FakeClock
from kadre.engine import events as ev
from kadre.engine.memory.postgres import PostgresJournal
from kadre.engine.memory.postgres_server import Address, connect, place
from tests.contract.journal.story import AGENT, START, Teller, numbers, said, whole_run
from tests.support.postgres import Cluster, new_schema
from tests.support.postgres_cut import Cut

pytestmark = [pytest.mark.stores, pytest.mark.needs("postgres")]
SECRET = "hush-9f2"


async def _talk(journal: PostgresJournal, session: int, acknowledged: dict[str, int], enough: asyncio.Event) -> None:
    """One run after another, until there is enough; notes what was acknowledged. Gives a run up that fails."""
    turn = 0
    while not enough.is_set():
        run = Teller(f"run-{session}-{turn:06}", f"s{session}-{turn // 5}")
        turn += 1
        try:
            await run.create(journal, run.run_id)
            acknowledged[run.run_id] = run.seq
            await run.append(journal, run.event(ev.System, reason="Note", message="note"))
            acknowledged[run.run_id] = run.seq
            await run.end(journal)
            acknowledged[run.run_id] = run.seq
        except errors.Unavailable:
            turn += 5 - turn % 5  # what is left open holds its session


async def _until(acknowledged: dict[str, int], count: int) -> None:
    while len(acknowledged) < count:  # noqa: ASYNC110 - it counts what others note down
        await asyncio.sleep(0)


async def test_a_server_that_is_killed_amid_appends_loses_nothing_and_is_found_again(cluster: Cluster) -> None:
    journal = await PostgresJournal.open(cluster.dsn(), schema=new_schema())
    acknowledged: dict[str, int] = {}
    enough = asyncio.Event()
    async with asyncio.timeout(50):
        talking = [asyncio.create_task(_talk(journal, session, acknowledged, enough)) for session in range(8)]
        for kill in range(3):
            await _until(acknowledged, 100 * (kill + 1))
            await asyncio.to_thread(cluster.kill)
            await asyncio.to_thread(cluster.start)
        await _until(acknowledged, len(acknowledged) + 100)
        enough.set()
        await asyncio.gather(*talking)
    for run_id, seq in acknowledged.items():
        kept = numbers(await journal.events(run_id))
        assert kept == list(range(1, len(kept) + 1))
        assert len(kept) >= seq
    sessions = await journal.sessions(limit=10_000)
    for session in sessions:
        orders = sorted(info.order for info in await journal.runs(session_id=session.session_id))
        assert orders == list(range(1, session.runs + 1))
    await journal.aclose()


async def test_a_server_that_is_killed_while_runs_wait_for_their_turn_lets_them_go_on(cluster: Cluster) -> None:
    journal = await PostgresJournal.open(cluster.dsn(), schema=new_schema())
    other = await PostgresJournal.open(cluster.dsn(), schema=journal._server.where.schema)
    first, second = Teller("run-1", "s"), Teller("run-2", "s")
    await first.create(journal)
    await second.create(journal)
    turn = asyncio.create_task(journal.turn("run-2"))
    await asyncio.to_thread(cluster.kill)
    await asyncio.to_thread(cluster.start)
    async with asyncio.timeout(20):
        await first.end(other)
        await turn
        await second.end(journal)
        assert await other.held() == await journal.held() == []
    await journal.aclose()
    await other.aclose()


async def test_a_server_that_is_stopped_is_an_error_that_heals(cluster: Cluster) -> None:
    journal = await PostgresJournal.open(cluster.dsn("postgres", SECRET), schema=new_schema())
    await whole_run(journal, "run-1", "s")
    cluster.stop()
    try:
        calls = (journal.run("run-1"), Teller("run-2", "s").create(journal), journal.put_blob(b"x"))
        for refused in await asyncio.gather(*calls, return_exceptions=True):
            assert isinstance(refused, errors.Unavailable)
            assert (refused.reason, bool(refused.retry_after)) == ("JournalUnavailable", True)
            assert "the server cannot be reached; check that it runs" in str(refused)
            assert SECRET not in str(refused)
        with pytest.raises(errors.Unavailable, match="cannot be reached"):
            await PostgresJournal.open(cluster.dsn(), schema=new_schema())
    finally:
        cluster.start()
    await whole_run(journal, "run-2", "s")
    assert [info.run_id for info in await journal.runs()] == ["run-2", "run-1"]
    await journal.aclose()


@pytest.mark.parametrize("busy", [False, True])
async def test_a_run_whose_creation_was_committed_unheard_is_created_once(cluster: Cluster, busy: bool) -> None:
    async with Cut(str(cluster.folder)) as cut:
        journal = await PostgresJournal.open(cut.dsn, schema=new_schema())
        if busy:
            await Teller("run-0", "s").create(journal)
        cut.next_answer_to(b"run-to-be-cut")
        created = await Teller("run-to-be-cut", "s").create(journal)
        assert (cut.cuts, created.existing, created.run.order, created.position) == (1, False, 1 + busy, busy)
        assert (await Teller("run-to-be-cut", "s").create(journal)).existing
        assert len(await journal.events("run-to-be-cut")) == 2
        await journal.aclose()


async def test_a_commit_of_a_creation_that_is_not_heard_of_is_found_out(cluster: Cluster) -> None:
    async with Cut(str(cluster.folder)) as cut:
        journal = await PostgresJournal.open(cut.dsn, schema=new_schema(), connections=1)
        await Teller("run-0", "s").create(journal)
        cut.next_answer_to(b"COMMIT;")
        created = await Teller("run-1", "s").create(journal)
        assert (cut.cuts, created.existing, created.run.order, created.position) == (1, False, 2, 1)
        await journal.aclose()


async def test_an_append_that_was_committed_unheard_is_appended_once(cluster: Cluster) -> None:
    async with Cut(str(cluster.folder)) as cut:
        journal = await PostgresJournal.open(cut.dsn, schema=new_schema())
        run, behind = Teller("run-1", "s"), Teller("run-2", "s")
        await run.create(journal)
        await behind.create(journal)
        await run.append(journal, run.asks("a"))
        cut.next_answer_to(b"approval_decided")
        await run.append(journal, run.event(ev.ApprovalDecided, approval_id="a", decision="allow", by="ann"))
        cut.next_answer_to(b"run_finished")
        await run.end(journal)
        assert cut.cuts == 2
        assert numbers(await journal.events("run-1")) == list(range(1, 8))
        info = await journal.run("run-1")
        assert info is not None
        assert (info.status, info.last_seq, info.usage.total_tokens) == ("completed", 7, 5)
        await journal.turn("run-2")
        await journal.aclose()


async def test_a_writer_that_was_fenced_is_told_so_though_its_connection_broke(cluster: Cluster) -> None:
    async with Cut(str(cluster.folder)) as cut:
        journal = await PostgresJournal.open(cut.dsn, schema=new_schema())
        run = Teller("run-1", "s")
        await run.create(journal)
        await journal.claim("run-1")
        cut.next_answer_to(b"run_finished")
        with pytest.raises(errors.Fenced):
            await run.end(journal)
        assert (cut.cuts, len(await journal.events("run-1"))) == (1, 2)
        await journal.aclose()


async def test_a_creation_that_is_cancelled_is_settled_when_its_caller_goes_on(cluster: Cluster) -> None:
    journal = await PostgresJournal.open(cluster.dsn(), schema=new_schema())
    for index in range(30):
        creating = asyncio.create_task(Teller(f"run-{index}", f"s{index}").create(journal))
        for _ in range(index):
            await asyncio.sleep(0)
        creating.cancel()
        await asyncio.gather(creating, return_exceptions=True)
        info = await journal.run(f"run-{index}")
        assert await journal.run(f"run-{index}") == info
        assert len(await journal.events(f"run-{index}")) == (2 if info else 0)
    await journal.aclose()


async def test_connections_stay_bounded(cluster: Cluster) -> None:
    schema = new_schema()
    journal = await PostgresJournal.open(cluster.dsn(), schema=schema, connections=3)
    await asyncio.gather(*(whole_run(journal, f"run-{index}", f"s{index}") for index in range(200)))
    db = await connect(place(cluster.dsn(), schema))
    count = await db.fetchval("SELECT count(*) FROM pg_stat_activity WHERE application_name = 'kadre'")
    assert count <= 3 + 1 + 1  # one listens, one asks
    await db.close()
    await journal.aclose()


async def test_closing_finishes_what_waits_and_takes_no_more(cluster: Cluster) -> None:
    schema = new_schema()
    journal = await PostgresJournal.open(cluster.dsn(), schema=schema)
    creating = [asyncio.create_task(Teller(f"run-{index}", "s").create(journal, queue_limit=99)) for index in range(50)]
    await asyncio.sleep(0)
    await journal.aclose()
    await asyncio.gather(*creating)
    for call in (Teller("run-x", "s").create(journal), journal.run("run-1"), journal.put_blob(b"x")):
        with pytest.raises(errors.Unavailable, match="the journal is closed"):
            await call
    journal = await PostgresJournal.open(cluster.dsn(), schema=schema)
    assert len(await journal.abandoned({AGENT})) == 50
    await journal.aclose()


async def test_a_value_that_postgresql_cannot_hold_is_refused_as_the_callers(cluster: Cluster) -> None:
    journal = await PostgresJournal.open(cluster.dsn(), schema=new_schema())
    with pytest.raises(errors.BadRequest):
        await Teller("run-1", "s", caller="a\0b").create(journal)
    with pytest.raises(errors.BadRequest):
        await journal.runs(session_id="\0")
    with pytest.raises(errors.BadRequest):
        await journal.run("\ud800")
    await whole_run(journal, "run-1", "s")
    await journal.aclose()


async def test_blobs_go_when_nothing_names_them_and_they_are_old(cluster: Cluster) -> None:
    clock = FakeClock(START)
    journal = await PostgresJournal.open(cluster.dsn(), schema=new_schema(), clock=clock)
    digest = await journal.put_blob(b"large")
    stray = await journal.put_blob(b"its event never came")
    for minute in (1, 2, 3):
        run = Teller(f"run-{minute}", f"s{minute}", minute=minute)
        await run.create(journal)
        named = run.event(ev.System, reason="R", message="m")
        await run.append(journal, msgspec.structs.replace(named, blobs={"message": digest}), *run.last())
    assert await journal.delete_sessions_before(AGENT, START + timedelta(minutes=2)) == 1
    assert await journal.get_blob(stray) == b"its event never came"
    await clock.advance(7200)
    assert await journal.delete_sessions_before(AGENT, START + timedelta(minutes=3)) == 1
    assert await journal.get_blob(digest) == b"large"
    with pytest.raises(errors.NotFound):
        await journal.get_blob(stray)
    assert await journal.delete_sessions_before(AGENT, START + timedelta(minutes=9)) == 1
    with pytest.raises(errors.NotFound):
        await journal.get_blob(digest)
    await journal.aclose()


async def test_a_wrong_password_is_a_problem_that_does_not_show_it(cluster: Cluster) -> None:
    db = await connect(place(cluster.dsn(), "public"))
    await db.execute("DO $$ BEGIN CREATE ROLE locked LOGIN PASSWORD 'another'; EXCEPTION WHEN OTHERS THEN END $$")
    await db.close()
    for secret in (SECRET, ""):
        with pytest.raises(errors.ProblemError) as refused:
            await PostgresJournal.open(cluster.dsn("locked", secret), schema=new_schema())
        assert [problem.reason for problem in refused.value.problems] == ["JournalUnusable"]
        assert "refuses this user or its password" in str(refused.value)
        assert SECRET not in str(refused.value)


async def test_passwords_meant_for_other_programs_are_not_sent(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    db = await connect(place(cluster.dsn(), "public"))
    await db.execute("DO $$ BEGIN CREATE ROLE locked LOGIN PASSWORD 'another'; EXCEPTION WHEN OTHERS THEN END $$")
    await db.close()
    monkeypatch.setenv("PGPASSWORD", "another")
    with pytest.raises(errors.ProblemError, match="refuses this user or its password"):
        await PostgresJournal.open(cluster.dsn("locked"), schema=new_schema())


@pytest.mark.parametrize(
    "dsn",
    [
        f"postgresql://ann:{SECRET}@127.0.0.1:1/db",
        f"postgresql://ann:{SECRET}/x@127.0.0.1:1/db",
        f"postgresql://ann:1/{SECRET}@127.0.0.1:1/db",
        f"postgresql://ann:1?{SECRET}@127.0.0.1:1/db",
        f"postgresql://ann:1#{SECRET}@127.0.0.1:1/db",
        f"postgresql://ann:[{SECRET}@127.0.0.1:1/db",
        f"postgresql://127.0.0.1:1/db?user=ann&password={SECRET}",
        f"postgresql://127.0.0.1:1/db?sslmode={SECRET}",
        f"mysql://ann:{SECRET}@127.0.0.1:1/db",
        f"{SECRET}",
        "postgresql:///db",
    ],
)
async def test_no_address_leads_to_an_error_with_its_password(dsn: str) -> None:
    with pytest.raises((errors.ProblemError, errors.Unavailable)) as refused:
        await PostgresJournal.open(dsn)
    assert SECRET not in str(refused.value)
    assert SECRET not in repr(refused.value)


def test_without_the_library_it_is_said_what_to_install() -> None:
    script = "import sys; sys.modules['asyncpg'] = None; import kadre.engine.memory.postgres"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert "pip install 'kadre[postgres]'" in done.stderr


async def test_a_conversation_goes_on_over_a_restart_of_the_server_and_of_the_process(cluster: Cluster) -> None:
    schema = new_schema()
    journal = await PostgresJournal.open(cluster.dsn(), schema=schema)
    await whole_run(journal, "run-1", "s")
    await journal.aclose()
    cluster.stop()
    cluster.start()
    journal = await PostgresJournal.open(cluster.dsn(), schema=schema)
    assert said(await journal.history(AGENT, "s", 2, 9)) == ["message of run-1", "answer of run-1"]
    assert (await Teller("run-2", "s").create(journal)).run.order == 2
    await journal.aclose()


async def test_a_password_that_is_changed_is_used_for_the_next_connection(cluster: Cluster) -> None:
    """The Secret holds the new one, the server takes no other, and every connection there was is cut."""
    db = await connect(place(cluster.dsn(), "public"))
    await db.execute("CREATE ROLE rotated LOGIN PASSWORD 'old' IN ROLE pg_write_all_data, pg_read_all_data")
    await db.execute("GRANT CREATE ON DATABASE postgres TO rotated")
    secrets = {"password": "old"}

    def address() -> Address:
        return Address(cluster.dsn("rotated", secrets["password"]))

    journal = await PostgresJournal.open(address, schema=new_schema())
    run = Teller("run-1", "s")
    await run.create(journal)
    await db.execute("ALTER ROLE rotated PASSWORD 'new'")
    secrets["password"] = "new"
    await db.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'rotated'")
    await run.end(journal)
    assert (await journal.events("run-1"))[-1].seq == run.seq
    await journal.aclose()
    await db.close()
