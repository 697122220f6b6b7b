"""A server when things go wrong: killed or stopped, the way to it cut; whichever store it keeps."""

from __future__ import annotations

import asyncio

import pytest

from kadre.base import errors
from kadre.engine import events as ev
from kadre.engine.memory.remote_journal import RemoteJournal
from tests.contract.journal.story import AGENT, Teller, numbers, said, whole_run
from tests.support.stores import Store


async def _talk(journal: RemoteJournal, session: int, acknowledged: dict[str, int], enough: asyncio.Event) -> None:
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


async def test_a_server_that_is_killed_amid_appends_loses_nothing_and_is_found_again(store: Store, space: str) -> None:
    journal = await store.open(space)
    acknowledged: dict[str, int] = {}
    enough = asyncio.Event()
    async with asyncio.timeout(50):
        talking = [asyncio.create_task(_talk(journal, session, acknowledged, enough)) for session in range(8)]
        for kill in range(3):
            await _until(acknowledged, 100 * (kill + 1))
            await asyncio.to_thread(store.server.kill)
            await asyncio.to_thread(store.server.start)
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


async def test_a_server_that_is_killed_while_runs_wait_for_their_turn_lets_them_go_on(store: Store, space: str) -> None:
    journal = await store.open(space)
    other = await store.open(space)
    first, second = Teller("run-1", "s"), Teller("run-2", "s")
    await first.create(journal)
    await second.create(journal)
    turn = asyncio.create_task(journal.turn("run-2"))
    await asyncio.to_thread(store.server.kill)
    await asyncio.to_thread(store.server.start)
    async with asyncio.timeout(20):
        await first.end(other)
        await turn
        await second.end(journal)
        assert await other.held() == await journal.held() == []
    await journal.aclose()
    await other.aclose()


async def test_a_server_that_is_stopped_is_an_error_that_heals(store: Store, space: str) -> None:
    journal = await store.open(space)
    await whole_run(journal, "run-1", "s")
    store.server.stop()
    try:
        calls = (journal.run("run-1"), Teller("run-2", "s").create(journal), journal.put_blob(b"x"))
        for refused in await asyncio.gather(*calls, return_exceptions=True):
            assert isinstance(refused, errors.Unavailable)
            assert (refused.reason, bool(refused.retry_after)) == ("JournalUnavailable", True)
            assert "the server cannot be reached; check that it runs" in str(refused)
        with pytest.raises(errors.Unavailable, match="cannot be reached"):
            await store.open(space)
    finally:
        store.server.start()
    await whole_run(journal, "run-2", "s")
    assert [info.run_id for info in await journal.runs()] == ["run-2", "run-1"]
    await journal.aclose()


@pytest.mark.parametrize("busy", [False, True])
async def test_a_run_whose_creation_was_committed_unheard_is_created_once(store: Store, space: str, busy: bool) -> None:
    async with store.cut() as cut:
        journal = await store.open(space, cut=cut)
        if busy:
            await Teller("run-0", "s").create(journal)
        cut.next_answer_to(b"run-to-be-cut")
        created = await Teller("run-to-be-cut", "s").create(journal)
        assert (cut.cuts, created.existing, created.run.order, created.position) == (1, False, 1 + busy, busy)
        assert (await Teller("run-to-be-cut", "s").create(journal)).existing
        assert len(await journal.events("run-to-be-cut")) == 2
        await journal.aclose()


async def test_an_append_that_was_committed_unheard_is_appended_once(store: Store, space: str) -> None:
    async with store.cut() as cut:
        journal = await store.open(space, cut=cut)
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


async def test_a_writer_that_was_fenced_is_told_so_though_its_connection_broke(store: Store, space: str) -> None:
    async with store.cut() as cut:
        journal = await store.open(space, cut=cut)
        run = Teller("run-1", "s")
        await run.create(journal)
        await journal.claim("run-1")
        cut.next_answer_to(b"run_finished")
        with pytest.raises(errors.Fenced):
            await run.end(journal)
        assert (cut.cuts, len(await journal.events("run-1"))) == (1, 2)
        await journal.aclose()


async def test_a_creation_that_is_cancelled_is_settled_when_its_caller_goes_on(store: Store, space: str) -> None:
    journal = await store.open(space)
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


async def test_closing_finishes_what_waits_and_takes_no_more(store: Store, space: str) -> None:
    journal = await store.open(space)
    creating = [asyncio.create_task(Teller(f"run-{index}", "s").create(journal, queue_limit=99)) for index in range(50)]
    await asyncio.sleep(0)
    await journal.aclose()
    await asyncio.gather(*creating)
    for call in (Teller("run-x", "s").create(journal), journal.run("run-1"), journal.put_blob(b"x")):
        with pytest.raises(errors.Unavailable, match="the journal is closed"):
            await call
    journal = await store.open(space)
    assert len(await journal.abandoned({AGENT})) == 50
    await journal.aclose()


async def test_a_conversation_goes_on_over_a_restart_of_the_server_and_of_the_process(store: Store, space: str) -> None:
    journal = await store.open(space)
    await whole_run(journal, "run-1", "s")
    await journal.aclose()
    store.server.stop()
    store.server.start()
    journal = await store.open(space)
    assert said(await journal.history(AGENT, "s", 2, 9)) == ["message of run-1", "answer of run-1"]
    assert (await Teller("run-2", "s").create(journal)).run.order == 2
    await journal.aclose()
