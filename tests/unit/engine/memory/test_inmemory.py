"""The journal in memory forgets what ended longest ago once it is full, and never what is open."""

from __future__ import annotations

import msgspec
import pytest

from kadre.base import errors
from kadre.engine import events as ev
from kadre.engine.memory import spill
from kadre.engine.memory.inmemory import InMemoryJournal
from tests.contract.journal.story import AGENT, Teller, said, whole_run


async def test_it_says_that_nothing_survives() -> None:
    assert not InMemoryJournal().durable


async def test_past_its_runs_it_forgets_the_session_used_least_recently() -> None:
    journal = InMemoryJournal(max_runs=4)
    for index, session in enumerate(["a", "b", "a", "c"]):
        await whole_run(journal, f"run-{index}", session)
    await whole_run(journal, "run-4", "a")
    assert sorted(info.run_id for info in await journal.runs()) == ["run-0", "run-2", "run-3", "run-4"]
    assert {info.session_id for info in await journal.sessions()} == {"a", "c"}


async def test_of_a_long_session_it_forgets_the_oldest_runs_and_goes_on_counting() -> None:
    journal = InMemoryJournal(max_runs=3)
    for index in range(1, 11):
        await whole_run(journal, f"run-{index}", "s")
    created = await Teller("run-11", "s").create(journal)
    assert created.run.order == 11
    assert said(await journal.history(AGENT, "s", 11, 9)) == [
        "message of run-9", "answer of run-9", "message of run-10", "answer of run-10",
    ]  # fmt: skip


async def test_past_its_sessions_it_forgets_the_one_used_least_recently() -> None:
    journal = InMemoryJournal(max_sessions=2)
    for session in ("a", "b", "c"):
        await whole_run(journal, f"run-{session}", session)
    assert {info.session_id for info in await journal.sessions()} == {"b", "c"}
    assert (await Teller("run-new", "a", caller="ann").create(journal)).run.order == 1


async def test_past_its_bytes_it_forgets_texts_and_their_blobs() -> None:
    journal = InMemoryJournal(max_bytes=1_000_000)
    digests = []
    for index in range(8):
        run = Teller(f"run-{index}", f"s{index}")
        await run.create(journal)
        small = await spill.spill(journal, run.event(ev.AssistantMessage, content=f"{index}" * 300_000))
        assert small.blobs
        digests.append(small.blobs["content"])
        await run.append(journal, small, run.event(ev.RunFinished, status="completed"))
    assert len(await journal.runs()) < 5
    assert len(await journal.get_blob(digests[-1])) == 300_000
    with pytest.raises(errors.NotFound):
        await journal.get_blob(digests[0])


async def test_a_blob_two_sessions_name_goes_with_the_last() -> None:
    journal = InMemoryJournal(max_sessions=1)
    for session in ("a", "b"):
        run = Teller(f"run-{session}", session)
        await run.create(journal)
        large = run.event(ev.AssistantMessage, content="x" * 100_000)
        small = await spill.spill(journal, large)
        await run.append(journal, small, run.event(ev.RunFinished, status="completed"))
    assert await spill.restore(journal, small) != small
    await whole_run(journal, "run-c", "c")
    assert await spill.restore(journal, small) == msgspec.structs.replace(small, blobs=msgspec.UNSET)


async def test_blobs_nobody_named_are_bounded() -> None:
    journal = InMemoryJournal(max_bytes=10_000)
    first = await journal.put_blob(b"0" * 4000)
    for index in range(1, 6):
        await journal.put_blob(bytes([index]) * 4000)
        await whole_run(journal, f"run-{index}", "s")
    with pytest.raises(errors.NotFound):
        await journal.get_blob(first)


async def test_open_runs_are_never_forgotten() -> None:
    journal = InMemoryJournal(max_runs=2, max_sessions=2, max_bytes=1)
    runs = [Teller(f"run-{index}", f"s{index}") for index in range(10)]
    for run in runs:
        await run.create(journal)
    assert len(await journal.runs()) == 10
    for run in runs:
        await run.end(journal)
    assert len(await journal.runs()) == 0


async def test_an_agent_that_is_talked_to_a_lot_costs_its_neighbours_nothing() -> None:
    journal = InMemoryJournal(max_runs=10)
    for index in range(3):
        await whole_run(journal, f"quiet-{index}", "s", agent="default/quiet")
    for index in range(100):
        await whole_run(journal, f"noisy-{index}", f"s-{index}", agent="default/noisy")
    assert len(await journal.runs(agent="default/quiet")) == 3
    assert len(await journal.runs(agent="default/noisy")) == 7
