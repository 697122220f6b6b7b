"""PostgreSQL when things go wrong: a commit unheard of, a value it cannot hold, a password wrong."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import Callable
from datetime import timedelta

import msgspec
import pytest

from kadre.base import errors
from kadre.base.clock import FakeClock
from kadre.engine import events as ev
from kadre.engine.memory.postgres import PostgresJournal
from kadre.engine.memory.postgres_server import Address, connect, place
from tests.contract.journal.story import AGENT, START, Teller, whole_run
from tests.support.postgres import Cluster
from tests.support.stores import Store, new_space

pytestmark = [pytest.mark.stores, pytest.mark.needs("postgres")]
SECRET = "hush-9f2"


async def test_a_commit_of_a_creation_that_is_not_heard_of_is_found_out(stores: Callable[[str], Store]) -> None:
    async with stores("postgres").cut() as cut:
        journal = await stores("postgres").open(new_space(), cut=cut)
        await Teller("run-0", "s").create(journal)
        cut.next_answer_to(b"COMMIT;")
        created = await Teller("run-1", "s").create(journal)
        assert (cut.cuts, created.existing, created.run.order, created.position) == (1, False, 2, 1)
        await journal.aclose()


async def test_connections_stay_bounded(cluster: Cluster) -> None:
    schema = new_space()
    journal = await PostgresJournal.open(cluster.dsn(), schema=schema, connections=3)
    await asyncio.gather(*(whole_run(journal, f"run-{index}", f"s{index}") for index in range(200)))
    db = await connect(place(cluster.dsn(), schema))
    count = await db.fetchval("SELECT count(*) FROM pg_stat_activity WHERE application_name = 'kadre'")
    assert count <= 3 + 1 + 1  # one listens, one asks
    await db.close()
    await journal.aclose()


async def test_a_value_that_postgresql_cannot_hold_is_refused_as_the_callers(cluster: Cluster) -> None:
    journal = await PostgresJournal.open(cluster.dsn(), schema=new_space())
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
    journal = await PostgresJournal.open(cluster.dsn(), schema=new_space(), clock=clock)
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
            await PostgresJournal.open(cluster.dsn("locked", secret), schema=new_space())
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
        await PostgresJournal.open(cluster.dsn("locked"), schema=new_space())


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


async def test_a_password_that_is_changed_is_used_for_the_next_connection(cluster: Cluster) -> None:
    """The Secret holds the new one, the server takes no other, and every connection there was is cut."""
    db = await connect(place(cluster.dsn(), "public"))
    await db.execute("CREATE ROLE rotated LOGIN PASSWORD 'old' IN ROLE pg_write_all_data, pg_read_all_data")
    await db.execute("GRANT CREATE ON DATABASE postgres TO rotated")
    secrets = {"password": "old"}

    def address() -> Address:
        return Address(cluster.dsn("rotated", secrets["password"]))

    journal = await PostgresJournal.open(address, schema=new_space())
    run = Teller("run-1", "s")
    await run.create(journal)
    await db.execute("ALTER ROLE rotated PASSWORD 'new'")
    secrets["password"] = "new"
    await db.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'rotated'")
    await run.end(journal)
    assert (await journal.events("run-1"))[-1].seq == run.seq
    await journal.aclose()
    await db.close()


async def test_a_database_of_an_earlier_version_is_taken_over_under_a_process_that_goes_on(cluster: Cluster) -> None:
    schema = new_space()
    before = await PostgresJournal.open(cluster.dsn(), schema=schema)
    db = await connect(place(cluster.dsn(), schema))
    await db.execute("ALTER TABLE sessions DROP COLUMN title; DROP FUNCTION forget_one; UPDATE version SET number = 2")
    await db.close()
    await whole_run(before, "run-1", "s")
    after = await PostgresJournal.open(cluster.dsn(), schema=schema)
    for index, journal in enumerate((before, after, before)):
        await whole_run(journal, f"run-{index + 2}", "s", minute=index + 1)
    await after.rename_session(AGENT, "s", "named")
    assert [(info.runs, info.title) for info in await before.sessions()] == [(4, "named")]
    await before.delete_session(AGENT, "s")
    for journal in (before, after):
        assert list(await journal.sessions()) == []
        await journal.aclose()
