"""Two processes that serve one agent, as its pods do, over a server: killed, stopped, taken away."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path
from signal import SIGKILL, SIGTERM
from typing import Any

import aiohttp
import msgspec
import pytest

from kadre.plan.types import AgentKey, AgentPlan, MemoryPlan, ModelPlan, RedisPlan, SecretRef
from tests.support.faulty import FaultyModel, faulty_model
from tests.support.stores import Store
from tests.support.upping import Upped, free_port, hosting, up

SECONDS = 45
"""More than a lease, and the time between two looks."""
Pods = tuple[Upped, Upped]


@pytest.fixture
async def model() -> AsyncIterator[FaultyModel]:
    async with faulty_model() as served:
        yield served


@pytest.fixture
async def pods(store: Store, model: FaultyModel, tmp_path: Path) -> AsyncIterator[Pods]:
    """Two processes of one agent, told where the journal is as an installation tells it, or a Secret."""
    memory = MemoryPlan()
    if store.type == "redis":  # which an agent names itself
        memory = MemoryPlan(type="redis", redis=RedisPlan(url=SecretRef(namespace="team", name="journal", key="url")))
    asked = ModelPlan(provider="openai", model="m", endpoint=model.url)
    plan = AgentPlan(key=AgentKey("team", "helper"), model=asked, memory=memory)
    file, journal = tmp_path / "plan.json", tmp_path / "secrets" / "journal"
    file.write_bytes(msgspec.json.encode(plan))
    journal.mkdir(parents=True)
    (journal / "url").write_text(store.url())
    told = ("--journal", journal, "--secrets", journal.parent)
    async with AsyncExitStack() as stack:
        started = [hosting(file, *told, "--data-dir", tmp_path / f"data-{n}") for n in range(2)]
        first, second = [await stack.enter_async_context(pod) for pod in started]
        yield first, second


async def run_of(pod: Upped, run_id: str, status: str) -> Any:
    """The run once it is so, followed as a client would that lost its connection."""
    async with asyncio.timeout(SECONDS), pod.http.get(f"/runs/{run_id}/events") as stream:
        await stream.read()
    run = await pod.get(f"/runs/{run_id}")
    assert run["status"] == status
    numbers = [event["seq"] for event in run["events"]]
    assert numbers == list(range(1, len(numbers) + 1))
    return run


def said(model: FaultyModel) -> list[str]:
    return [message["content"] for message in model.requests[-1]["messages"]]


@pytest.mark.requirement("replicas-share-sessions")
async def test_messages_of_a_session_alternate_between_two_processes(pods: Pods, model: FaultyModel) -> None:
    for number in range(6):
        status, reply = await pods[number % 2].post("/chat", {"message": f"m{number}", "session_id": "s-alternate"})
        assert (status, reply["response"]) == (200, "all well")
    assert [word for word in said(model) if word != "all well"] == [f"m{number}" for number in range(6)]
    # At once, to whichever: each is answered after the one before it.
    posts = [
        pods[number % 2].post("/chat", {"message": f"q{number}", "session_id": "s-at-once"}) for number in range(6)
    ]
    assert [status for status, _ in await asyncio.gather(*posts)] == [200] * 6
    for pod in pods:
        session = await pod.get("/sessions/s-at-once")
        assert sorted(run["order"] for run in session["runs"]) == [1, 2, 3, 4, 5, 6]
        assert sorted(m["content"] for m in session["messages"][::2]) == [f"q{number}" for number in range(6)]
        assert {m["content"] for m in session["messages"][1::2]} == {"all well"}


@pytest.mark.requirement("replicas-share-sessions")
async def test_a_turn_whose_process_is_killed_is_gone_on_with_by_the_other(pods: Pods, model: FaultyModel) -> None:
    model.does = "wait"
    lost = asyncio.create_task(pods[0].post("/chat", {"message": "m", "session_id": "s-kill", "run_id": "run-kill"}))
    await asyncio.wait_for(model.asked.wait(), SECONDS)
    pods[0].process.send_signal(SIGKILL)
    with pytest.raises(aiohttp.ClientError):
        await lost
    model.does = "answer"
    run = await run_of(pods[1], "run-kill", "completed")
    assert (run["events"][-2]["type"], run["epoch"]) == ("assistant_message", 2)
    status, _ = await pods[1].post("/chat", {"message": "again", "session_id": "s-kill"})
    assert (status, said(model)) == (200, ["m", "all well", "again"])


@pytest.mark.requirement("replicas-share-sessions")
async def test_a_server_that_is_away_amid_a_turn_costs_nothing_that_was_said(
    store: Store, pods: Pods, model: FaultyModel
) -> None:
    model.does = "wait"
    turn = asyncio.create_task(pods[0].post("/chat", {"message": "m", "session_id": "s-away", "run_id": "run-away"}))
    await asyncio.wait_for(model.asked.wait(), SECONDS)
    await asyncio.to_thread(store.server.stop)
    model.go.set()  # the answer comes, and cannot be kept
    status, reply = await asyncio.wait_for(turn, SECONDS)
    assert (status, reply["error"]["reason"]) == (503, "JournalUnavailable")
    refused, reply = await pods[1].post("/chat", {"message": "no", "session_id": "s-away"})
    assert (refused, reply["error"]["reason"]) == (503, "JournalUnavailable")
    await asyncio.to_thread(store.server.start)
    async with asyncio.timeout(SECONDS):
        while (await pods[1].http.get("/runs/run-away")).status != 200:
            pass
    run = await run_of(pods[1], "run-away", "completed")
    assert [event["type"] for event in run["events"]].count("assistant_message") == 1
    status, _ = await pods[1].post("/chat", {"message": "again", "session_id": "s-away"})
    assert (status, said(model)) == (200, ["m", "all well", "again"])


@pytest.mark.requirement("replicas-share-sessions")
async def test_a_process_that_is_told_to_end_finishes_its_turn(pods: Pods, model: FaultyModel) -> None:
    model.does = "wait"
    turn = asyncio.create_task(pods[0].post("/chat", {"message": "m", "session_id": "s-term"}))
    await asyncio.wait_for(model.asked.wait(), SECONDS)
    pods[0].process.send_signal(SIGTERM)
    await pods[0].until_said("told to end")
    other = asyncio.create_task(pods[1].post("/chat", {"message": "after", "session_id": "s-term"}))
    model.go.set()
    assert (await asyncio.wait_for(turn, SECONDS))[0] == (await asyncio.wait_for(other, SECONDS))[0] == 200
    assert said(model) == ["m", "all well", "after"]
    assert await asyncio.wait_for(pods[0].process.wait(), SECONDS) == 0


@pytest.mark.requirement("memory-postgres", "memory-redis")
async def test_a_laptop_keeps_conversations_on_a_server_and_resumes_nothing(
    store: Store, model: FaultyModel, tmp_path: Path
) -> None:
    (tmp_path / ".env").write_text(f"CHATS_URL={store.url()}\n")
    (tmp_path / "helper.yaml").write_text(f"""
