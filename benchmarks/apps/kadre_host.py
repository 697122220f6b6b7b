"""Kadre's host and doors with a function of this process as a tool, which no YAML can name: the tool turn's server.

All else is as `kadre up` has it: the same journal, model adapter, loop, doors and server.
Run: `python -m benchmarks.apps.kadre_host --port P --model-url URL --data-dir D --journal in-memory|sqlite`.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import aiohttp
import uvicorn
import uvloop

from benchmarks.scenarios import SYSTEM_PROMPT, echo
from kadre.base.clock import SystemClock
from kadre.engine.agent import HostedAgent
from kadre.engine.host import Host
from kadre.engine.memory.inmemory import InMemoryJournal
from kadre.engine.memory.port import Journal
from kadre.engine.models.http import Wire
from kadre.engine.models.openai import OpenAIModel
from kadre.engine.tools.functions import Functions
from kadre.plan.types import AgentKey, AgentPlan, ModelPlan, SecretRef
from kadre.server import app
from kadre.server.metrics import Metrics


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
        agent = HostedAgent(
            plan, OpenAIModel(model, NoSecrets(), wire), [Functions(echo, read_only=True)], journal, clock
        )
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
