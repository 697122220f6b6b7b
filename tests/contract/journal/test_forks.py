"""A fork in every store: the conversation up to an event is there, what it was taken from is as it was."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from kadre.base import errors
from kadre.base.clock import FakeClock
from kadre.engine import events as ev
from kadre.engine import forking
from kadre.engine.accepting import Ask
from kadre.engine.memory import conversation, spill
from kadre.engine.memory.port import Journal, RunInfo
from kadre.engine.messages import ToolCall
from kadre.engine.tools.functions import Functions
from tests.contract.journal.story import AGENT, Teller, said, whole_run
from tests.support.scene import Scene

pytestmark = pytest.mark.requirement("session-fork")


async def info_of(journal: Journal, run_id: str) -> RunInfo:
    info = await journal.run(run_id)
    assert info is not None
    return info


async def forked(journal: Journal, run_id: str, **how: Any) -> forking.Fork:
    return await forking.fork(journal, await info_of(journal, run_id), "ann", FakeClock(), **how)


async def texts(journal: Journal, session_id: str) -> list[str]:
    events = await journal.history(AGENT, session_id, 100, 100)
    return [message.content for message in conversation.messages(events, 100)]


async def test_a_fork_has_what_was_said_by_then_and_the_original_goes_on_alone(journal: Journal) -> None:
    for index in (1, 2, 3):
        await whole_run(journal, f"run-{index}", "s", minute=index)
    before = [await journal.events(f"run-{index}") for index in (1, 2, 3)]
    fork = await forked(journal, "run-2")
    assert (fork.run.status, fork.run.order, fork.run.caller, fork.at) == ("completed", 1, "ann", 5)
    said_by_then = ["message of run-1", "answer of run-1", "message of run-2", "answer of run-2"]
    assert await texts(journal, fork.run.session_id) == said_by_then
    assert [await journal.events(f"run-{index}") for index in (1, 2, 3)] == before
    await whole_run(journal, "run-4", fork.run.session_id, caller="ann", minute=4)
    assert (await info_of(journal, "run-4")).order == 2
    assert len(await texts(journal, fork.run.session_id)) == 6
    assert said(await journal.history(AGENT, "s", 100, 100))[-1] == "answer of run-3"
    assert len(await journal.runs(session_id="s")) == 3


async def test_a_fork_before_anything_was_said_in_the_run_has_the_runs_before(journal: Journal) -> None:
    await whole_run(journal, "run-1", "s")
    await whole_run(journal, "run-2", "s", minute=1)
    fork = await forked(journal, "run-2", at=1)
    assert await texts(journal, fork.run.session_id) == ["message of run-1", "answer of run-1"]
    with pytest.raises(errors.BadRequest, match="nothing was said"):
        await forked(journal, "run-1", at=1)


async def test_a_fork_amid_the_calls_of_a_reply_goes_back_before_it_and_says_so(journal: Journal) -> None:
    run = Teller("run-1", "s")
    await run.create(journal)
    calls = tuple(ToolCall(key, "look") for key in ("a", "b"))
    await run.append(journal, run.event(ev.AssistantMessage, content="let me see", tool_calls=calls))
    for key in ("a", "b"):
        state = ev.ToolCallState(id=key, name="look", arguments={}, status="complete", output=f"seen {key}")
        await run.append(journal, run.event(ev.ToolEnd, name="look", tool_call=state))
    fork = await forked(journal, "run-1", at=4)
    assert (fork.at, await texts(journal, fork.run.session_id)) == (2, ["hello"])
    assert "amid the calls" in fork.note
    fork = await forked(journal, "run-1", at=5)  # of a run that goes on
    assert (fork.at, fork.note) == (5, "")
    assert await texts(journal, fork.run.session_id) == ["hello", "let me see", "seen a", "seen b"]


async def test_a_fork_of_a_fork_and_texts_too_large_for_an_event_are_whole(journal: Journal) -> None:
    scene = Scene(journal)
    large = "x" * 100_000

    def look() -> str:
        """Look."""
        return large[:60_000]

    await scene.says([("look", {})], large, "short", tools=[Functions(look, read_only=True)])
    run = await scene.ask("one", session_id="s")
    await scene.ask("two", session_id="s")
    model = await scene.says("in the fork", "in the second")
    host = scene.host
    source = (await host.open(run.info.run_id)).info
    first = await forking.fork(journal, source, "local", FakeClock(), session_id="f1")
    second = await forking.fork(journal, first.run, "local", FakeClock(), session_id="f2")
    for session in ("f1", "f2"):
        live = await host.start(Ask(agent=next(iter(host.agents)), message="and now?", session_id=session))
        await live.wait()
        told = [message.content for message in model.requests[-1].messages]
        assert told == ["one", "", large[:60_000], large, "and now?"]
    assert second.run.session_id == "f2"


async def test_a_session_that_is_there_is_not_forked_into(journal: Journal) -> None:
    await whole_run(journal, "run-1", "s")
    await forked(journal, "run-1", session_id="new")
    for taken in ("new", "s"):
        with pytest.raises(errors.Conflict) as refused:
            await forked(journal, "run-1", session_id=taken)
        assert refused.value.reason == "SessionTaken"
    for wrong in ({"at": 0}, {"at": 6}, {"session_id": "a b"}):
        with pytest.raises(errors.BadRequest):
            await forked(journal, "run-1", **wrong)
    assert len(await journal.sessions()) == 2


async def test_of_two_who_fork_into_one_session_at_once_one_does(journal: Journal) -> None:
    await whole_run(journal, "run-1", "s")
    for number in range(5):
        both = (forked(journal, "run-1", session_id=f"f{number}") for _ in range(2))
        outcomes = await asyncio.gather(*both, return_exceptions=True)
        assert sorted(type(outcome).__name__ for outcome in outcomes) == ["Conflict", "Fork"]
        assert len(await journal.runs(session_id=f"f{number}")) == 1


async def test_what_was_summed_up_takes_no_room_in_a_fork(journal: Journal, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(forking, "MAX_BYTES", 150_000)
    for index in range(1, 21):
        run = Teller(f"run-{index}", "s", minute=index)
        await run.create(journal)
        if index == 11:
            await run.append(journal, run.event(ev.Summary, content="they said hello", model="m", kept=2))
        await run.end(journal, "x" * 10_000)
    fork = await forked(journal, "run-20")
    first = await spill.restore(journal, (await journal.events(fork.run.run_id))[2])
    assert isinstance(first, ev.UserMessage)
    assert "they said hello" in first.history[0].content
    assert len(first.history) == 1 + 2 + 2 * 9
