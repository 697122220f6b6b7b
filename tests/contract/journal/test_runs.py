"""What every store promises of one run: its events, its writer, its projection."""

from __future__ import annotations

import asyncio
import contextlib

import msgspec
import pytest

from kadre.base import errors
from kadre.engine import events as ev
from kadre.engine.memory.port import Journal
from kadre.engine.messages import Usage
from tests.contract.journal.story import Teller, numbers, whole_run


async def test_a_run_is_its_events_in_order_without_gaps(journal: Journal) -> None:
    run = Teller("run-1", "s")
    created = await run.create(journal, "hello é\u2028 \x00")
    await run.end(journal)
    events = await journal.events("run-1")
    assert numbers(events) == [1, 2, 3, 4, 5]
    assert [type(event) for event in events] == [
        ev.RunStarted, ev.UserMessage, ev.AssistantMessage, ev.UsageEvent, ev.RunFinished,
    ]  # fmt: skip
    assert isinstance(events[1], ev.UserMessage)
    assert events[1].content == "hello é\u2028 \x00"
    assert (created.position, created.existing, created.run.order, created.run.epoch) == (0, False, 1, 1)


async def test_events_are_read_from_any_number_with_a_limit(journal: Journal) -> None:
    run = Teller("run-1", "s")
    await run.create(journal)
    await run.append(journal, run.event(ev.System, reason="A", message="a"))
    await run.end(journal)
    for after in range(8):
        for limit in range(8):
            expected = [seq for seq in range(1, 7) if seq > after][:limit]
            assert numbers(await journal.events("run-1", after, limit)) == expected


async def test_a_run_nobody_created_has_no_events(journal: Journal) -> None:
    assert list(await journal.events("run-1")) == []
    assert await journal.run("run-1") is None
    assert list(await journal.history("default/assistant", "s", 5, 10)) == []


async def test_the_same_run_id_again_returns_the_run_and_writes_nothing(journal: Journal) -> None:
    await Teller("run-1", "s").create(journal, "first")
    again = await Teller("run-1", "another-session").create(journal, "second")
    assert again.existing
    assert again.run.session_id == "s"
    assert len(await journal.events("run-1")) == 2
    assert [info.run_id for info in await journal.runs()] == ["run-1"]


async def test_the_same_run_id_returns_a_run_that_has_ended_too(journal: Journal) -> None:
    await whole_run(journal, "run-1", "s")
    again = await Teller("run-1", "s").create(journal)
    assert (again.existing, again.run.status) == (True, "completed")


async def test_a_run_with_ids_made_for_it_is_a_run_like_any_other(journal: Journal) -> None:
    created = await Teller("run-1", "s").create(journal, fresh=True)
    assert (created.existing, created.run.order) == (False, 1)
    assert (await Teller("run-1", "s").create(journal)).existing
    assert (await Teller("run-2", "s").create(journal)).position == 1


async def test_ids_that_were_not_made_for_a_run_after_all_write_nothing(journal: Journal) -> None:
    await whole_run(journal, "run-1", "s")
    with contextlib.suppress(errors.Unavailable):
        await Teller("run-1", "t").create(journal, fresh=True)
    assert [info.session_id for info in await journal.runs()] == ["s"]
    assert len(await journal.events("run-1")) == 5
    assert [info.session_id for info in await journal.sessions()] == ["s"]


async def test_a_run_id_asked_for_twice_at_once_is_created_once(journal: Journal) -> None:
    made = await asyncio.gather(*(Teller("run-1", f"s{index}").create(journal) for index in range(5)))
    assert [created.existing for created in made].count(False) == 1
    assert len({created.run.session_id for created in made}) == 1


@pytest.mark.parametrize("other", [{"caller": "mallory"}, {"agent": "default/other"}])
async def test_a_run_id_of_another_caller_or_agent_is_taken(journal: Journal, other: dict[str, str]) -> None:
    await Teller("run-1", "s").create(journal)
    with pytest.raises(errors.Conflict) as refused:
        await Teller("run-1", "s", **other).create(journal)  # type: ignore[arg-type]  # a mapping of two names
    assert refused.value.reason == "RunIdTaken"


async def test_of_two_writers_at_one_number_the_loser_is_fenced(journal: Journal) -> None:
    run = Teller("run-1", "s")
    await run.create(journal)
    mine, theirs = Teller("run-1", "s"), Teller("run-1", "s")
    mine.seq = theirs.seq = 2
    results = await asyncio.gather(
        mine.append(journal, mine.event(ev.System, reason="Mine", message="")),
        theirs.append(journal, theirs.event(ev.System, reason="Theirs", message="")),
        return_exceptions=True,
    )
    assert [type(result) for result in results] == [type(None), errors.Fenced]
    events = await journal.events("run-1")
    assert [event.reason for event in events if isinstance(event, ev.System)] == ["Mine"]


