"""The runs door: start and leave, look, follow and resume, stop."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import aiohttp
import pytest

from kadre.engine.memory.inmemory import InMemoryJournal
from kadre.engine.tools.functions import Functions
from tests.support.scene import Asking, Scene

Http = aiohttp.ClientSession


async def started(http: Http, **body: Any) -> dict[str, Any]:
    async with http.post("/runs", json={"message": "hi", **body}) as answer:
        assert answer.status == 202
        run: dict[str, Any] = await answer.json()
        assert answer.headers["Location"] == f"/runs/{run['run_id']}"
        return run


async def events(http: Http, run_id: str, last_id: str = "") -> list[tuple[str, dict[str, Any]]]:
    headers = {"Last-Event-ID": last_id} if last_id else {}
    async with http.get(f"/runs/{run_id}/events", headers=headers) as answer:
        text = await answer.text()
    blocks = [dict(line.split(": ", 1) for line in block.split("\n")) for block in text.strip().split("\n\n")]
    return [(block["id"], json.loads(block["data"])) for block in blocks if "id" in block]


async def test_a_run_goes_on_without_its_caller_and_can_be_looked_at(scene: Scene, http: Http) -> None:
    go = asyncio.Event()
    await scene.says(go, "hello")
    run = await started(http, run_id="run-mine")
    assert run["status"] == "running"
    go.set()
    await events(http, "run-mine")
    async with http.get("/runs/run-mine") as answer:
        shown = await answer.json()
    assert shown["status"] == "completed"
    assert [event["type"] for event in shown["events"]][-1] == "run_finished"
    again = await started(http, run_id="run-mine")
    assert (again["run_id"], again["status"]) == ("run-mine", "completed")


@pytest.mark.parametrize(("last_id", "first"), [("", 1), ("2", 3), ("3", 4), ("2.99", 3), ("nonsense", 1)])
async def test_following_resumes_after_the_last_event_that_was_seen(
    scene: Scene, http: Http, last_id: str, first: int
) -> None:
    await scene.says("hello")
    run = await started(http)
    live = await scene.host.open(run["run_id"])
    await asyncio.wait_for(live.wait(), 5)
    seen = await events(http, run["run_id"], last_id)
    assert [event["seq"] for _, event in seen] == list(range(first, 6))
    assert [name for name, _ in seen] == [str(seq) for seq in range(first, 6)]


async def test_a_run_that_is_cancelled_says_so(scene: Scene, http: Http) -> None:
    await scene.says(asyncio.Event())
    run = await started(http)
    async with http.post(f"/runs/{run['run_id']}/cancel") as answer:
        assert (await answer.json())["status"] == "cancelled"
    async with http.post(f"/runs/{run['run_id']}/cancel") as answer:
        assert (await answer.json())["status"] == "cancelled"


async def test_runs_are_listed_newest_first_by_page_and_by_what_they_are(scene: Scene, http: Http) -> None:
    await scene.says("1", "2", "3", name="a")
    await scene.says("4", name="b")
    for name in ("a", "a", "a", "b"):
        await scene.ask(name=name)

    async def page(query: str) -> tuple[list[str], str | None]:
        async with http.get(f"/runs{query}") as answer:
            told = await answer.json()
            return [run["run_id"] for run in told["runs"]], told["next"]

    async def listed(query: str) -> list[str]:
        return (await page(query))[0]

    everything = await listed("")
    assert everything == sorted(everything, reverse=True)
    assert len(everything) == 4
    first, following = await page("?limit=2")
    assert first == everything[:2]
    assert await page(f"?limit=2&before={following}") == (everything[2:], None)
    assert await page("?limit=4") == (everything, None)
    assert len(await listed("?agent=a")) == 3
    assert await listed("?status=failed") == []
    for bad in ("?limit=0", "?limit=x", "?status=nope", f"?before={everything[0]}", "?before=W10", "?before=é"):
        async with http.get(f"/runs{bad}") as answer:
            assert answer.status == 400


async def test_runs_are_listed_by_when_they_were_made_whatever_their_callers_call_them(
    scene: Scene, http: Http
) -> None:
    other = InMemoryJournal()
    await scene.says("1", "2", name="a")
    kept, scene.journal = scene.journal, other
    await scene.says("3", "4", name="b")
    scene.host.add_journal(other)
    scene.journal = kept
    for name, run_id in (("a", "z"), ("b", "y"), ("a", "b"), ("b", "a")):
        await scene.ask(name=name, run_id=run_id)
        await scene.clock.advance(1)
    seen: list[str] = []
    query: dict[str, str] = {"limit": "1"}
    while True:
        async with http.get("/runs", params=query) as answer:
            told = await answer.json()
        seen += [run["run_id"] for run in told["runs"]]
        if told["next"] is None:
            break
        query["before"] = told["next"]
    assert seen == ["a", "b", "y", "z"]


async def test_what_was_too_large_for_an_event_is_served_whole(scene: Scene, http: Http) -> None:
    large = "é<script>" * 20_000
    result = "\x07" * 20_000  # six bytes each in JSON

    def write(text: str) -> str:
        """Write it down."""
        return result

    await scene.says([("write", {"text": large})], large, "short", tools=[Functions(write)])
    run = await scene.ask()
    other = await scene.ask()
    async with http.get(f"/runs/{run.info.run_id}") as answer:
        told = (await answer.json())["events"]
    named = {(event["type"], path): digest for event in told for path, digest in event.get("blobs", {}).items()}
    assert set(named) == {
        ("assistant_message", "tool_calls.0.arguments"),
        ("tool_start", "tool_call.arguments"),
        ("tool_end", "tool_call.arguments"),
        ("tool_end", "tool_call.output"),
        ("assistant_message", "content"),
    }

    async def whole(run_id: str, digest: str) -> tuple[int, str, str]:
        async with http.get(f"/runs/{run_id}/blobs/{digest}") as answer:
            return answer.status, answer.headers["Content-Type"], await answer.text()

    text = "text/plain; charset=utf-8"
    assert await whole(run.info.run_id, named["assistant_message", "content"]) == (200, text, large)
    assert await whole(run.info.run_id, named["tool_end", "tool_call.output"]) == (200, text, result)
    status, kind, arguments = await whole(run.info.run_id, named["tool_start", "tool_call.arguments"])
    assert (status, kind, json.loads(arguments)) == (200, "application/json", {"text": large})
    async with http.get(f"/sessions/{run.info.session_id}") as answer:
        said = (await answer.json())["messages"][1:]
    assert [(message["role"], message.get("run_id"), message.get("blobs")) for message in said] == [
        (
            "assistant",
            run.info.run_id,
            {"tool_calls.0.arguments": named["assistant_message", "tool_calls.0.arguments"]},
        ),
        ("tool", run.info.run_id, {"content": named["tool_end", "tool_call.output"]}),
        ("assistant", run.info.run_id, {"content": named["assistant_message", "content"]}),
    ]
    unnamed = await scene.journal.put_blob(b"of no event")
    for run_id, digest in (
        (other.info.run_id, named["assistant_message", "content"]),
        (run.info.run_id, unnamed),
        (run.info.run_id, "sha256:0"),
        ("run-none", named["assistant_message", "content"]),
    ):
        assert (await whole(run_id, digest))[0] == 404


async def test_a_session_shows_what_was_said_in_it(scene: Scene, http: Http) -> None:
    await scene.says("hello", "again")
    await scene.ask("one", session_id="s1")
    await scene.ask("two", session_id="s1")
    async with http.get("/sessions") as answer:
        (session,) = (await answer.json())["sessions"]
    assert (session["session_id"], session["runs"]) == ("s1", 2)
    async with http.get("/sessions/s1") as answer:
        shown = await answer.json()
    assert [message["content"] for message in shown["messages"]] == ["one", "hello", "two", "again"]
    async with http.get("/sessions/none") as answer:
        assert answer.status == 404


async def test_what_is_not_there_says_so(scene: Scene, http: Http) -> None:
    await scene.says("hello")
    async with http.get("/runs/run-none") as answer:
        assert answer.status == 404
    live = await scene.ask()
    async with http.post("/runs/run-none/fork") as answer:
        assert answer.status == 404
    async with http.post(f"/runs/{live.info.run_id}/approve", json={"decision": "allow"}) as answer:
        assert answer.status == 409


@pytest.mark.parametrize("sent", [{}, {"decison": "deny"}, {"decision": None}, {"decision": "Allow"}])
async def test_nothing_is_allowed_by_a_body_that_does_not_say_so(
    scene: Scene, http: Http, sent: dict[str, Any]
) -> None:
    def write(text: str) -> str:
        """Write it down."""
        return text

    await scene.says([("write", {"text": "x"})], "done", tools=[Asking(write)])
    live = await scene.start()
    await scene.approval(live)
    async with http.post(f"/runs/{live.info.run_id}/approve", json=sent) as answer:
        assert (answer.status, (await answer.json())["error"]["reason"]) == (400, "InvalidBody")
    assert len(live.pending_approvals()) == 1
