"""The documents' retrieval tool: filled by `kadre ingest`, searched by an agent that `kadre up` serves."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from kadre.engine.vectors.sqlite import SqliteVectors
from tests.support.embeddings import embeddings
from tests.support.milvus import Milvus
from tests.support.upping import Upped, up

# As document 001 has it.
TOOL = """
apiVersion: kagent.dev/v1alpha1
kind: Tool
metadata:
  name: search-knowledge-base
  namespace: ai-agents
  labels:
    category: retrieval
spec:
  type: retrieval
  displayName: "Knowledge Base Search"
  description: |
    Search company knowledge base for relevant documents.
    Use to find information for answering customer inquiries.
  retrieval:
    vectorStore:
      type: milvus
      host: milvus.ai-data.svc.cluster.local
      port: 19530
      collection: support-knowledge
    embedding:
      provider: openai
      model: text-embedding-3-small
      dimension: 1536
    search:
      topK: 5
      scoreThreshold: 0.7
      filter: ""
  parameters:
    - name: query
      type: string
      required: true
      description: "Search question or keywords"
    - name: category
      type: string
      required: false
      description: "Filter document category (e.g., faq, manual, policy)"
      enum: ["faq", "manual", "policy", "all"]
      default: "all"
  output:
    type: array
    items:
      type: object
      properties:
        content:
          type: string
        score:
          type: number
        metadata:
          type: object
"""
AGENT = """
apiVersion: kagent.dev/v1alpha1
kind: Agent
metadata: {name: support, namespace: ai-agents}
spec:
  model: {provider: scripted, name: scripted}
  tools: [{name: search-knowledge-base}]
"""
LOCAL = """
apiVersion: kagent.dev/v1alpha1
kind: Tool
metadata: {name: handbook}
spec:
  type: retrieval
  retrieval:
    vectorStore: {type: sqlite, collection: handbook}
    embedding: {provider: local, model: all-minilm-l6-v2}
    search: {topK: 1}
---
apiVersion: kagent.dev/v1alpha1
kind: Agent
metadata: {name: support}
spec:
  model: {provider: scripted, name: scripted}
  tools: [{name: handbook}]
"""
FAQ = "---\ncategory: faq\n---\nReturns: an unopened item goes back within thirty days."
MANUAL = "Returns: an unopened item goes back within sixty days."


@pytest.fixture
def milvus() -> Iterator[Milvus]:
    """A Milvus server."""
    with Milvus() as started:
        yield started


async def ingest(folder: Path, *words: str, **env: str) -> tuple[int, str]:
    """Run `kadre ingest WORDS` there; its exit code and what it said."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "kadre", "ingest", *words),
        cwd=folder,
        stdin=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.STDOUT,
        stdout=asyncio.subprocess.PIPE,
        env={**os.environ, "NO_COLOR": "1", **env},
    )
    said, _ = await asyncio.wait_for(process.communicate(), 40)
    return process.returncode or 0, said.decode()


async def asked(upped: Upped, tool: str, **arguments: Any) -> str:
    """What the tool answers an agent that calls it, as the agent's answer."""
    message = f"call {tool} {json.dumps(arguments)}"
    status, body = await upped.post("/agents/support/chat", {"message": message})
    assert status == 200, body
    answer: str = body["response"]
    return answer.removeprefix("Here is what I found: ")


@pytest.mark.requirement("tool-retrieval", "tool-retrieval-search", "ingest")
async def test_the_documents_search_finds_what_was_ingested(tmp_path: Path, milvus: Milvus) -> None:
    (tmp_path / "tool.yaml").write_text(TOOL)
    (tmp_path / "agent.yaml").write_text(AGENT)
    docs = tmp_path / "docs"
    docs.mkdir()
    (docs / "faq.md").write_text(FAQ)
    (docs / "manual.txt").write_text(MANUAL)
    async with embeddings() as model:
        env: Any = {"OPENAI_API_KEY": "sk-of-the-test", "OPENAI_BASE_URL": model.url}
        send = ("--map", f"milvus.ai-data.svc.cluster.local:19530=127.0.0.1:{milvus.port}")
        code, said = await ingest(tmp_path, "search-knowledge-base", "docs/faq.md", *send, **env)
        assert (code, "1 new, 0 there already" in said) == (0, True), said
        words = ("docs/manual.txt", "--set", "category=manual")
        code, said = await ingest(tmp_path, "search-knowledge-base", *words, *send, **env)
        assert (code, "1 passage in support-knowledge: 1 new" in said) == (0, True), said
        async with up(tmp_path, *send, **env) as upped:
            question = "returns: an unopened item goes back within thirty days"
            found = json.loads(await asked(upped, "search-knowledge-base", query=question))
            assert [sorted(one) for one in found] == [["content", "metadata", "score"]] * 2
            assert (found[0]["metadata"]["category"], found[0]["metadata"]["source"]) == ("faq", "docs/faq.md")
            assert found[0]["score"] == pytest.approx(1.0, abs=1e-3)
            assert found[1]["score"] >= 0.7
            await narrowed(upped, question)
            milvus.kill()
            assert "Milvus collection support_knowledge" in await asked(upped, "search-knowledge-base", query="x")
            milvus.start()
            again = json.loads(await asked(upped, "search-knowledge-base", query=question))
            assert again == found
        assert set(model.keys) == {"Bearer sk-of-the-test"}
        assert {body["dimensions"] for body in model.asked} == {1536}


