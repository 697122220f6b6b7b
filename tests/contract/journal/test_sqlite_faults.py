"""SQLite when things go wrong: killed, full, read-only, locked, held by another process, written by another version."""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
import sys
from asyncio.subprocess import PIPE, Process
from datetime import timedelta
from pathlib import Path

import msgspec
import pytest

from kadre.base import errors
from kadre.base.clock import FakeClock
from kadre.engine import events as ev
from kadre.engine.memory import sqlite_file, sqlite_reads
from kadre.engine.memory.port import Age, NewRun
from kadre.engine.memory.sqlite import SqliteJournal
from tests.contract.journal.story import AGENT, START, Teller, numbers, said, whole_run


async def _child(task: str, data_dir: Path) -> Process:
    return await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tests.contract.journal.child", task, str(data_dir), stdin=PIPE, stdout=PIPE
    )


async def test_what_was_acknowledged_survives_kill_9(tmp_path: Path) -> None:
    child = await _child("write", tmp_path)
    assert child.stdout is not None
    acknowledged: dict[str, int] = {}
    for _ in range(300):
        told = (await child.stdout.readline()).decode().split()
        acknowledged[told[0]] = int(told[1])
    child.kill()
    rest = await child.stdout.read()
    for line in rest.decode().splitlines()[:-1]:  # the last may be cut
        told = line.split()
        acknowledged[told[0]] = int(told[1])
    await child.wait()
    journal = await SqliteJournal.open(tmp_path)
    open_runs = {info.run_id for info in [*await journal.runs(status="queued"), *await journal.runs(status="running")]}
    for run_id, seq in acknowledged.items():
        kept = numbers(await journal.events(run_id))
        assert kept == list(range(1, len(kept) + 1))
        assert len(kept) >= seq
    assert {info.run_id for info in await journal.recover()} == open_runs
    for session in range(4):
        runs = sorted(await journal.runs(session_id=f"s{session}", limit=100_000), key=lambda info: info.order)
        assert [info.order for info in runs] == list(range(1, len(runs) + 1))
        history = said(await journal.history(AGENT, f"s{session}", len(runs) + 1, len(runs)))
        assert history[::2][:-1] == [f"message {session} {turn}" for turn in range(len(runs) - 1)]
    await journal.aclose()


async def test_a_data_dir_belongs_to_one_process(tmp_path: Path) -> None:
    child = await _child("hold", tmp_path)
    assert child.stdout is not None
    assert child.stdin is not None
    assert await child.stdout.readline() == b"open\n"
    with pytest.raises(errors.ProblemError) as refused:
        await SqliteJournal.open(tmp_path)
    (problem,) = refused.value.problems
    assert problem.reason == "DataDirInUse"
    assert f"another kadre up (pid {child.pid}) uses this data dir" in problem.message
    assert "--data-dir" in problem.fix
    child.stdin.close()
    await child.wait()
    await (await SqliteJournal.open(tmp_path)).aclose()


async def test_a_process_that_closed_its_journal_may_open_it_again(tmp_path: Path) -> None:
    first = await SqliteJournal.open(tmp_path)
    with pytest.raises(errors.ProblemError):
        await SqliteJournal.open(tmp_path)
    await first.aclose()
    await (await SqliteJournal.open(tmp_path)).aclose()


async def test_a_file_that_may_not_grow_is_an_error_and_heals(tmp_path: Path) -> None:
    child = await _child("fill", tmp_path)
    out, _ = await child.communicate()
    refused, wrote = out.decode().splitlines()
    assert refused.startswith("refused JournalUnavailable: journal ")
    assert "make room" in refused or "room on it" in refused
    assert wrote == "wrote"
    assert child.returncode == 0


async def test_a_full_file_refuses_and_takes_more_when_there_is_room(sqlite: SqliteJournal) -> None:
    run = Teller("run-1", "s")
    await run.create(sqlite)
    db = sqlite._db
    pages = db.execute("PRAGMA page_count").fetchone()[0]
    db.execute(f"PRAGMA max_page_count = {pages}")
    with pytest.raises(sqlite_file.JournalUnavailable, match="full; make room") as refused:
        await sqlite.put_blob(b"x" * 100_000)
    assert refused.value.retry_after
    db.execute("PRAGMA max_page_count = 1000000")
    assert await sqlite.put_blob(b"x" * 100_000)
    await run.end(sqlite)
    assert numbers(await sqlite.events("run-1")) == [1, 2, 3, 4, 5]


