"""Runs of an agent that has no pod just now: asked for at the gateway, they bring one."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from kadre.plan.types import AgentKey
from kadre.server.gateway import runs
from kadre.server.gateway.wanted import Wanted
from tests.doors.test_gateway import A, answered
from tests.support.gateway import gateway
from tests.support.scene import Asking, Scene

pytestmark = pytest.mark.requirement("gateway")


async def test_a_run_that_waits_while_its_agent_has_no_pod_is_not_lost(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def write() -> str:
        """Write."""
        return "written"

    scene, other = Scene(), Scene()
    await scene.says([("write", {})], "done", tools=[Asking(write)])
    await other.says(name="b")
    wanted: list[AgentKey] = []
    begins = Wanted.begins

    def noted(self: Wanted, agent: AgentKey) -> Callable[[], None]:
        wanted.append(agent)
        return begins(self, agent)

    monkeypatch.setattr(Wanted, "begins", noted)
    async with gateway(tmp_path, {"a": [scene], "b": [other]}) as (http, fleet):
        _, run = await answered(http.post("/agents/a/chat", json={"message": "write"}))
        assert run["status"] == "waiting"
        hosts, fleet.at[A] = fleet.at[A], []
        decide = f"/runs/{run['run_id']}/approve"
        wanted.clear()
        assert (await answered(http.post(decide, json={"decision": "allow"})))[0] == 503
        assert wanted == [], "there is nobody to have a pod come"
        monkeypatch.setattr(runs, "UNKNOWN_SECONDS", 0)
        fleet.coming.add(A)
        async with http.post(decide, json={"decision": "allow"}) as answer:
            assert (answer.status, answer.headers["Retry-After"]) == (503, "5")
            assert (await answer.json())["error"]["reason"] == "AgentNotReady"
        assert wanted == [A]
        fleet.at[A] = hosts
        assert (await answered(http.post(decide, json={"decision": "allow"})))[0] == 200
        assert (await answered(http.get("/runs/run-of-nobody")))[0] == 404
