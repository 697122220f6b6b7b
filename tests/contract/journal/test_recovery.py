"""What every store promises after a restart, and of large values."""

from __future__ import annotations

import hashlib

import pytest

from kadre.base import errors
from kadre.engine import events as ev
from kadre.engine.memory import spill
from kadre.engine.memory.port import Journal, OwnJournal
from tests.contract.journal.story import AGENT, Teller, said, whole_run


async def test_recovery_ends_open_runs_and_leaves_waiting_ones(own: OwnJournal) -> None:
    await whole_run(own, "run-0", "s0")
    running, waiting, behind = Teller("run-1", "s1"), Teller("run-2", "s2"), Teller("run-3", "s1")
    for run in (running, waiting, behind):
        await run.create(own, f"message of {run.run_id}")
    await waiting.append(own, waiting.asks("a"))
    ended = await own.recover()
    assert {(info.run_id, info.status) for info in ended} == {("run-1", "interrupted"), ("run-3", "interrupted")}
    assert [info.run_id for info in await own.runs(status="waiting")] == ["run-2"]
    assert isinstance((await own.events("run-1"))[-1], ev.RunFinished)
    assert said(await own.history(AGENT, "s1", 9, 9)) == ["message of run-1", "message of run-3"]
    assert list(await own.recover()) == []


async def test_a_call_that_was_sent_and_not_recorded_ends_unknown(own: OwnJournal) -> None:
    run = Teller("run-1", "s")
    await run.create(own)
    await run.append(own, run.starts_a_call())
    await own.recover()
    end, finished = (await own.events("run-1"))[-2:]
    assert isinstance(end, ev.ToolEnd)
    assert (end.tool_call.id, end.tool_call.status) == ("call-1", "unknown")
    assert isinstance(finished, ev.RunFinished)


async def test_a_blob_is_kept_by_its_digest(journal: Journal) -> None:
    digest = await journal.put_blob(b"large")
    assert digest == "sha256:" + hashlib.sha256(b"large").hexdigest()
    assert await journal.put_blob(b"large") == digest
    assert await journal.get_blob(digest) == b"large"
    with pytest.raises(errors.NotFound):
        await journal.get_blob("sha256:0")


async def test_a_large_event_is_spilled_and_restored(journal: Journal) -> None:
    run = Teller("run-1", "s")
    await run.create(journal)
    text = "é" * 200_000
    large = run.event(ev.AssistantMessage, content=text)
    small = await spill.spill(journal, large)
    assert len(ev.encode(small)) <= ev.MAX_EVENT_BYTES
    await run.append(journal, small, run.event(ev.RunFinished, status="completed"))
    (kept,) = await journal.events("run-1", 2, 1)
    assert await spill.restore(journal, kept) == large


async def test_a_run_about_which_a_person_has_decided_is_left_open(own: OwnJournal) -> None:
    decided, went_on = Teller("run-1", "s1"), Teller("run-2", "s2")
    for run in (decided, went_on):
        await run.create(own)
        await run.append(own, run.asks("a"))
        await run.append(own, run.event(ev.ApprovalDecided, approval_id="a", decision="allow", by="ann"))
    await went_on.append(own, went_on.event(ev.AssistantMessage, content="and now another"))
    assert {(info.run_id, info.status) for info in await own.recover()} == {
        ("run-1", "running"),
        ("run-2", "interrupted"),
    }