async def test_a_loser_does_not_spoil_the_appends_beside_it(journal: Journal) -> None:
    runs = [Teller(f"run-{index}", f"s{index}") for index in range(10)]
    await asyncio.gather(*(run.create(journal) for run in runs))
    runs[4].epoch = 7
    results = await asyncio.gather(*(run.end(journal) for run in runs), return_exceptions=True)
    assert [index for index, result in enumerate(results) if result is not None] == [4]
    statuses = {info.run_id: info.status for info in await journal.runs()}
    assert statuses.pop("run-4") == "running"
    assert set(statuses.values()) == {"completed"}


async def test_what_cannot_be_written_does_not_spoil_the_appends_beside_it(journal: Journal) -> None:
    good, bad = Teller("run-1", "s1"), Teller("run-2", "s2")
    await asyncio.gather(good.create(journal), bad.create(journal))
    skipping = bad.event(ev.System, reason="A", message="")
    skipping = msgspec.structs.replace(skipping, seq=9)
    results = await asyncio.gather(good.end(journal), journal.append("run-2", 2, [skipping], 1), return_exceptions=True)
    assert [type(result) for result in results] == [type(None), ValueError]
    assert numbers(await journal.events("run-2")) == [1, 2]


async def test_an_ended_run_takes_no_more_events(journal: Journal) -> None:
    run = await whole_run(journal, "run-1", "s")
    with pytest.raises(errors.Fenced):
        await run.append(journal, run.event(ev.System, reason="A", message=""))
    with pytest.raises(errors.Fenced):
        await Teller("run-9", "s").append(journal, Teller("run-9", "s").event(ev.System, reason="A", message=""))


async def test_nothing_comes_after_the_end_in_one_append(journal: Journal) -> None:
    run = Teller("run-1", "s")
    await run.create(journal)
    with pytest.raises(ValueError, match="cannot be event 6"):
        await run.append(journal, *run.last(), run.event(ev.System, reason="A", message=""))
    assert len(await journal.events("run-1")) == 2


async def test_a_run_begins_with_its_start(journal: Journal) -> None:
    run = Teller("run-1", "s")
    run.first = lambda message="": [run.event(ev.UserMessage, content=message)]  # type: ignore[method-assign]  # a wrong host
    with pytest.raises(ValueError, match="run_started"):
        await run.create(journal)
    assert await journal.run("run-1") is None


async def test_a_claim_fences_the_writer_before(journal: Journal) -> None:
    run = Teller("run-1", "s")
    await run.create(journal)
    claimed = await journal.claim("run-1")
    assert claimed.epoch == 2
    with pytest.raises(errors.Fenced):
        await run.end(journal)
    successor = Teller("run-1", "s")
    successor.seq, successor.epoch = 2, 2
    await successor.end(journal)
    info = await journal.run("run-1")
    assert info is not None
    assert (info.status, info.epoch) == ("completed", 2)


async def test_only_an_open_run_can_be_claimed(journal: Journal) -> None:
    await whole_run(journal, "run-1", "s")
    with pytest.raises(errors.Conflict):
        await journal.claim("run-1")
    with pytest.raises(errors.NotFound):
        await journal.claim("run-2")


async def test_a_run_as_lists_show_it_follows_its_events(journal: Journal) -> None:
    run = Teller("run-1", "s")
    created = await run.create(journal, parent="run-0")
    assert created.run == await journal.run("run-1")
    await run.append(journal, run.asks("a", "b"))
    assert (await _status(journal), await _last_seq(journal)) == ("waiting", 3)
    await run.append(journal, run.event(ev.ApprovalDecided, approval_id="a", decision="allow", by="ann"))
    assert await _status(journal) == "waiting"
    await run.append(journal, run.event(ev.ApprovalDecided, approval_id="b", decision="deny", by="expiry"))
    assert await _status(journal) == "running"
    await run.append(journal, run.event(ev.UsageEvent, model="m", usage=Usage(1, 1, 2)))
    await run.end(journal, status="failed")
    info = await journal.run("run-1")
    assert info is not None
    assert (info.status, info.last_seq, info.usage) == ("failed", 9, Usage(4, 3, 7))
    assert (info.agent, info.session_id, info.caller, info.parent_run_id) == (
        "default/assistant",
        "s",
        "local",
        "run-0",
    )
    assert (info.created, info.updated) == (created.run.created, (await journal.events("run-1"))[-1].time)
    assert list(await journal.runs()) == [info]


async def _status(journal: Journal) -> str:
    info = await journal.run("run-1")
    assert info is not None
    assert list(await journal.runs(status=info.status)) == [info]
    return info.status


async def _last_seq(journal: Journal) -> int:
    info = await journal.run("run-1")
    assert info is not None
    return info.last_seq