async def test_a_refused_append_may_be_tried_again_with_the_same_number(sqlite: SqliteJournal) -> None:
    run = Teller("run-1", "s")
    await run.create(sqlite)
    last = run.last()
    db = sqlite._db
    db.execute("PRAGMA query_only = ON")
    with pytest.raises(sqlite_file.JournalUnavailable, match="cannot be written"):
        await run.append(sqlite, *last)
    with pytest.raises(sqlite_file.JournalUnavailable):
        await Teller("run-2", "s").create(sqlite)
    info = await sqlite.run("run-1")
    assert info is not None
    assert (info.status, info.last_seq) == ("running", 2)
    db.execute("PRAGMA query_only = OFF")
    await run.append(sqlite, *last)
    assert numbers(await sqlite.events("run-1")) == [1, 2, 3, 4, 5]
    assert (await Teller("run-2", "s").create(sqlite)).run.order == 2


async def test_the_event_loop_goes_on_while_the_disk_does_not(sqlite: SqliteJournal) -> None:
    await whole_run(sqlite, "run-0", "s")
    other = sqlite3.connect(sqlite.path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    creating = asyncio.create_task(Teller("run-1", "s").create(sqlite))
    for _ in range(100):
        assert said(await sqlite.history(AGENT, "s", 2, 10)) == ["message of run-0", "answer of run-0"]
    assert not creating.done()
    other.execute("ROLLBACK")
    other.close()
    assert (await creating).run.order == 2


async def test_a_cancelled_append_is_settled_when_the_cancellation_arrives(sqlite: SqliteJournal) -> None:
    run = Teller("run-1", "s")
    await run.create(sqlite)
    other = sqlite3.connect(sqlite.path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    ending = asyncio.create_task(run.end(sqlite))
    await asyncio.sleep(0)
    ending.cancel()
    await asyncio.sleep(0)
    ending.cancel()
    other.execute("ROLLBACK")
    other.close()
    with pytest.raises(asyncio.CancelledError):
        await ending
    info = await sqlite.run("run-1")
    assert info is not None
    assert info.status == "completed"


async def test_values_the_file_cannot_hold_fail_alone(sqlite: SqliteJournal) -> None:
    good, bad = Teller("run-1", "s"), Teller("run-2", "s")
    new = NewRun(run_id="run-2", session_id="s", agent="lone \ud800 surrogate")
    results = await asyncio.gather(
        good.create(sqlite), sqlite.create(new, bad.first()), whole_run(sqlite, "run-3", "s3"), return_exceptions=True
    )
    assert [type(result).__name__ for result in results] == ["Created", "UnicodeEncodeError", "Teller"]


async def test_a_restart_finds_everything_and_goes_on(tmp_path: Path) -> None:
    journal = await SqliteJournal.open(tmp_path)
    await whole_run(journal, "run-1", "s")
    waiting = Teller("run-2", "s")
    await waiting.create(journal)
    await waiting.append(journal, waiting.asks("a", "b"))
    digest = await journal.put_blob(b"named")
    message = waiting.event(ev.System, reason="R", message="m")
    await waiting.append(journal, msgspec.structs.replace(message, blobs={"message": digest}))
    orphan = await journal.put_blob(b"the process died before its event")
    await journal.aclose()
    journal = await SqliteJournal.open(tmp_path)
    assert list(await journal.recover()) == []
    assert await journal.get_blob(digest) == b"named"
    with pytest.raises(errors.NotFound):
        await journal.get_blob(orphan)
    with pytest.raises(errors.Conflict) as refused:
        await Teller("run-3", "s").create(journal)
    assert [approval["id"] for approval in refused.value.details["approvals"]] == ["a", "b"]
    claimed = await journal.claim("run-2")
    assert (claimed.epoch, claimed.status, claimed.order, claimed.last_seq) == (2, "waiting", 2, 4)
    waiting.epoch = 2
    await waiting.end(journal)
    assert (await Teller("run-3", "s").create(journal)).run.order == 3
    assert said(await journal.history(AGENT, "s", 3, 9)) == ["message of run-1", "answer of run-1", "hello", "hi"]
    await journal.aclose()


async def test_blobs_too_young_to_go_with_their_session_go_when_they_are_old(tmp_path: Path) -> None:
    clock = FakeClock(START)
    journal = await SqliteJournal.open(tmp_path, clock=clock)
    digest = await journal.put_blob(b"large")
    run = Teller("run-1", "s1")
    await run.create(journal)
    named = run.event(ev.System, reason="R", message="m")
    await run.append(journal, msgspec.structs.replace(named, blobs={"message": digest}), *run.last())
    assert await journal.delete_sessions_before(AGENT, START + timedelta(minutes=9)) == 1
    assert await journal.get_blob(digest) == b"large"
    await clock.advance(7200)
    assert await journal.delete_sessions_before(AGENT, START + timedelta(minutes=9)) == 0
    with pytest.raises(errors.NotFound):
        await journal.get_blob(digest)
    await journal.aclose()


async def test_blobs_go_with_the_last_session_that_names_them(tmp_path: Path) -> None:
    clock = FakeClock(START)
    journal = await SqliteJournal.open(tmp_path, clock=clock)
    digest = await journal.put_blob(b"large")
    for minute in (1, 2):
        run = Teller(f"run-{minute}", f"s{minute}", minute=minute)
        await run.create(journal)
        named = run.event(ev.System, reason="R", message="m")
        await run.append(journal, msgspec.structs.replace(named, blobs={"message": digest}), *run.last())
    await clock.advance(7200)
    assert await journal.delete_sessions_before(AGENT, START + timedelta(minutes=2)) == 1
    assert await journal.get_blob(digest) == b"large"
    assert await journal.delete_sessions_before(AGENT, START + timedelta(minutes=9)) == 1
    with pytest.raises(errors.NotFound):
        await journal.get_blob(digest)
    await journal.aclose()


async def test_a_closed_journal_says_so(tmp_path: Path) -> None:
    journal = await SqliteJournal.open(tmp_path)
    await journal.aclose()
    with pytest.raises(errors.Unavailable):
        await Teller("run-1", "s").create(journal)


async def test_closing_finishes_what_waits(tmp_path: Path) -> None:
    journal = await SqliteJournal.open(tmp_path)
    creating = [asyncio.create_task(Teller(f"run-{index}", "s").create(journal, queue_limit=99)) for index in range(50)]
    await asyncio.sleep(0)
    await journal.aclose()
    await asyncio.gather(*creating)
    journal = await SqliteJournal.open(tmp_path)
    assert len(await journal.recover()) == 50
    await journal.aclose()


def _written_by_a_newer_version(path: Path) -> None:
    with contextlib.closing(sqlite3.connect(path)) as db:
        db.execute("PRAGMA user_version = 99")


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (lambda path: path.write_bytes(b"not a database, by any means" * 100), "JournalUnusable"),
        (_written_by_a_newer_version, "JournalTooNew"),
        (lambda path: path.mkdir(), "JournalUnusable"),
    ],
)
async def test_a_file_that_is_not_ours_is_a_problem_with_a_fix(tmp_path: Path, spoil: object, reason: str) -> None:
    assert callable(spoil)
    spoil(tmp_path / sqlite_file.FILE)
    for _ in range(2):  # the directory is let go each time
        with pytest.raises(errors.ProblemError) as refused:
            await SqliteJournal.open(tmp_path)
        assert [problem.reason for problem in refused.value.problems] == [reason]
        assert "--data-dir" in refused.value.problems[0].fix


