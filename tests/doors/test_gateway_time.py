"""How long a request to an agent may take, behind the gateway."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from tests.doors.test_gateway import A, answered
from tests.support.gateway import gateway
from tests.support.scene import Scene

pytestmark = pytest.mark.requirement("gateway")


async def test_a_request_takes_as_long_as_the_agents_author_lets_it(tmp_path: Path) -> None:
    scene, never = Scene(), asyncio.Event()
    await scene.says(never, "late")
    async with gateway(tmp_path, {"a": [scene]}) as (http, fleet):
        fleet.allowed[A] = 0.2
        status, told = await answered(http.post("/agents/a/chat", json={"message": "hi", "run_id": "slow"}))
        assert (status, told["error"]["reason"]) == (504, "RequestTimeout")
        assert "within 0.2 s" in told["error"]["message"]
        never.set()
        async with http.get("/runs/slow/events") as stream:
            assert b"run_finished" in await stream.read()  # what was begun is told all the same