apiVersion: kagent.dev/v1alpha1
kind: Agent
metadata: {{name: helper}}
spec:
  model: {{provider: vllm, name: m, endpoint: "{model.url}"}}
  memory: {{type: {store.type}, secretRef: {{name: chats, key: url}}}}
""")
    async with up(tmp_path) as upped:
        assert (await upped.post("/chat", {"message": "one", "session_id": "s-up"}))[0] == 200
        model.does = "hang"
        model.asked.clear()
        assert (await upped.post("/runs", {"message": "two", "session_id": "s-up", "run_id": "run-up"}))[0] == 202
        await asyncio.wait_for(model.asked.wait(), SECONDS)
        await upped.stop(SIGKILL)
    model.does = "answer"
    async with up(tmp_path) as upped:
        await run_of(upped, "run-up", "interrupted")
        assert (await upped.post("/chat", {"message": "three", "session_id": "s-up"}))[0] == 200
    assert said(model) == ["one", "all well", "two", "three"]


async def test_a_server_that_is_not_there_is_told_before_anything_starts(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text(f"CHATS_URL=postgresql://ann:hush-9f2@127.0.0.1:{free_port()}/chats\n")
    (tmp_path / "helper.yaml").write_text("""
apiVersion: kagent.dev/v1alpha1
kind: Agent
metadata: {name: helper}
spec:
  model: {provider: scripted, name: m}
  memory: {type: postgres, secretRef: {name: chats, key: url}}
""")
    async with up(tmp_path, ready=False) as upped:
        assert await asyncio.wait_for(upped.process.wait(), SECONDS) == 1
        await upped.until_said("fix: start the server, mend its address, or say with --map")
    assert "the server cannot be reached" in upped.said
    assert "hush-9f2" not in upped.said
    assert "Traceback" not in upped.said