async def test_a_file_of_the_first_schema_is_taken_over(tmp_path: Path) -> None:
    journal = await SqliteJournal.open(tmp_path)
    for minute, run_id in enumerate(("z", "a")):
        await whole_run(journal, run_id, run_id, minute=minute)
    await journal.aclose()
    with contextlib.closing(sqlite3.connect(tmp_path / sqlite_file.FILE)) as db:  # as that schema left it
        db.executescript("DROP INDEX runs_by_age; ALTER TABLE sessions DROP COLUMN title; PRAGMA user_version = 1")
    for _ in range(2):
        journal = await SqliteJournal.open(tmp_path)
        assert [info.run_id for info in await journal.runs()] == ["a", "z"]
        assert [info.title for info in await journal.sessions()] == ["", ""]
        await journal.aclose()
    with contextlib.closing(sqlite3.connect(tmp_path / sqlite_file.FILE)) as db:
        assert db.execute("PRAGMA user_version").fetchone()[0] == len(sqlite_file.MIGRATIONS)


@pytest.mark.parametrize("agent", [None, AGENT])
@pytest.mark.parametrize("status", [None, "completed"])
@pytest.mark.parametrize("before", [None, (START, "run-1")])
async def test_a_page_of_runs_is_read_from_an_index_and_sorts_nothing(
    sqlite: SqliteJournal, agent: str | None, status: str | None, before: Age | None
) -> None:
    wanted = {"s.agent =": agent, "s.session_id =": None, "r.status =": status, "s.caller =": None}
    sql, values = sqlite_reads.runs_query(wanted, before, 100)
    with contextlib.closing(sqlite3.connect(sqlite.path)) as db:
        plan = [row[3] for row in db.execute(f"EXPLAIN QUERY PLAN {sql}", values)]
    assert "USING INDEX runs_by_age" in plan[0]
    assert [step for step in plan if "TEMP B-TREE" in step] == []


async def test_a_data_dir_that_cannot_be_made_is_a_problem_with_a_fix(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(errors.ProblemError, match="cannot be used: Not a directory"):
        await SqliteJournal.open(tmp_path / "file" / "below")


async def test_what_is_remembered_stays_bounded(sqlite: SqliteJournal) -> None:
    async def talk(writer: int) -> None:
        for session in range(writer, 2600, 100):
            await whole_run(sqlite, f"run-{session}", f"s{session}")

    await asyncio.gather(*(talk(writer) for writer in range(100)))
    assert len(sqlite._remembered.sessions) <= 2000
    assert sqlite._remembered.runs == {}
    assert (await Teller("run-again", "s0").create(sqlite)).run.order == 2
