"""`kadre host` as a process, as it runs in a pod."""

from __future__ import annotations

import socket
from pathlib import Path

import msgspec
import pytest

from kadre.plan.types import AgentKey, AgentPlan, ModelPlan
from tests.support.upping import hosting


@pytest.fixture
def plan(tmp_path: Path) -> Path:
    file = tmp_path / "plan.json"
    made = AgentPlan(key=AgentKey("team", "helper"), model=ModelPlan(provider="scripted", model="m"))
    file.write_bytes(msgspec.json.encode(made))
    return file


@pytest.mark.requirement("pod-says-durable")
async def test_a_pod_does_not_promise_to_keep_what_goes_with_it(plan: Path, tmp_path: Path) -> None:
    async with hosting(plan, "--data-dir", tmp_path / "data") as pod:
        (agent,) = (await pod.get("/agents"))["agents"]
        assert agent["durable"] is False
        assert (await pod.get("/agents/helper"))["durable"] is False


@pytest.mark.requirement("errors-name-their-field")
async def test_a_metrics_port_that_cannot_be_had_is_told_by_its_flag_and_its_field(plan: Path, tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(AssertionError, match="ended without saying") as told:
            async with hosting(plan, "--data-dir", tmp_path / "data", "--metrics-port", str(port)):
                pass
    *_, error, fix = str(told.value).split("assert")[0].strip().splitlines()
    assert error == f"error: port {port} is taken by another program"
    assert fix == f"    fix: use --metrics-port {port + 1}; in a cluster it is spec.observability.metrics.port"
