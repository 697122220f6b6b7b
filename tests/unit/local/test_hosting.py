"""From plans to hosted agents."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import aiohttp
import pytest

from kadre.base.clock import FakeClock
from kadre.base.errors import ProblemError
from kadre.engine.host import Host
from kadre.engine.tools.mcp import McpPool
from kadre.local.hosting import Assembly, Journals
from kadre.local.secrets import LocalSecrets
from kadre.plan.types import AgentKey, AgentPlan, McpTools, MemoryPlan, ModelPlan


def plan(name: str, memory: Literal["in-memory", "sqlite"]) -> AgentPlan:
    return AgentPlan(
        key=AgentKey("default", name),
        model=ModelPlan(provider="scripted", model="m"),
        tools=(McpTools(name="echo", url="http://localhost:1/mcp"),),
        memory=MemoryPlan(type=memory),
    )


async def test_agents_made_beside_one_that_cannot_be_made_hold_nothing(tmp_path: Path) -> None:
    file = tmp_path / "no folder"
    file.write_text("")
    secrets, clock, host = LocalSecrets(), FakeClock(), Host()
    pool = McpPool(secrets, None, clock)
    async with aiohttp.ClientSession() as http:
        assembly = Assembly(host, http, pool, secrets, Journals(file, secrets, clock), clock)
        plans = [plan("first", "in-memory"), plan("second", "sqlite")]
        with pytest.raises(ProblemError, match="cannot be used"):
            await assembly.build({each.key: each for each in plans})
    assert pool.in_use == 0


@pytest.mark.parametrize("lasts", [True, False])
async def test_what_is_kept_in_a_folder_lasts_as_long_as_the_folder_does(tmp_path: Path, lasts: bool) -> None:
    secrets, clock = LocalSecrets(), FakeClock()
    journal = await Journals(tmp_path, secrets, clock, lasts=lasts).of(MemoryPlan(type="sqlite"))
    try:
        assert journal.durable is lasts
    finally:
        await journal.aclose()
