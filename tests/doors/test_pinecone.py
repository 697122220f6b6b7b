"""An index of Pinecone, filled by `kadre ingest`, searched and remembered in by an agent that `kadre up` serves."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.doors.test_retrieval import asked, ingest
from tests.support.pinecone import KEY, Pinecone
from tests.support.upping import up

pytestmark = pytest.mark.requirement("vector-stores-pinecone", "ingest", "memory-long-term")
AGENT = """
apiVersion: kagent.dev/v1alpha1
kind: Tool
metadata: {name: handbook}
spec:
  type: retrieval
  retrieval:
    vectorStore:
      type: pinecone
      collection: handbook
      database: team-1
      secretRef: {name: pinecone, key: key}
    embedding: {provider: scripted, model: m, dimension: 64}
    search: {topK: 3, filter: '{"lang": {"$ne": "de"}}'}
  parameters:
    - {name: query, type: string, required: true}
    - {name: category, type: string, default: all}
---
apiVersion: kagent.dev/v1alpha1
kind: Agent
metadata: {name: support}
spec:
  model: {provider: scripted, name: scripted}
  tools: [handbook]
  memory:
    type: in-memory
    config:
      longTermMemory:
        enabled: true
        embedding: {provider: scripted, model: m, dimension: 64}
        vectorStore:
          type: pinecone
          host: memories-1.svc.pinecone.io
          collection: memories
          secretRef: {name: pinecone, key: key}
"""
TEA = "Ada drinks tea without milk"


@pytest.fixture
def pinecone() -> Iterator[Pinecone]:
    """A stand-in for Pinecone."""
    with Pinecone() as started:
        yield started


async def test_what_was_ingested_is_found_and_what_was_said_is_remembered(tmp_path: Path, pinecone: Pinecone) -> None:
    (tmp_path / "all.yaml").write_text(AGENT)
    (tmp_path / "faq.md").write_text("---\ncategory: faq\n---\nReturns: an unopened item goes back within thirty days.")
    (tmp_path / "de.md").write_text("---\nlang: de\n---\nReturns: an unopened item goes back, in German.")
    (tmp_path / ".env").write_text(f"PINECONE_KEY={KEY}\n")
    env: Any = {"PINECONE_CONTROLLER_HOST": pinecone.url}
    code, said = await ingest(tmp_path, "handbook", "faq.md", "de.md", **env)
    assert (code, "handbook is not there: make it at Pinecone" in said, "dimension 64" in said) == (1, True, True), said
    handbook, memories = pinecone.create("handbook", 64), pinecone.create("memories", 64)
    code, said = await ingest(tmp_path, "handbook", "faq.md", "de.md", **env)
    assert (code, "2 passages in handbook: 2 new" in said) == (0, True), said
    (tmp_path / "faq.md").write_text("---\ncategory: faq\n---\nReturns: an unopened item goes back within sixty days.")
    code, said = await ingest(tmp_path, "handbook", "faq.md", "de.md", **env)
    assert (code, "1 new, 1 there already" in said) == (0, True), said
    assert {name: len(kept) for name, kept in handbook.spaces.items()} == {"team-1": 2}
    send = ("--map", f"memories-1.svc.pinecone.io:443=127.0.0.1:{memories.port}")
    async with up(tmp_path, *send, **env) as upped:
        found = await asked(upped, "handbook", query="returns of an unopened item")
        assert ("within sixty days" in found, "thirty" in found, "German" in found) == (True, False, False)
        assert "Nothing was found" in await asked(upped, "handbook", query="returns", category="manual")
        await upped.post("/agents/support/chat", {"message": f'Keep ["{TEA}"] in mind', "session_id": "one"})
        async with asyncio.timeout(20):
            while not (kept := (await upped.get("/agents/support/memories"))["memories"]):
                pass
        assert [each["text"] for each in kept] == [TEA]
        _, reply = await upped.post("/agents/support/chat", {"message": "tea without milk?", "session_id": "two"})
        events = (await upped.get(f"/runs/{reply['run_id']}"))["events"]
        (recalled,) = [event for event in events if event["type"] == "recalled"]
        assert [each["text"] for each in recalled["memories"]] == [TEA]
        handbook.answers = [401]
        refused = await asked(upped, "handbook", query="returns")
        assert "refuses the API key" in refused
        assert KEY not in refused + upped.said + str(events)
