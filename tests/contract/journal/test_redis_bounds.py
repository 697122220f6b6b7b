"""What one question costs a Redis server, which does nothing else while it answers: never more than a page."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from kadre.engine import events as ev
from kadre.engine.memory.redis import RedisJournal
from kadre.engine.memory.remote_journal import RemoteJournal
from tests.contract.journal.story import AGENT, Teller, said, whole_run
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
