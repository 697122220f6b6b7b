"""What an agent remembers across sessions, on a laptop and at the gateway: told, listed, forgotten."""

from __future__ import annotations

import asyncio
import signal
import sys
from pathlib import Path
from typing import Any

import pytest

from kadre.engine.memory.longterm import LongTermMemory
from kadre.engine.models.embedding import HASHED, Hashed
from kadre.engine.vectors.sqlite import SqliteVectors
from tests.doors.test_gateway import A, answered
from tests.support.gateway import gateway
from tests.support.scene import Scene
from tests.support.upping import Upped, free_port, up

pytestmark = pytest.mark.requirement("memory-long-term")
AGENT = """
apiVersion: kagent.dev/v1alpha1
kind: Agent
metadata: {name: waiter}
spec:
  model: {provider: scripted, name: scripted}
  memory: {type: sqlite, config: {longTermMemory: {enabled: true}}}
---
apiVersion: kagent.dev/v1alpha1
kind: Agent
metadata: {name: plain}
spec: {model: {provider: scripted, name: scripted}}
"""
TEA = "Ada drinks tea without milk"
SAID = f'Keep ["{TEA}"] in mind'
"""Which the scripted model says back when it is asked what is worth remembering."""


async def kept(upped: Upped) -> list[dict[str, Any]]:
    """What the waiter remembers, as soon as it remembers something."""
    async with asyncio.timeout(20):
        while not (found := (await upped.get("/agents/waiter/memories"))["memories"]):
            pass
    return list(found)


async def kadre(*words: str) -> str:
    command = [sys.executable, "-m", "kadre", *words]
    process = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE)
    said, _ = await process.communicate()
    assert process.returncode == 0
    return said.decode()


async def test_what_was_said_in_one_session_is_told_in_the_next_though_the_process_was_killed(tmp_path: Path) -> None:
    (tmp_path / "waiter.yaml").write_text(AGENT)
    port = free_port()
    async with up(tmp_path / "waiter.yaml", port=port) as upped:
        await upped.post("/agents/waiter/chat", {"message": SAID, "session_id": "one"})
        (memory,) = await kept(upped)
        assert memory["text"] == TEA
        await upped.stop(signal.SIGKILL)
    async with up(tmp_path / "waiter.yaml", port=port) as upped:
        _, reply = await upped.post("/agents/waiter/chat", {"message": "tea without milk?", "session_id": "two"})
        events = (await upped.get(f"/runs/{reply['run_id']}"))["events"]
        (recalled,) = [event for event in events if event["type"] == "recalled"]
        assert [each["text"] for each in recalled["memories"]] == [TEA]
        assert TEA in await kadre("memories", "list", "waiter", "--server", upped.url)
        await kadre("memories", "forget", "waiter", memory["id"], "--server", upped.url)
        assert (await upped.get("/agents/waiter/memories"))["memories"] == []
        refused = await upped.get("/agents/plain/memories")
        assert refused["error"]["reason"] == "NoMemories"


async def test_the_gateway_hands_on_what_is_asked_of_memories(tmp_path: Path) -> None:
    scene = Scene()
    await scene.says("Noted.", f'["{TEA}"]')
    store = SqliteVectors(None, "memories")

    async def leave() -> None:
        await store.aclose()

    (agent,) = scene.host.agents.values()
    agent.memories = LongTermMemory(str(A), store, Hashed(HASHED), leave)
    async with gateway(tmp_path, {"a": [scene]}) as (http, _):
        await answered(http.post("/agents/a/chat", json={"message": SAID}))
        async with asyncio.timeout(20):
            while not (found := (await answered(http.get("/agents/a/memories")))[1]["memories"]):
                pass
        assert (await answered(http.delete("/agents/a/memories/mem-none")))[0] == 404
        async with http.delete(f"/agents/a/memories/{found[0]['id']}") as answer:
            assert answer.status == 204
        assert (await answered(http.get("/agents/default/a/memories")))[1]["memories"] == []
