"""A write that a person allows, its process killed on the way: at every step, and what must follow."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import aiohttp
import msgspec

from kadre.plan.types import AgentKey, AgentPlan, ApiTool, ApprovalPlan, ApprovalRule, McpTools, MemoryPlan, ModelPlan
from tests.support.faulty import FaultyModel
from tests.support.sink import Held, Sink, Step
from tests.support.upping import Upped

SECONDS = 60
STORED = (
    "after approval_required",
    "before approval_decided",
    "after approval_decided",
    "before tool_start",
    "after tool_start",
    "before tool_end",
    "after tool_end",
)
"""Steps of the journal, in order."""
SENT: tuple[Step, ...] = ("received", "acted")
"""Steps of the sink: between the last two of a call that was begun."""
IN_DOUBT = frozenset({"after tool_start", *SENT, "before tool_end"})
"""Steps at which the write may have happened, as far as the journal tells."""
REPEATABLE = frozenset({"honours", "put"})
"""Tools that are declared to do nothing more when they are called again."""


class Case(NamedTuple):
    """One write, and where its process is killed."""

    tool: str
    step: str

    @property
    def run_id(self) -> str:
        """Its run, whose session has this name too."""
        return f"run-{self.tool}-{self.step.replace(' ', '-')}"

    @property
    def message(self) -> str:
        """What is said, and what is written."""
        return f"{self.tool} {self.run_id}"


def cases(tools: Sequence[str], steps: Sequence[str] = (*STORED, *SENT)) -> list[Case]:
    """Each tool at each step."""
    return [Case(tool, step) for tool in tools for step in steps]


def plan(file: Path, sink: Sink, model: FaultyModel, *, mcp: bool = False, memory: MemoryPlan | None = None) -> Path:
    """The plan of the agent whose writes are asked for, in that file. `mcp`: it writes over MCP, else to an API."""
    model.does, model.obeys = "tool", True
    message = {"type": "object", "properties": {"message": {"type": "string"}}}
    api = [
        ApiTool(
            name=name,
            endpoint=f"{sink.url}/{name}",
            method="POST",
            parameters=message,
            idempotent=name in REPEATABLE,
            trusted=True,
        )
        for name in ("honours", "ignores")
    ]
    server = McpTools(name="sink", url=f"{sink.url}/mcp", transport="http", trusted=True)
    agent = AgentPlan(
        key=AgentKey("team", "clerk"),
        model=ModelPlan(provider="openai", model="m", endpoint=model.url),
        tools=(server,) if mcp else tuple(api),
        approvals=ApprovalPlan(rules=(ApprovalRule(action="ask"),)),
        memory=memory or MemoryPlan(),
    )
    file.write_bytes(msgspec.json.encode(agent))
    return file


def held(case: Case, sink: Sink) -> Held | None:
    """Have the sink hold the write, where that is the step."""
    return next((sink.hold(step, case.message) for step in SENT if step == case.step), None)


async def asks(upped: Upped, case: Case) -> None:
    """A caller who sends the message, and a person who allows what is asked; until the process is gone."""
    said = {"message": case.message, "session_id": case.run_id, "run_id": case.run_id}
    with contextlib.suppress(aiohttp.ClientError):
        status, _ = await upped.post("/chat", said)
        assert status == 202
        await _allow(upped, case)
        await _until_it_ends(upped, case)


async def _allow(upped: Upped, case: Case) -> None:
    status, told = await upped.post(f"/runs/{case.run_id}/approve", {"decision": "allow"})
    assert status == 200, told


async def _until_it_ends(upped: Upped, case: Case) -> None:
    async with upped.http.get(f"/runs/{case.run_id}/events") as events:
        await events.read()


async def judge(upped: Upped, case: Case, sink: Sink, model: FaultyModel) -> None:
    """What must have come of it, at a process that has taken it up."""
    if case.step in ("after approval_required", "before approval_decided"):
        await _allow(upped, case)  # what nobody was told is decided is asked still
    async with asyncio.timeout(SECONDS):
        await _until_it_ends(upped, case)
    run: Any = await upped.get(f"/runs/{case.run_id}")
    call = next(event["tool_call"] for event in reversed(run["events"]) if event["type"] == "tool_end")
    ended = (run["status"], call["status"])
    keys = sink.keys.get(case.message, set())
    assert len(keys) <= 1, case
    if case.tool in REPEATABLE or case.step not in IN_DOUBT:
        assert ended == ("completed", "complete"), case
        assert sink.done.count(case.message) == 1, case
    else:
        assert ended == ("interrupted", "unknown"), case
        assert sink.came.count(case.message) == (0 if case.step == "after tool_start" else 1), case
        assert "not known" in call["error"], case  # to the person; and to the model with what is said next:
        await upped.post("/chat", {"message": f"and {case.run_id}?", "session_id": case.run_id})
        assert call["error"] in str(_told(model, case)["messages"]), case
    if case.tool not in REPEATABLE:
        assert sink.came.count(case.message) <= 1, case


def _told(model: FaultyModel, case: Case) -> dict[str, Any]:
    """The model's last request in the case's session."""
    return next(request for request in reversed(model.requests) if case.run_id in request["messages"][-1]["content"])
