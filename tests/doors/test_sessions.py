"""Sessions over HTTP: found, named, taken along, forked and forgotten, by whom they belong to."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from kadre.base.errors import TooMany
from kadre.engine import events as ev
from kadre.engine.memory.inmemory import InMemoryJournal
from kadre.engine.tools.functions import Functions
from kadre.server.turns import Turns
from tests.contract.journal.story import whole_run
from tests.support.gateway import gateway
from tests.support.scene import Asking, Scene
from tests.support.serving import serving

Http = aiohttp.ClientSession
pytestmark = pytest.mark.requirement("session-keeping")


async def answered(request: Any) -> tuple[int, Any]:
    async with request as answer:
        text = answer.content_type != "application/json"
        return answer.status, (await answer.text() if text else await answer.json())


def look(text: str) -> str:
    """Look at it."""
    return f"seen ```{text}```"


async def test_a_session_is_named_found_and_forgotten(scene: Scene, http: Http) -> None:
    await scene.says("hello", "again", "other")
    await scene.ask("Where is the kettle?", session_id="s1")
    run = await scene.ask("two", session_id="s1")
    await scene.ask("three", session_id="s2")
    status, told = await answered(http.patch("/sessions/s1", json={"title": " The  broken\nkettle "}))
    assert (status, told) == (200, {"session_id": "s1", "agent": "default/a", "title": "The broken kettle"})
    _, listed = await answered(http.get("/sessions?limit=10"))
    assert {each["session_id"]: each["title"] for each in listed["sessions"]} == {"s1": "The broken kettle", "s2": ""}
    _, found = await answered(http.get("/sessions", params={"q": "KETTLE?"}))
    assert [(each["session_id"], each["excerpt"]) for each in found["sessions"]] == [("s1", "Where is the kettle?")]
    assert found["complete"] is True
    assert (await answered(http.delete("/sessions/s1")))[0] == 204
    assert (await answered(http.get("/sessions/s1")))[0] == 404
    assert (await answered(http.get(f"/runs/{run.info.run_id}")))[0] == 404
    assert (await answered(http.get("/sessions/s2")))[0] == 200


async def test_a_session_is_not_deleted_under_a_run(scene: Scene, http: Http) -> None:
    await scene.says([("look", {"text": "x"})], "done", tools=[Asking(look)])
    live = await scene.start(session_id="s")
    await scene.approval(live)
    status, told = await answered(http.delete("/sessions/s"))
    assert (status, told["error"]["reason"]) == (409, "SessionBusy")
    assert len(live.pending_approvals()) == 1


async def test_a_session_with_a_namesake_that_was_not_used_for_long_is_not_deleted_by_its_name(
    scene: Scene, http: Http
) -> None:
    await scene.says("hello")
    await scene.says("hello", name="b")
    await whole_run(scene.journal, "old", "s", agent="default/b")
    for index in range(1001):
        await whole_run(scene.journal, f"run-{index}", "s", agent="default/a", minute=index + 1)
    status, told = await answered(http.delete("/sessions/s"))
    assert (status, told["error"]["reason"]) == (409, "AmbiguousSession")
    assert told["error"]["candidates"] == ["default/a", "default/b"]
    assert (await answered(http.delete("/sessions/s?agent=b")))[0] == 204
    assert (await answered(http.delete("/sessions/s")))[0] == 204


@pytest.mark.parametrize(
    ("way", "path", "sent", "reason"),
    [
        ("PATCH", "/sessions/s", {}, "InvalidBody"),
        ("PATCH", "/sessions/s", {"titel": "x"}, "InvalidBody"),
        ("PATCH", "/sessions/s", {"title": "x" * 201}, "BadTitle"),
        ("PATCH", "/sessions/none", {"title": "x"}, "NoSuchSession"),
        ("DELETE", "/sessions/none", None, "NoSuchSession"),
        ("DELETE", "/sessions/twice", None, "AmbiguousSession"),
        ("GET", f"/sessions?q={'x' * 201}", None, "BadQuery"),
        ("GET", "/sessions/s?format=pdf", None, "BadFormat"),
    ],
)
async def test_what_cannot_be_done_says_so(
    scene: Scene, http: Http, way: str, path: str, sent: Any, reason: str
) -> None:
    await scene.says("hello", "again")
    await scene.says("hello", name="b")
    for name, session in (("a", "s"), ("a", "twice"), ("b", "twice")):
        await scene.ask(name=name, session_id=session)
    status, told = await answered(http.request(way, path, json=sent))
    assert (status >= 400, told["error"]["reason"]) == (True, reason)
    assert len((await answered(http.get("/sessions")))[1]["sessions"]) == 3


async def test_a_session_is_exported_whole_and_for_people(scene: Scene, http: Http) -> None:
    large = "y" * 100_000
    await scene.says([("look", {"text": "x"})], large, tools=[Functions(look, read_only=True)])
    await scene.ask("one", session_id="s")
    _, short = await answered(http.get("/sessions/s"))
    assert len(short["messages"][-1]["content"]) < 2000
    _, whole = await answered(http.get("/sessions/s?whole=true"))
    assert whole["messages"][-1]["content"] == large
    status, text = await answered(http.get("/sessions/s?format=markdown"))
    assert status == 200
    assert text.startswith("# Session s of default/a\n\n## User\n\none\n\n## Assistant\n\nCalls `look`:")
    assert "````\nseen ```x```\n````" in text
    assert text.endswith(f"{large}\n")


@pytest.mark.requirement("session-fork")
async def test_a_fork_is_answered_with_the_history_it_was_taken_with(scene: Scene, http: Http) -> None:
    model = await scene.says(
        "first", [("look", {"text": "x"})], "second", "third", "forked", tools=[Functions(look, read_only=True)]
    )
    await scene.ask("one", session_id="s")
    run = await scene.ask("two", session_id="s")
    await scene.ask("three", session_id="s")
    path = f"/runs/{run.info.run_id}/fork"
    status, made = await answered(http.post(path, json={"at": 4, "session_id": "f"}))
    assert status == 201
    assert (made["session_id"], made["status"], made["forked"]["at"]) == ("f", "completed", 3)
    assert "amid the calls" in made["forked"]["note"]
    status, told = await answered(http.post("/agents/a/chat", json={"message": "four", "session_id": "f"}))
    assert (status, told["response"]) == (200, "forked")
    asked = [(message.role, message.content) for message in model.requests[-1].messages]
    assert asked == [("user", "one"), ("assistant", "first"), ("user", "two"), ("user", "four")]
    assert (await answered(http.get("/sessions/s")))[1]["messages"][-1]["content"] == "third"
    for sent, reason in (
        ({"at": 99}, "NoSuchEvent"),
        ({"session_id": "f"}, "SessionTaken"),
        ({"at": "x"}, "InvalidBody"),
    ):
        assert (await answered(http.post(path, json=sent)))[1]["error"]["reason"] == reason
    status, made = await answered(http.post(path))
    assert (status, made["forked"]["note"]) == (201, "")


@pytest.mark.requirement("session-fork")
async def test_two_forks_are_made_at_once_a_few_wait_and_the_others_are_told_to_come_back() -> None:
    class Slow(InMemoryJournal):
        busy = most = 0
        go = asyncio.Event()
        entered = asyncio.Event()

        async def history(self, agent: str, session_id: str, before_order: int, limit: int) -> Sequence[ev.Event]:
            self.busy += 1
            self.most = max(self.most, self.busy)
            if self.busy == 2:
                self.entered.set()
            await self.go.wait()
            self.busy -= 1
            return await super().history(agent, session_id, before_order, limit)

    journal = Slow()
    scene = Scene(journal)
    await scene.says("hello")
    for index in (1, 2):
        await whole_run(journal, f"run-{index}", "s", agent="default/a", minute=index)
    door = "/runs/run-2/fork"
    async with serving(scene) as url, aiohttp.ClientSession(url) as http:

        async def forked() -> tuple[int, str]:
            async with http.post(door, json={}) as answer:
                return answer.status, answer.headers.get("Retry-After", "")

        first = [asyncio.create_task(forked()) for _ in range(2)]
        await asyncio.wait_for(journal.entered.wait(), 30)
        rest = [asyncio.create_task(forked()) for _ in range(12)]
        refused = [await answer for answer in itertools.islice(asyncio.as_completed(rest, timeout=30), 4)]
        assert refused == [(429, "1")] * 4
        journal.go.set()
        assert [await answer for answer in first] == [(201, "")] * 2
        assert sorted([await answer for answer in rest]) == [(201, "")] * 8 + [(429, "1")] * 4
    assert journal.most == 2


@pytest.mark.requirement("session-fork")
async def test_a_fork_waits_for_its_turn_for_a_while() -> None:
    turns = Turns("forks", at_once=1, waiting=1, seconds=0.01)
    async with turns.turn():
        with pytest.raises(TooMany, match="1 forks are under way"):
            async with turns.turn():
                pass
    async with turns.turn():
        pass


async def test_through_the_gateway_a_session_is_changed_where_it_is(tmp_path: Path) -> None:
    one, other = Scene(), Scene()
    for scene in (one, other):
        await scene.says("hello", "again", "more")
    run = await one.ask("the kettle", session_id="s1")
    await other.ask("the pot", session_id="s2")
    async with gateway(tmp_path, {"a": [one, other]}) as (http, _):
        status, found = await answered(http.get("/sessions", params={"q": "kettle"}))
        assert [each["session_id"] for each in found["sessions"]] == ["s1"]
        assert found["complete"] is True
        assert (await answered(http.patch("/sessions/s1", json={"title": "T"})))[0] == 200
        assert [info.title for info in await one.journal.sessions()] == ["T"]
        assert (await answered(http.get("/sessions/s1?format=markdown")))[1].startswith(
            "# T\n\nSession s1 of default/a\n"
        )
        status, text = await answered(http.get("/sessions/s2?format=markdown"))
        assert text == "# Session s2 of default/a\n\n## User\n\nthe pot\n\n## Assistant\n\nhello\n"
        status, made = await answered(http.post(f"/runs/{run.info.run_id}/fork", json={}))
        assert status == 201
        told = {"message": "and?", "session_id": made["session_id"]}
        assert (await answered(http.post("/agents/a/chat", json=told)))[0] == 200
        _, shown = await answered(http.get(f"/sessions/{made['session_id']}"))
        assert [message["content"] for message in shown["messages"]] == ["the kettle", "hello", "and?", "again"]
        assert (await answered(http.delete("/sessions/s2")))[0] == 204
        assert list(await other.journal.sessions()) == []
        status, refused = await answered(http.delete("/sessions/s2"))
        assert (status, refused["error"]["reason"]) == (404, "NoSuchSession")
        _, offer = await answered(http.get("/agents/default/a/offer"))
        assert offer == {"prompt": ""}