async def narrowed(upped: Upped, question: str) -> None:
    """What the other parameter and the threshold leave out, and what it may not be."""
    (one,) = json.loads(await asked(upped, "search-knowledge-base", query=question, category="manual"))
    assert one["metadata"] == {"category": "manual", "passage": 1, "source": "docs/manual.txt"}
    assert len(json.loads(await asked(upped, "search-knowledge-base", query=question, category="all"))) == 2
    assert json.loads(await asked(upped, "search-knowledge-base", query=question, category="policy")) == []
    assert json.loads(await asked(upped, "search-knowledge-base", query="how tall is the tower")) == []
    assert "'faq', 'manual'" in await asked(upped, "search-knowledge-base", query=question, category="news")
    assert "query: is required" in await asked(upped, "search-knowledge-base", category="faq")


@pytest.mark.needs("embedding-model")
@pytest.mark.requirement("tool-retrieval-local", "ingest")
async def test_a_laptop_needs_no_server_and_no_key_and_sees_what_is_added_while_it_serves(tmp_path: Path) -> None:
    (tmp_path / "all.yaml").write_text(LOCAL)
    (tmp_path / "faq.md").write_text("You can send an item back within thirty days.")
    (tmp_path / "more.csv").write_text("question,lang\nHow long is the guarantee on a kettle?,en\n")
    async with up(tmp_path) as upped:
        assert "not there: fill it with `kadre ingest`" in await asked(upped, "handbook", query="returning goods")
        code, said = await ingest(tmp_path, "handbook", "faq.md")
        assert code == 0, said
        answer = await asked(upped, "handbook", query="returning goods")
        assert "source faq.md\nYou can send an item back within thirty days." in answer
        code, said = await ingest(tmp_path, "handbook", "more.csv", "faq.md")
        assert (code, "2 passages in handbook: 1 new, 1 there already" in said) == (0, True), said
        assert "kettle" in await asked(upped, "handbook", query="warranty of a water boiler")


@pytest.mark.requirement("ingest")
async def test_everything_that_is_wrong_is_told_before_anything_is_written(tmp_path: Path) -> None:
    (tmp_path / "all.yaml").write_text(LOCAL)
    (tmp_path / "bad.csv").write_text("a,b\n1,2,3\n")
    (tmp_path / "bytes.txt").write_bytes(b"\xff\xfe\xff")
    (tmp_path / "empty.md").write_text("---\na: 1\n---\n")
    (tmp_path / "good.md").write_text("Good.")
    names = ("gone.txt", "bad.csv", "bytes.txt", "empty.md", "all.yaml", "good.md")
    code, said = await ingest(tmp_path, "handbok", *names)
    assert code == 1
    for told in (
        "there is no tool handbok in .; did you mean handbook?",
        "gone.txt: there is no such file",
        "bad.csv: it cannot be read: line 2: it has other columns",
        "bytes.txt: it cannot be read: it is no UTF-8 text",
        "empty.md: there is no text in it",
        "all.yaml: it cannot be read: .yaml is none of .txt",
    ):
        assert told in said, said
    assert not (tmp_path / ".kadre").exists()


KEPT = """
apiVersion: kagent.dev/v1alpha1
kind: Tool
metadata: {name: handbook}
spec:
  type: retrieval
  retrieval:
    vectorStore: {type: sqlite, collection: handbook}
    embedding: {provider: vllm, model: m, dimension: 64, endpoint: %s}
"""


@pytest.mark.requirement("ingest")
async def test_one_that_is_killed_goes_on_where_it_was_and_a_changed_file_takes_its_own_place(tmp_path: Path) -> None:
    rows = [f"row number {number},{number}" for number in range(400)]
    async with embeddings() as model:
        model.dimension = 64
        (tmp_path / "tool.yaml").write_text(KEPT % model.url)
        (tmp_path / "rows.csv").write_text("\n".join(["text,n", *rows]))
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "kadre", "ingest", "handbook", "rows.csv", "-f", "tool.yaml"),
            cwd=tmp_path,
            stderr=asyncio.subprocess.DEVNULL,
        )
        async with asyncio.timeout(30):
            while len(model.asked) < 4:  # noqa: ASYNC110 - the process sends no event
                await asyncio.sleep(0)
        process.kill()
        await process.wait()
        model.answers = [400]
        code, said = await ingest(tmp_path, "handbook", "rows.csv", "-f", "tool.yaml")
        assert (code, "answered 400" in said, "run it again to go on" in said) == (1, True, True), said
        before = len(model.asked)
        code, said = await ingest(tmp_path, "handbook", "rows.csv", "-f", "tool.yaml")
        new = int(said.partition("400 passages in handbook: ")[2].partition(" new")[0])
        assert (code, 0 < new <= 400 - 96) == (0, True), said
        assert sum(len(body["input"]) for body in model.asked[before:]) == new
        (tmp_path / "rows.csv").write_text("\n".join(["text,n", *rows[:10]]))
        code, said = await ingest(tmp_path, "handbook", "rows.csv", "-f", "tool.yaml")
        assert (code, "10 passages in handbook: 0 new, 10 there already" in said) == (0, True), said
    store = SqliteVectors(tmp_path / ".kadre" / "vectors" / "handbook.db", "handbook")
    assert (await store.count(), await store.count({"n": "7"})) == (10, 1)
    await store.aclose()
