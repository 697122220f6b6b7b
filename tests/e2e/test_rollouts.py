"""Rolling forward and back by kubectl, and a controller that dies in the middle."""

from __future__ import annotations

import pytest

from tests.e2e.conftest import INSTALLED, Terminal
from tests.e2e.test_agents import MANIFEST

pytestmark = pytest.mark.timeout(300)


@pytest.mark.requirement("operator-rollback", "operator-rolling-update", "agent-versioning")
def test_a_rollout_is_undone_as_the_guide_does_it_and_stays_undone(terminal: Terminal) -> None:
    terminal.kubectl("apply", "-f", "-", stdin=MANIFEST)
    terminal.kubectl("wait", "--for=condition=Ready", "agent/my-agent", "--timeout=60s")
    terminal.kubectl("apply", "-f", "-", stdin=MANIFEST.replace("model: script}", "model: other}"))
    terminal.kubectl("wait", "--for=jsonpath={.status.revision}=2", "agent/my-agent", "--timeout=60s")
    terminal.kubectl("rollout", "status", "deployment/my-agent", "--timeout=60s")
    assert "\n2 " in terminal.kubectl("rollout", "history", "deployment/my-agent")
    terminal.kubectl("rollout", "undo", "deployment/my-agent")
    terminal.kubectl("wait", "--for=condition=RolledBack", "agent/my-agent", "--timeout=30s")
    terminal.kubectl("rollout", "status", "deployment/my-agent", "--timeout=60s")
    terminal.kubectl("wait", "--for=jsonpath={.status.revision}=3", "agent/my-agent", "--timeout=30s")
    assert "RolloutUndone" in terminal.kubectl("describe", "agent", "my-agent")


@pytest.mark.requirement("operator-faults")
def test_agents_come_right_though_the_controller_is_killed_at_its_work(terminal: Terminal) -> None:
    agents = [MANIFEST.replace("my-agent", f"agent-{number}") for number in range(8)]
    terminal.kubectl("apply", "-f", "-", stdin="\n---\n".join(agents))
    kill = ["delete", "pod", "-l", "app.kubernetes.io/component=controller", "--force", "--grace-period=0"]
    terminal.run("kubectl", "-n", INSTALLED, *kill)
    terminal.kubectl("wait", "--for=condition=Ready", "agents.kagent.dev", "--all", "--timeout=120s")
    found = terminal.get("deployments")["items"]
    assert sorted(each["metadata"]["name"] for each in found) == [f"agent-{number}" for number in range(8)]
