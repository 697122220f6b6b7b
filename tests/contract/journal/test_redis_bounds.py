"""What one question costs a Redis server, which does nothing else while it answers: never more than a page."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Sequence
from datetime import timedelta

import pytest

from kadre.base import errors
from kadre.base.clock import SystemClock
from kadre.engine import events as ev
from kadre.engine.memory.port import RunInfo, SessionInfo
from kadre.engine.memory.redis import RedisJournal
from kadre.engine.memory.remote_journal import RemoteJournal
from kadre.engine.memory.remote_watch import MOST
from tests.contract.journal.conftest import LEASE
from tests.contract.journal.story import AGENT, START, Teller, numbers, said, whole_run
from tests.support.redis import RedisServer

pytestmark = [pytest.mark.stores, pytest.mark.needs("redis"), pytest.mark.requirement("redis-pages")]
LARGE = "x" * 60_000
"""Nearly as much as an event may have."""


@pytest.fixture
async def ours(redis: RedisServer, space: str) -> AsyncIterator[RemoteJournal]:
    journal = await RedisJournal.open(redis.url, prefix=f"{space}:")
    yield journal
    await journal.aclose()


async def test_a_long_history_comes_in_pages_that_a_server_may_bound(redis: RedisServer, ours: RemoteJournal) -> None:
    """60 runs with a message of 60 KiB each, and one with 150 of them: 12 MiB, from a server that answers with 5."""
    expected = []
    for order in range(1, 62):
        run = Teller(f"run-{order}", "s")
        await run.create(ours, f"{order} {LARGE}")
        answers = [f"{order}.{number} {LARGE}" for number in range(150 if order == 30 else 1)]
        for start in range(0, len(answers), 50):
            part = answers[start : start + 50]
            await run.append(ours, *(run.event(ev.AssistantMessage, content=answer) for answer in part))
        await run.append(ours, run.event(ev.RunFinished, status="completed"))
        expected.append([f"{order} {LARGE}", *answers])
    for order in (62, 63):
        await Teller(f"run-{order}", "s").create(ours)
    await redis.asked("CONFIG", "SET", "client-output-buffer-limit", "normal 5mb 0 0")
    try:
        for before, limit in ((99, 1000), (64, 1000), (61, 1000), (62, 25), (31, 1), (30, 29), (2, 5)):
            runs = expected[: before - 1][-limit:]
            found = said(await ours.history(AGENT, "s", before, limit))
            assert found == [text for run in runs for text in run], (before, limit)
        assert list(await ours.history(AGENT, "s", 99, 0)) == []
    finally:
        await redis.asked("CONFIG", "SET", "client-output-buffer-limit", "normal 0 0 0")


async def test_a_history_of_a_session_as_most_are_is_one_question(redis: RedisServer, ours: RemoteJournal) -> None:
    for order in range(1, 21):
        await whole_run(ours, f"run-{order}", "s")
    await ours.history(AGENT, "s", 21, 100)  # the script is known from now on
    await redis.asked("CONFIG", "RESETSTAT")
    assert len(said(await ours.history(AGENT, "s", 21, 100))) == 40
    assert "cmdstat_evalsha:calls=1," in await redis.asked("INFO", "commandstats")


async def _rows(redis: RedisServer, asked: Awaitable[Sequence[RunInfo | SessionInfo]]) -> tuple[list[str], int]:
    """The sessions of what was found, and how many rows the server read for it."""
    await redis.asked("CONFIG", "RESETSTAT")
    found = [info.session_id for info in await asked]
    told = (await redis.asked("INFO", "commandstats")).partition("cmdstat_hmget:calls=")[2]
    return found, int(told.partition(",")[0] or 0)


async def test_lists_of_one_caller_are_found_without_a_look_at_the_others(
    redis: RedisServer, ours: RemoteJournal
) -> None:
    async def one(minute: int) -> None:
        told = {"caller": "ann" if minute in {0, 300, 599} else "local", "agent": AGENT if minute else "default/other"}
        await whole_run(ours, f"run-{minute}", f"s{minute}", minute=minute, **told)

    await asyncio.gather(*(one(minute) for minute in range(600)))
    await whole_run(ours, "run-600", "s600", minute=600, agent="default/other")
    assert await _rows(redis, ours.runs(caller="ann")) == (["s599", "s300", "s0"], 3)
    assert await _rows(redis, ours.sessions(caller="ann")) == (["s599", "s300", "s0"], 3)
    assert await _rows(redis, ours.runs(caller="ann", agent=AGENT, status="completed")) == (["s599", "s300"], 3)
    assert await _rows(redis, ours.sessions(caller="ann", agent=AGENT)) == (["s599", "s300"], 3)
    assert await _rows(redis, ours.runs(caller="local", agent="default/other")) == (["s600"], 2)
    assert await _rows(redis, ours.sessions(caller="local", agent="default/other")) == (["s600"], 2)
    assert await _rows(redis, ours.sessions(caller="ann", session_id="s300")) == (["s300"], 2)
    assert await _rows(redis, ours.runs(caller="nobody")) == ([], 0)
    assert await ours.delete_sessions_before(AGENT, START + timedelta(minutes=599)) == 598
    assert await _rows(redis, ours.runs(caller="ann")) == (["s599", "s0"], 2)
    assert await _rows(redis, ours.sessions(caller="ann")) == (["s599", "s0"], 2)


async def test_a_journal_without_lists_of_callers_gets_them_once(redis: RedisServer, space: str) -> None:
    """As a Kadre left it that knew no such lists; two that know them open it at once."""
    journal = await RedisJournal.open(redis.url, prefix=f"{space}:")
    runs = (
        whole_run(journal, f"run-{minute}", f"s{minute}", minute=minute, caller=f"c{minute % 2}")
        for minute in range(1100)
    )
    await asyncio.gather(*runs)
    expected = [(await journal.runs(caller="c1", limit=900)), (await journal.sessions(caller="c1", limit=900))]
    await journal.aclose()
    for key in ("caller:c0", "caller:c1", "sessions-by:c0", "sessions-by:c1"):
        assert await redis.asked("DEL", f"{space}:{key}") == "1"
    await redis.asked("SET", f"{space}:version", "1")
    both = await asyncio.gather(*(RedisJournal.open(redis.url, prefix=f"{space}:") for _ in range(2)))
    for opened in both:
        found = [(await opened.runs(caller="c1", limit=900)), (await opened.sessions(caller="c1", limit=900))]
        assert found == expected
        assert (len(found[0]), len(found[1])) == (550, 550)
        await opened.aclose()
    assert await redis.asked("GET", f"{space}:version") == "2"


async def test_what_an_older_kadre_writes_meanwhile_gets_into_the_lists_of_callers(
    redis: RedisServer, space: str
) -> None:
    """Pods are replaced one by one: those that are left know no such lists, and are not told."""
    await (await RedisJournal.open(redis.url, prefix=f"{space}:")).aclose()
    await redis.asked("SET", f"{space}:version", "1")
    journal = await RedisJournal.open(redis.url, prefix=f"{space}:", lease=LEASE)
    run = Teller("run-1", "s", caller="ann")
    run.start = SystemClock().now()
    await run.create(journal)
    for key in ("caller:ann", "sessions-by:ann"):
        assert await redis.asked("DEL", f"{space}:{key}") == "1"
    async with asyncio.timeout(20):
        while not (await journal.runs(caller="ann") and await journal.sessions(caller="ann")):
            await journal.news()
    await journal.aclose()


async def test_of_runs_that_were_left_no_more_are_looked_at_than_are_taken_up(redis: RedisServer, space: str) -> None:
    """A process that served thousands has ended: each of the others asks again and again."""
    left, ours = [await RedisJournal.open(redis.url, prefix=f"{space}:") for _ in range(2)]
    await asyncio.gather(*(Teller(f"run-{number}", f"s{number}").create(left) for number in range(3 * MOST)))
    await left.aclose()
    await ours.abandoned({AGENT})
    await redis.asked("CONFIG", "RESETSTAT")
    assert len(await ours.abandoned({AGENT})) == MOST
    told = (await redis.asked("INFO", "commandstats")).partition("cmdstat_hmget:calls=")[2]
    assert int(told.partition(",")[0]) == MOST
    await ours.aclose()


async def test_a_run_whose_row_a_server_threw_away_is_not_told_twice(
    redis: RedisServer, ours: RemoteJournal, space: str
) -> None:
    """As maxmemory-policy allkeys-… does: what else there is of the run is in the way of another of its name."""
    run = Teller("run-1", "s")
    await run.create(ours)
    await redis.asked("DEL", f"{space}:run:run-1")
    with pytest.raises(errors.Conflict):
        await Teller("run-1", "s").create(ours, on_busy="interrupt")
    assert numbers(await ours.events("run-1")) == [1, 2]
