"""`kadre up` with an agent of hundreds of tools: a model is sent few, finds one, and calls it."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from tests.contract.tools.conftest import World
from tests.support.upping import Upped, up

pytestmark = pytest.mark.requirement("tool-budget")
MANIFEST = """
apiVersion: kagent.dev/v1alpha1
kind: Agent
metadata: {{name: clerk}}
spec:
  model: {{provider: scripted, name: script, rules: rules.yaml}}
  tools: [{{name: papers, endpoint: "http://127.0.0.1:{port}/mcp"}}]
"""
RULES = """
- {match: read it, call: 1, tools: [{name: find_tools, arguments: {query: read an invoice in the office}}]}
- {match: read it, call: 2, tools: [{name: office_read_invoice, arguments: {number: "7"}}]}
- {match: "^cancel", after_tool: false, tools: [{name: find_tools, arguments: {query: cancel an invoice of the store}}]}
- {match: "^cancel", call: 2, tools: [{name: store_cancel_invoice, arguments: {number: "8"}}]}
"""


@pytest.fixture
async def papers() -> AsyncIterator[World]:
    """A real server, of some tools and of hundreds besides."""
    here = World("http-many")
    await here.start()
    yield here
    await here.pool.aclose()
    await here.stop()


@pytest.fixture
async def clerk(papers: World, tmp_path: Path) -> AsyncIterator[Upped]:
    (tmp_path / "agent.yaml").write_text(MANIFEST.format(port=papers.port))
    (tmp_path / "rules.yaml").write_text(RULES)
    async with up(tmp_path / "agent.yaml") as upped:
        yield upped


async def said(clerk: Upped, message: str) -> tuple[int, dict[str, Any], list[dict[str, Any]]]:
    """What comes of a message of the one session: status, answer, and the events of its run."""
    status, answer = await clerk.post("/chat", {"message": message, "session_id": "s"})
    return status, answer, (await clerk.get(f"/runs/{answer['run_id']}"))["events"]


def of(events: list[dict[str, Any]], kind: str) -> list[dict[str, Any]]:
    return [event for event in events if event["type"] == kind]


def unsent(events: list[dict[str, Any]]) -> list[int]:
    return [event["tools_unsent"] for event in of(events, "usage")]


async def test_one_of_hundreds_is_found_and_called_and_what_that_saves_is_told(clerk: Upped) -> None:
    _, before, first = await said(clerk, 'call office_read_invoice {"number": "7"}')
    assert before["response"].startswith("I am a scripted model")  # it was not sent that tool, so it cannot call it
    status, answer, events = await said(clerk, "please read it")
    found, read = [event["tool_call"]["output"] for event in of(events, "tool_end")]
    assert "office_read_invoice" in found.splitlines()
    assert (status, read) == (200, "read invoice, office: 7")
    assert answer["response"].endswith(read)
    (notice,) = of(events, "system")
    told = re.match(
        r"(\d+) tools are found by find_tools .* about (\d+) tokens more of it, and all may", notice["message"]
    )
    assert told is not None
    many, most = int(told[1]), int(told[2])
    assert many > 300
    assert most > 12_800  # which is what all may take, of a context that nothing is known of
    assert unsent(first) == [most]
    alone, *besides = unsent(events)
    assert alone == most
    assert len(set(besides)) == 1
    assert most - 8 * 150 < besides[0] < most  # the found ones are sent besides, and there are no more than eight
    # What was found is there in the next run of the session.
    _, _, after = await said(clerk, 'call office_read_invoice {"number": "9"}')
    assert [event["tool_call"]["output"] for event in of(after, "tool_end")] == ["read invoice, office: 9"]
    saved = sum(sum(unsent(each)) for each in (first, events, after))
    async with clerk.http.get("/metrics") as metrics:
        (line,) = re.findall(r"(?m)^llm_tool_tokens_saved_total\{.*\} (\S+)$", await metrics.text())
    assert float(line) == saved


async def test_what_may_write_is_asked_for_though_it_was_found(clerk: Upped) -> None:
    status, waiting, events = await said(clerk, "cancel it")
    assert (status, waiting["status"]) == (202, "waiting")
    (asked,) = waiting["approvals"]
    assert asked["tool_call"]["name"] == "store_cancel_invoice"
    assert len(of(events, "tool_end")) == 1
