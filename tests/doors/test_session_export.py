"""A session over HTTP from its beginning to its end, however long it is, and what is told where that is not all."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import pytest

from kadre.engine import events as ev
from kadre.engine.memory.inmemory import InMemoryJournal
from kadre.server import export
from tests.contract.journal.story import Teller
from tests.doors.test_sessions import Http, answered
from tests.support.gateway import gateway
from tests.support.scene import Scene
from tests.support.serving import serving

pytestmark = pytest.mark.requirement("session-keeping")


@asynccontextmanager
async def served(scene: Scene) -> AsyncIterator[Http]:
    """A client of the scene's host."""
    async with serving(scene) as url, aiohttp.ClientSession(url) as http:
        yield http


async def long_session(scene: Scene, messages: int) -> list[str]:
    """A session of so many messages in the scene's store; their texts."""
    texts = []
    for number in range(1, messages // 2 + 1):
        run = Teller(f"run-{number}", "long", agent="default/a", minute=number)
        await run.create(scene.journal, f"question {number}")
        await run.end(scene.journal, f"answer {number}")
        texts += [f"question {number}", f"answer {number}"]
    return texts


async def test_a_long_session_is_exported_from_its_first_message_to_its_last(scene: Scene, http: Http) -> None:
    await scene.says("hello")
    texts = await long_session(scene, 2500)
    status, whole = await answered(http.get("/sessions/long?whole=true"))
    assert (status, [message["content"] for message in whole["messages"]]) == (200, texts)
    assert [run["run_id"] for run in whole["runs"]] == [f"run-{number}" for number in range(1250, 0, -1)]
    assert whole["complete"] is True
    async with http.head("/sessions/long?whole=true") as head:
        assert (head.status, head.content_type, await head.read()) == (200, "application/json", b"")
    _, text = await answered(http.get("/sessions/long?format=markdown"))
    assert [line for line in text.splitlines() if line.startswith(("question", "answer"))] == texts
    assert "not kept any more" not in text
    _, latest = await answered(http.get("/sessions/long"))
    assert [message["content"] for message in latest["messages"]] == texts[-1000:]
    assert (latest["complete"], latest["rest"]) == (False, "/sessions/long?whole=true&agent=default%2Fa")
    assert (await answered(http.get(latest["rest"])))[1] == whole
    _, few = await answered(http.get("/sessions/long?limit=3"))
    assert ([each["content"] for each in few["messages"]], len(few["runs"])) == (["question 1250", "answer 1250"], 3)


async def test_an_export_says_what_the_store_has_forgotten() -> None:
    scene = Scene(InMemoryJournal(max_runs=40))
    await scene.says("hello")
    texts = await long_session(scene, 100)
    async with served(scene) as http:
        _, whole = await answered(http.get("/sessions/long?whole=true"))
        assert ([message["content"] for message in whole["messages"]], whole["complete"]) == (texts[-80:], False)
        text = (await answered(http.get("/sessions/long?format=markdown")))[1]
        assert text.endswith("answer 50\n\n*What was said before that is not kept any more.*\n")


async def test_an_export_does_not_count_runs_that_came_meanwhile_for_those_that_were_forgotten() -> None:
    journal = InMemoryJournal(max_runs=40)
    scene = Scene(journal)
    await long_session(scene, 80)
    (session,) = await journal.sessions()
    for form in (export.as_json, export.as_markdown):
        pieces = form(journal, session)
        told = [await anext(pieces)]
        later = Teller(f"run-{form.__name__}", "long", agent="default/a", minute=100)
        await later.create(journal, "and now?")
        await later.end(journal, "no more")
        text = b"".join([*told, *[piece async for piece in pieces]]).decode()
        assert "question 40" in text
        assert not re.search(r"question 1\b", text)
        assert text.endswith(('"complete":false}\n', f"{export.GONE}\n"))
        (session,) = await journal.sessions()


async def test_a_session_that_is_forgotten_while_it_is_exported_is_cut_off() -> None:
    class Leaving(InMemoryJournal):
        async def history(self, agent: str, session_id: str, before_order: int, limit: int) -> Sequence[ev.Event]:
            said = await super().history(agent, session_id, before_order, limit)
            if before_order > 30:
                await self.delete_session(agent, session_id)
            return said

    scene = Scene(Leaving())
    await scene.says("hello")
    await long_session(scene, 100)
    async with served(scene) as http, http.get("/sessions/long?whole=true") as answer:
        with pytest.raises(aiohttp.ClientPayloadError):
            await answer.read()


async def test_a_session_larger_than_a_part_is_exported_and_deleted_through_the_gateway(tmp_path: Path) -> None:
    here, other = Scene(), Scene()
    for scene in (here, other):
        await scene.says("hello")
    for number in range(1, 121):
        run = Teller(f"run-{number}", "long", agent="default/a", minute=number)
        await run.create(here.journal, f"question {number}")
        await run.end(here.journal, f"answer {number} {'x' * 60_000}")
    await other.ask("a part of it", session_id="long")
    async with gateway(tmp_path, {"a": [other, here]}) as (http, _):
        status, whole = await answered(http.get("/sessions/long?whole=true"))
        assert (status, len(whole["messages"]), whole["complete"]) == (200, 240, True)
        assert (await answered(http.get("/sessions/long?format=markdown")))[1].count("## User") == 120
        assert len((await answered(http.get("/sessions/long")))[1]["messages"]) == 240
        assert (await answered(http.delete("/sessions/long")))[0] == 204
        assert list(await here.journal.sessions()) == list(await other.journal.sessions()) == []
