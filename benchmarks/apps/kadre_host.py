"""Kadre's host and doors with a function of this process as a tool, which no YAML can name: the tool turn's server.

All else is as `kadre up` has it: the same journal, model adapter, loop, doors and server.
Run: `python -m benchmarks.apps.kadre_host --port P --model-url URL --data-dir D --journal in-memory|sqlite`.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import aiohttp
import uvicorn
import uvloop

from benchmarks.scenarios import SYSTEM_PROMPT, TOOL_NAME, echo
from kadre.base.clock import SystemClock
from kadre.engine.agent import HostedAgent
from kadre.engine.host import Host
from kadre.engine.memory.inmemory import InMemoryJournal
from kadre.engine.memory.port import Journal
from kadre.engine.messages import ToolSpec
from kadre.engine.models.http import Wire
from kadre.engine.models.openai import OpenAIModel
from kadre.engine.tools.port import CallContext, ToolOutput
from kadre.plan.types import AgentKey, AgentPlan, ModelPlan, SecretRef
from kadre.server import app
from kadre.server.metrics import Metrics

PARAMETERS = {"type": "object", "properties": {"text": {"type": "string"}}, "required": ["text"]}


class Functions:
    """The echo function as a toolset."""

    def __init__(self) -> None:
        self._specs = (ToolSpec(name=TOOL_NAME, description=echo.__doc__ or "", parameters=PARAMETERS, read_only=True),)

    async def specs(self) -> Sequence[ToolSpec]:
        """See Toolset."""
        return self._specs

    async def call(self, name: str, arguments: dict[str, Any], context: CallContext) -> ToolOutput:
        """See Toolset."""
        del name, context
        return ToolOutput(echo(**arguments))

    async def aclose(self) -> None:
        """See Toolset."""


class NoSecrets:
    """The mock model asks for no key."""

    def read(self, ref: SecretRef) -> str | None:
        """See SecretReader."""
        del ref
        return None


def _journal(kind: str, folder: Path) -> Journal:
    if kind == "in-memory":
        return InMemoryJournal()
    from kadre.engine.memory.sqlite import SqliteJournal

    folder.mkdir(parents=True, exist_ok=True)
    return SqliteJournal(folder / "journal.db")


async def _serve(port: int, model_url: str, journal: Journal) -> None:
    clock = SystemClock()
    counted = Metrics(clock)
    model = ModelPlan(provider="openai", model="mock", endpoint=model_url)
    plan = AgentPlan(key=AgentKey("bench", "assistant"), model=model, system_prompt=SYSTEM_PROMPT)
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:
        host = Host([journal], clock=clock, observer=counted)
        wire = Wire(session, model.timeout, clock=clock)
        agent = HostedAgent(plan, OpenAIModel(model, NoSecrets(), wire), [Functions()], journal, clock)
        await host.replace({plan.key: agent})
        served = app.build(host, counted)
        config = uvicorn.Config(
            served, port=port, http="httptools", lifespan="off", access_log=False, log_level="warning"
        )
        await uvicorn.Server(config).serve()


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--model-url", required=True)
    parser.add_argument("--data-dir", type=Path, required=True)
    parser.add_argument("--journal", choices=("in-memory", "sqlite"), required=True)
    given = parser.parse_args()
    uvloop.run(_serve(given.port, given.model_url, _journal(given.journal, given.data_dir)))
