"""What every store promises of a session: its order, its turns, its owner, its history."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import pytest

from kadre.base import errors
from kadre.engine import events as ev
from kadre.engine.memory.port import Age, Journal, age
from kadre.plan.types import OnBusy
from tests.contract.journal.story import AGENT, START, Teller, said, whole_run


async def test_a_second_message_waits_for_the_first(journal: Journal) -> None:
    first, second = Teller("run-1", "s"), Teller("run-2", "s")
    await first.create(journal)
    created = await second.create(journal)
    assert (created.position, created.run.order, created.run.status) == (1, 2, "queued")
    started = (await journal.events("run-2"))[0]
    assert isinstance(started, ev.RunStarted)
    assert started.position == 1
    turn = asyncio.create_task(journal.turn("run-2"))
    await journal.turn("run-1")
    assert not turn.done()
    await first.end(journal)
    async with asyncio.timeout(20):
        await turn
    info = await journal.run("run-2")
    assert info is not None
    assert info.status == "running"
    assert list(await journal.runs(status="running")) == [info]
    await second.end(journal)


async def test_runs_of_a_session_start_in_the_order_they_came(journal: Journal) -> None:
    runs = [Teller(f"run-{index}", "s") for index in range(9)]
    for run in runs:
        await run.create(journal)
    started: list[str] = []

    async def drive(run: Teller) -> None:
        await journal.turn(run.run_id)
        started.append(run.run_id)
        await asyncio.sleep(0)
        await run.end(journal)

    async with asyncio.timeout(10):
        await asyncio.gather(*(drive(run) for run in reversed(runs)))
    assert started == [run.run_id for run in runs]


async def test_a_queued_run_that_is_cancelled_lets_those_behind_it_go_on(journal: Journal) -> None:
    first, second, third = (Teller(f"run-{index}", "s") for index in (1, 2, 3))
    for run in (first, second, third):
        await run.create(journal)
    turns = [asyncio.create_task(journal.turn(run.run_id)) for run in (second, third)]
    await asyncio.sleep(0)
    await second.end(journal, status="cancelled")
    with pytest.raises(errors.Fenced):
        await turns[0]
    assert not turns[1].done()
    await first.end(journal)
    async with asyncio.timeout(20):
        await turns[1]
    assert said(await journal.history(AGENT, "s", 3, 10)) == ["hello", "hi", "hello", "hi"]


async def test_a_cancelled_wait_for_a_turn_leaves_the_run_in_the_queue(journal: Journal) -> None:
    first, second = Teller("run-1", "s"), Teller("run-2", "s")
    await first.create(journal)
    await second.create(journal)
    turn = asyncio.create_task(journal.turn("run-2"))
    await asyncio.sleep(0)
    turn.cancel()
    with pytest.raises(asyncio.CancelledError):
        await turn
    await first.end(journal)
    async with asyncio.timeout(20):
        await journal.turn("run-2")


async def test_a_turn_of_no_run_or_an_ended_one_never_comes(journal: Journal) -> None:
    with pytest.raises(errors.NotFound):
        await journal.turn("run-1")
    await whole_run(journal, "run-1", "s")
    with pytest.raises(errors.Fenced):
        await journal.turn("run-1")


async def test_sessions_of_one_name_and_two_agents_are_two_sessions(journal: Journal) -> None:
    await Teller("run-1", "s").create(journal)
    other = await Teller("run-2", "s", agent="default/other", caller="ann").create(journal)
    assert (other.position, other.run.order) == (0, 1)


async def test_a_full_queue_refuses_with_the_seconds_to_wait(journal: Journal) -> None:
    for index in range(4):
        assert (await Teller(f"run-{index}", "s").create(journal, queue_limit=3)).position == index
    with pytest.raises(errors.TooMany) as refused:
        await Teller("run-9", "s").create(journal, queue_limit=3)
    assert refused.value.reason == "SessionQueueFull"
    assert refused.value.retry_after
    assert await journal.run("run-9") is None


async def test_reject_refuses_while_a_run_is_open(journal: Journal) -> None:
    run = Teller("run-1", "s")
    await run.create(journal)
    with pytest.raises(errors.Conflict) as refused:
        await Teller("run-2", "s").create(journal, on_busy="reject")
    assert (refused.value.reason, refused.value.details["run_id"]) == ("SessionBusy", "run-1")
    await run.end(journal)
    assert (await Teller("run-2", "s").create(journal, on_busy="reject")).run.order == 2


@pytest.mark.parametrize("on_busy", ["queue", "reject"])
async def test_a_waiting_run_holds_its_session(journal: Journal, on_busy: OnBusy) -> None:
    run = Teller("run-1", "s")
    await run.create(journal)
    await run.append(journal, run.asks("a"))
    await journal.turn("run-1")
    info = await journal.run("run-1")
    assert info is not None
    assert info.status == "waiting"
    with pytest.raises(errors.Conflict) as refused:
        await Teller("run-2", "s").create(journal, on_busy=on_busy)
    assert (refused.value.reason, refused.value.details["run_id"]) == ("SessionWaiting", "run-1")
    assert [approval["id"] for approval in refused.value.details["approvals"]] == ["a"]


async def test_interrupt_is_accepted_behind_a_waiting_run(journal: Journal) -> None:
    run = Teller("run-1", "s")
    await run.create(journal)
    await run.append(journal, run.asks("a"))
    assert (await Teller("run-2", "s").create(journal, on_busy="interrupt")).position == 1


async def test_a_session_belongs_to_its_caller(journal: Journal) -> None:
    await whole_run(journal, "run-1", "s")
    with pytest.raises(errors.Conflict) as refused:
        await Teller("run-2", "s", caller="mallory").create(journal)
    assert refused.value.reason == "NotYourSession"
    assert "local" not in str(refused.value)


async def test_history_is_what_was_said_before_in_whole_runs(journal: Journal) -> None:
    for index in range(1, 6):
        await whole_run(journal, f"run-{index}", "s")
    await whole_run(journal, "run-x", "another")
    everything = [text for index in range(1, 6) for text in (f"message of run-{index}", f"answer of run-{index}")]
    assert said(await journal.history(AGENT, "s", 6, 100)) == everything
    assert said(await journal.history(AGENT, "s", 4, 2)) == everything[2:6]
    assert list(await journal.history(AGENT, "s", 1, 100)) == []
    assert list(await journal.history(AGENT, "s", 6, 0)) == []


async def test_history_holds_messages_and_results_of_ended_runs_only(journal: Journal) -> None:
    run = Teller("run-1", "s")
    await run.create(journal)
    note, summary = (
        run.event(ev.System, reason="A", message="a"),
        run.event(ev.Summary, content="b", kept=2, model="m"),
    )
    await run.append(journal, note, summary, run.starts_a_call())
    call = ev.ToolCallState(id="call-1", name="scale", arguments={}, status="complete", output="scaled")
    await run.append(journal, run.event(ev.ToolEnd, name="scale", tool_call=call))
    assert list(await journal.history(AGENT, "s", 2, 10)) == []
    await run.end(journal)
    history = await journal.history(AGENT, "s", 2, 10)
    assert [type(event) for event in history] == [ev.UserMessage, ev.Summary, ev.ToolEnd, ev.AssistantMessage]
    assert [event for event in await journal.events("run-1") if event in history] == list(history)


async def test_runs_are_listed_newest_first_in_pages_and_filtered(journal: Journal) -> None:
    for index in range(6):
        told = {"agent": f"default/{index % 3}", "caller": f"c{index % 2}"}
        await whole_run(journal, f"run-{index}", f"s{index % 2}", minute=index, **told)
    await Teller("run-6", "s6", minute=6).create(journal)

    async def ids(**how: object) -> list[str]:
        return [info.run_id for info in await journal.runs(**how)]  # type: ignore[arg-type]  # keywords of `runs`

    assert await ids() == [f"run-{index}" for index in range(6, -1, -1)]
    assert await ids(limit=2) == ["run-6", "run-5"]
    assert await ids(limit=2, before=(START + timedelta(minutes=5, seconds=1), "run-5")) == ["run-4", "run-3"]
    assert await ids(agent="default/1") == ["run-4", "run-1"]
    assert await ids(session_id="s1") == ["run-5", "run-3", "run-1"]
    assert await ids(agent="default/1", session_id="s1", before=(START + timedelta(minutes=9), "")) == ["run-1"]
    assert await ids(caller="c0", status="completed") == ["run-4", "run-2", "run-0"]
    assert await ids(status="running") == ["run-6"]
    assert await ids(status="waiting") == []


async def test_runs_are_listed_by_their_creation_whatever_their_ids(journal: Journal) -> None:
    for minute, run_id in enumerate(["z", "run-1", "a", "m"]):
        await whole_run(journal, run_id, run_id, minute=minute)
    for run_id in ("of-3", "of-1", "of-2"):  # at one moment: by id
        await whole_run(journal, run_id, "same", minute=9)
    expected = ["of-3", "of-2", "of-1", "m", "a", "run-1", "z"]
    assert [info.run_id for info in await journal.runs()] == expected
    paged: list[str] = []
    before: Age | None = None
    while page := await journal.runs(limit=2, before=before):
        paged += [info.run_id for info in page]
        before = age(page[-1])
    assert paged == expected


async def test_a_run_that_is_forgotten_or_added_between_pages_moves_no_other(journal: Journal) -> None:
    for minute in range(6):
        await whole_run(journal, f"run-{minute}", f"s{minute}", minute=minute)
    *_, last = await journal.runs(limit=2)
    assert last.run_id == "run-4"
    assert await journal.delete_sessions_before(AGENT, START + timedelta(minutes=1)) == 1
    await whole_run(journal, "a-new-one", "new", minute=9)
    assert [info.run_id for info in await journal.runs(before=age(last))] == ["run-3", "run-2", "run-1"]


async def test_sessions_are_listed_the_latest_used_first(journal: Journal) -> None:
    await whole_run(journal, "run-1", "a", minute=1)
    await whole_run(journal, "run-2", "b", minute=2, caller="ann")
    await whole_run(journal, "run-3", "a", minute=3)
    sessions = await journal.sessions()
    assert [(info.session_id, info.runs, info.caller) for info in sessions] == [("a", 2, "local"), ("b", 1, "ann")]
    last = await journal.run("run-3")
    assert last is not None
    assert (sessions[0].created, sessions[0].updated) == (START + timedelta(minutes=1, seconds=1), last.updated)
    assert [info.session_id for info in await journal.sessions(caller="ann")] == ["b"]
    assert [info.session_id for info in await journal.sessions(limit=1)] == ["a"]
    assert list(await journal.sessions(agent="default/other")) == []


async def test_sessions_past_their_time_are_forgotten_with_all_they_hold(journal: Journal) -> None:
    for minute in range(250):
        await whole_run(journal, f"run-{minute:03}", f"s{minute}", minute=minute)
    await Teller("run-open", "open").create(journal)
    await whole_run(journal, "run-other", "s0", agent="default/other")
    assert await journal.delete_sessions_before(AGENT, START + timedelta(minutes=240)) == 240
    assert [info.run_id for info in await journal.runs(session_id="s0")] == ["run-other"]
    assert await journal.run("run-000") is None
    assert list(await journal.events("run-000")) == []
    assert len(await journal.sessions(limit=1000)) == 12
    assert await journal.delete_sessions_before(AGENT, START + timedelta(minutes=240)) == 0
    assert (await Teller("run-new", "s0", caller="ann").create(journal)).run.order == 1
