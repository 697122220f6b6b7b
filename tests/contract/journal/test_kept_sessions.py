"""A session in every store: it gets a title, it is forgotten with all it holds, and what was said in it is found."""

from __future__ import annotations

import asyncio

import pytest

from kadre.base import errors
from kadre.base.clock import FakeClock
from kadre.engine import events as ev
from kadre.engine.memory import redis_reads
from kadre.engine.memory.port import Journal
from kadre.engine.searching import search
from tests.contract.journal.story import AGENT, Teller, whole_run

pytestmark = pytest.mark.requirement("session-keeping")


async def titles(journal: Journal) -> dict[str, str]:
    return {f"{info.agent} {info.session_id}": info.title for info in await journal.sessions()}


async def test_a_title_is_kept_and_can_be_taken_away(journal: Journal) -> None:
    await whole_run(journal, "run-1", "s")
    await whole_run(journal, "run-2", "s", agent="default/other")
    await journal.rename_session(AGENT, "s", "Der kaputte Kessel ☕")
    assert await titles(journal) == {"default/assistant s": "Der kaputte Kessel ☕", "default/other s": ""}
    here = await journal.sessions(session_id="s", caller="local")
    assert {info.agent for info in here} == {AGENT, "default/other"}
    assert list(await journal.sessions(session_id="t")) == []
    await whole_run(journal, "run-3", "s", minute=1)
    assert (await titles(journal))["default/assistant s"] == "Der kaputte Kessel ☕"
    await journal.rename_session(AGENT, "s", "")
    assert (await titles(journal))["default/assistant s"] == ""
    with pytest.raises(errors.NotFound):
        await journal.rename_session(AGENT, "none", "x")


async def test_a_session_is_forgotten_with_all_it_holds(journal: Journal) -> None:
    run = Teller("run-1", "s")
    await run.create(journal)
    digest = await journal.put_blob(b"large")
    large = run.event(ev.AssistantMessage, content="la…", blobs={"content": digest})
    await run.append(journal, large, run.event(ev.RunFinished, status="completed"))
    await journal.rename_session(AGENT, "s", "gone soon")
    await whole_run(journal, "run-2", "s", agent="default/other")
    await whole_run(journal, "run-3", "kept")
    await journal.delete_session(AGENT, "s")
    assert await journal.run("run-1") is None
    assert list(await journal.events("run-1")) == []
    assert list(await journal.history(AGENT, "s", 10, 10)) == []
    assert await titles(journal) == {"default/other s": "", "default/assistant kept": ""}
    assert (await Teller("run-1", "s", caller="ann").create(journal)).run.order == 1
    assert (await titles(journal))["default/assistant s"] == ""
    with pytest.raises(errors.NotFound) as refused:
        await journal.delete_session(AGENT, "none")
    assert refused.value.reason == "NoSuchSession"


async def test_a_session_is_not_forgotten_while_a_run_of_it_is_open(journal: Journal) -> None:
    await whole_run(journal, "run-1", "s")
    run = Teller("run-2", "s")
    await run.create(journal)
    with pytest.raises(errors.Conflict) as refused:
        await journal.delete_session(AGENT, "s")
    assert refused.value.reason == "SessionBusy"
    assert await journal.run("run-1") is not None
    await run.end(journal)
    await journal.delete_session(AGENT, "s")
    assert list(await journal.sessions()) == []


async def test_a_run_that_begins_while_its_session_is_forgotten_is_of_it_or_of_a_new_one(journal: Journal) -> None:
    for number in range(20):
        await whole_run(journal, f"old-{number}", f"s{number}")
        run = Teller(f"new-{number}", f"s{number}")
        created, gone = await asyncio.gather(
            run.create(journal), journal.delete_session(AGENT, f"s{number}"), return_exceptions=True
        )
        assert not isinstance(created, BaseException)
        assert (created.run.order, type(gone)) in {(1, type(None)), (2, errors.Conflict)}
        assert await journal.run(run.run_id) is not None
        await run.end(journal)


async def test_what_was_said_is_found_where_it_was_said(journal: Journal) -> None:
    for index, (session, caller) in enumerate([("a", "ann"), ("b", "ann"), ("c", "bob")]):
        run = Teller(f"run-{index}", session, caller=caller, minute=index)
        await run.create(journal, f"Where is my KETTLE number {index}?")
        await run.end(journal, 'It "boils" – wait')
    await journal.rename_session(AGENT, "a", "Holidays")

    async def found(text: str, **how: str) -> list[str]:
        return [each.session.session_id for each in (await search(journal, text, FakeClock(), **how)).found]  # type: ignore[arg-type]  # filters

    assert await found("kettle") == ["c", "b", "a"]
    assert await found("kettle", caller="ann") == ["b", "a"]
    assert await found('"BOILS" –', agent=AGENT) == ["c", "b", "a"]
    assert await found("number 1") == ["b"]
    assert await found("holiday") == ["a"]
    assert await found("user_message") == []
    assert await found("kettle", agent="default/other") == []
    few = await search(journal, "kettle", FakeClock(), limit=2)
    assert (len(few.found), few.complete) == (2, False)
    assert few.found[0].excerpt == "Where is my KETTLE number 2?"


async def test_the_sessions_of_a_name_are_all_found_however_many_runs_one_of_them_has(
    journal: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(redis_reads, "AT_ONCE", 10)
    await whole_run(journal, "early", "s", agent="default/other", caller="bob")
    for number in range(40):
        await whole_run(journal, f"run-{number}", "s", minute=number + 1)
    await whole_run(journal, "apart", "t", agent="default/third")
    found = await journal.sessions(session_id="s")
    assert [(info.agent, info.runs) for info in found] == [(AGENT, 40), ("default/other", 1)]
    assert [info.agent for info in await journal.sessions(session_id="s", caller="bob")] == ["default/other"]
    assert [info.agent for info in await journal.sessions(session_id="s", limit=1)] == [AGENT]
    assert list(await journal.sessions(session_id="s", agent="default/third")) == []
