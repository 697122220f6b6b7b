"""Agents that ask each other on a real cluster: each in a pod of its own, through the gateway."""

from __future__ import annotations

from typing import Any

import aiohttp
import pytest

from tests.e2e.calling import asked, bearing, gateways
from tests.e2e.conftest import Terminal

pytestmark = [pytest.mark.timeout(240), pytest.mark.requirement("delegation-between-pods", "kaos-hierarchy")]
TALK = """
apiVersion: v1
kind: ServiceAccount
metadata: {name: caller}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: Role
metadata: {name: talk}
rules:
  - {apiGroups: [kagent.dev], resources: [agents/chat], resourceNames: [boss, worker], verbs: [create]}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata: {name: talk}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: Role, name: talk}
subjects: [{kind: ServiceAccount, name: caller}]
"""
AGENT = """
apiVersion: kagent.dev/v1alpha1
kind: Agent
metadata: {{name: {name}}}
spec:
  model: {{provider: scripted, name: script}}
  systemMessage: Help.
  agents: [{agents}]
  runtime: {{mode: {mode}}}
---
"""


@pytest.fixture
def team(terminal: Terminal) -> Terminal:
    """boss asks lead, which is in a pool; lead asks worker; and stranger is asked by nobody."""
    asks = {"boss": "lead", "lead": "worker", "worker": "", "stranger": ""}
    terminal.kubectl("apply", "-f", "-", stdin=TALK)
    modes = {name: "Pooled" if name == "lead" else "Dedicated" for name in asks}
    made = "".join(AGENT.format(name=name, agents=others, mode=modes[name]) for name, others in asks.items())
    terminal.kubectl("apply", "-f", "-", stdin=made)
    terminal.kubectl("wait", "--for=condition=Ready", *[f"agent/{name}" for name in asks], "--timeout=120s")
    return terminal


async def test_an_agent_asks_another_which_asks_a_third(team: Terminal) -> None:
    (url, *_) = gateways(team).values()
    caller = bearing(team, "caller")
    async with aiohttp.ClientSession(url) as http:
        said = {"message": "ask lead ask worker hello there"}
        status, reply = await asked(http, f"/agents/{team.namespace}/boss/chat", json=said, headers=caller)
        assert (status, reply["response"].partition("you said: ")[2]) == (200, "hello there")
        _, whole = await asked(http, f"/runs/{reply['run_id']}", headers=caller)
        (start,) = [event for event in whole["events"] if event["type"] == "delegate_start"]
        assert start["agent"] == f"{team.namespace}/lead"
        # What others were asked for them is theirs to see where they may talk to those, and nobody else's.
        _, listed = await asked(http, f"/runs?agent={team.namespace}/worker", headers=caller)
        (run,) = listed["runs"]
        assert run["caller"] == f"user:system:serviceaccount:{team.namespace}:caller"
        assert (await asked(http, f"/runs/{start['child_run_id']}", headers=caller))[0] == 404


async def test_a_pods_token_opens_nothing_but_the_agents_that_it_asks(team: Terminal) -> None:
    pod = team.get("pods", "-l", "app=boss")["items"][0]["metadata"]["name"]
    token = team.kubectl("exec", pod, "--", "cat", "/var/run/kadre/gateway/token").strip()
    as_pod = {"Authorization": f"Bearer {token}"}
    (url, *_) = gateways(team).values()
    said: dict[str, Any] = {"message": "hello", "parent": {"run_id": "run-1", "chain": [f"{team.namespace}/boss"]}}
    async with aiohttp.ClientSession(url) as http:
        _, listed = await asked(http, "/agents", headers=as_pod)
        assert [each["name"] for each in listed["agents"]] == ["lead"]
        for agent, expected in (("lead", 202), ("worker", 403), ("stranger", 403), ("boss", 403)):
            body = {**said, "agent": f"{team.namespace}/{agent}", "run_id": f"to-{agent}", "session_id": f"to-{agent}"}
            assert (await asked(http, "/runs", json=body, headers=as_pod))[0] == expected
        assert (await asked(http, f"/agents/{team.namespace}/lead/chat", json=said, headers=as_pod))[0] == 403
    # It is a token for the gateway: the API server takes it for nobody's. And who asks nobody has none.
    server = team.run("kubectl", "config", "view", "--minify", "-o", "jsonpath={.clusters[0].cluster.server}")
    async with aiohttp.ClientSession() as http, http.get(f"{server}/api", headers=as_pod, ssl=False) as answer:
        assert answer.status == 401
    worker = team.get("pods", "-l", "app=worker")["items"][0]["spec"]
    assert "gateway-token" not in {volume["name"] for volume in worker["volumes"]}


async def test_a_question_waits_for_the_pod_that_comes_in_anothers_place(team: Terminal) -> None:
    (url, *_) = gateways(team).values()
    caller = bearing(team, "caller")
    team.kubectl("delete", "pod", "-l", "app=worker", "--grace-period=0", "--force")
    async with aiohttp.ClientSession(url) as http:
        said = {"message": "ask lead ask worker hello again"}
        status, reply = await asked(http, f"/agents/{team.namespace}/boss/chat", json=said, headers=caller)
        assert (status, reply["response"].partition("you said: ")[2]) == (200, "hello again")
