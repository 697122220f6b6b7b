"""Pooled agents on a real cluster: many in one pod, there and changed at once, and none in another's way."""

from __future__ import annotations

import asyncio
import json
import time
from typing import Any

import aiohttp
import pytest

from kadre.base.clock import SystemClock
from tests.e2e.calling import CALLERS, asked, bearing, gateways
from tests.e2e.conftest import Terminal
from tests.e2e.test_gateway import COUNTING
from tests.e2e.test_scaling import load

pytestmark = [pytest.mark.timeout(300), pytest.mark.requirement("pooled-agents")]
AGENT = """
---
apiVersion: kagent.dev/v1alpha1
kind: Agent
metadata: {{name: {name}}}
spec:
  model: {{provider: scripted, name: script}}
  systemMessage: {prompt}
  runtime: {{mode: Pooled}}
"""
KEPT = """
apiVersion: v1
kind: Secret
metadata: {{name: chats}}
stringData: {{url: "{journal}"}}
---
apiVersion: kagent.dev/v1alpha1
kind: Agent
metadata: {{name: {name}}}
spec:
  model: {{provider: vllm, name: m, endpoint: "http://counting:8000/v1"}}
  memory: {{type: postgres, secretRef: {{name: chats, key: url}}}}
  runtime: {{mode: {mode}}}
"""
CALLED = "kadre-pool-default"
BROKEN = "  memory: {type: postgres, config: {host: nowhere.invalid}}\n"
SOON = 2.0
"""Seconds from `kubectl apply` to an answer."""
MANY = 24


def agent(name: str, prompt: str = "You help.") -> str:
    return AGENT.format(name=name, prompt=prompt)


def pods(terminal: Terminal) -> list[dict[str, Any]]:
    """Those of the pool."""
    found: list[dict[str, Any]] = terminal.get("pods", "-l", "kagent.dev/pool=default")["items"]
    return found


@pytest.fixture
def team(terminal: Terminal) -> Terminal:
    """A namespace with a pool that serves an agent, and a caller who may talk to it."""
    terminal.kubectl("apply", "-f", "-", stdin=COUNTING + "---" + CALLERS)
    terminal.kubectl("apply", "-f", "-", stdin=agent("first"))
    terminal.kubectl("wait", "--for=condition=Ready", "pod/counting", "agent/first", "--timeout=60s")
    return terminal


class Caller:
    """Talks to the agents of a namespace through the gateway."""

    def __init__(self, terminal: Terminal, http: aiohttp.ClientSession) -> None:
        self._terminal = terminal
        self._http = http
        self._headers = bearing(terminal, "caller")
        self._url = next(iter(gateways(terminal).values()))

    async def chat(
        self, name: str, message: str = "hello", session: str = "s", **more: str
    ) -> tuple[int, dict[str, Any]]:
        said = {"message": message, "session_id": session, **more}
        return await asked(
            self._http, self.at(f"/agents/{self._terminal.namespace}/{name}/chat"), json=said, headers=self._headers
        )

    async def get(self, path: str) -> tuple[int, dict[str, Any]]:
        return await asked(self._http, self.at(path), headers=self._headers)

    def at(self, path: str) -> str:
        return f"{self._url}{path}"

    async def until_answered(self, name: str, answer: str = "") -> None:
        """Ask until the agent answers, and with these words in it."""
        while True:
            status, told = await self.chat(name, session=f"{name}-{time.monotonic_ns()}")
            if status == 200 and answer in told["response"]:
                return
            await SystemClock().sleep(0.02)


async def test_agents_of_a_pool_answer_as_soon_as_they_are_applied_and_all_from_one_pod(team: Terminal) -> None:
    names = [f"agent-{number}" for number in range(MANY)]
    async with aiohttp.ClientSession() as http:
        caller = Caller(team, http)
        began = time.monotonic()
        await asyncio.to_thread(team.kubectl, "apply", "-f", "-", stdin=agent("second"))
        await caller.until_answered("second")
        assert time.monotonic() - began <= SOON
        await asyncio.to_thread(team.kubectl, "apply", "-f", "-", stdin="".join(map(agent, names)))
        await asyncio.gather(*[caller.until_answered(name) for name in names])
        team.kubectl("wait", "--for=condition=Ready", *(f"agent/{name}" for name in names), "--timeout=30s")
    assert len(pods(team)) == 1
    for kind, expected in (("deployments", {CALLED}), ("services", {"counting", CALLED})):
        assert {each["metadata"]["name"] for each in team.get(kind)["items"]} == expected
    team.kubectl("delete", "agents", "--all")
    team.kubectl("wait", "--for=delete", f"deployment/{CALLED}", "--timeout=60s")


async def test_a_change_needs_no_restart_and_a_plan_that_cannot_be_served_is_in_nobodys_way(team: Terminal) -> None:
    (before,) = pods(team)
    plan = team.get("agent", "first")["status"]["planHash"]
    async with aiohttp.ClientSession() as http:
        caller = Caller(team, http)
        changed = agent("first", "Changed.") + agent("broken") + BROKEN + agent("third")
        await asyncio.to_thread(team.kubectl, "apply", "-f", "-", stdin=changed)
        reason = "jsonpath={.status.conditions[?(@.type=='Ready')].reason}=PlanNotServed"
        await asyncio.to_thread(team.kubectl, "wait", f"--for={reason}", "agent/broken", "--timeout=60s")
        await asyncio.gather(*[caller.until_answered(name) for name in ("first", "third")])
        team.kubectl("wait", "--for=condition=Ready", "agent/first", "agent/third", "--timeout=30s")
        assert (await caller.chat("broken"))[0] == 503
    assert team.get("agent", "first")["status"]["planHash"] != plan
    (after,) = pods(team)
    assert after["metadata"]["uid"] == before["metadata"]["uid"]
    assert [each["restartCount"] for each in after["status"]["containerStatuses"]] == [0]


@pytest.mark.requirement("pool-serves-what-is-made")
async def test_a_plan_that_somebody_else_made_is_never_served(team: Terminal) -> None:
    made = team.get("configmap", f"first-{team.get('agent', 'first')['status']['planHash']}")
    plan = json.loads(made["data"]["plan.json"])
    plan["model"] |= {"provider": "vllm", "model": "m", "endpoint": "http://counting:8000/v1"}
    forged = {
        name: {
            **{field: made[field] for field in ("apiVersion", "kind")},
            "metadata": {"name": f"{name}-0123456789", "labels": made["metadata"]["labels"]},
            "data": {"plan.json": json.dumps(plan | {"key": plan["key"] | {"name": name}})},
        }
        for name in ("first", "forged")
    }
    for each in forged.values():
        await asyncio.to_thread(team.kubectl, "create", "-f", "-", stdin=json.dumps(each))
    async with aiohttp.ClientSession() as http:
        caller = Caller(team, http)
        await asyncio.to_thread(team.kubectl, "apply", "-f", "-", stdin=agent("sign"))
        await caller.until_answered("sign")
        status, told = await caller.chat("first", "count 2")
        assert (status, told["response"] != "1 2 ") == (200, True), told
    (pod,) = pods(team)
    served = json.loads(team.get("configmap", f"{CALLED}.served")["data"][pod["metadata"]["name"]])["plans"]
    assert served == {name: team.get("agent", name)["status"]["planHash"] for name in ("first", "sign")}
    there = {each["metadata"]["name"] for each in team.get("configmaps")["items"]}
    assert {each["metadata"]["name"] for each in forged.values()} <= there  # nobody has taken them away meanwhile


@pytest.mark.needs("postgres")
async def test_a_turn_goes_on_in_the_next_pod_when_its_own_is_killed(team: Terminal, journal: str) -> None:
    team.kubectl("apply", "-f", "-", stdin=KEPT.format(journal=journal, name="kept", mode="Pooled"))
    team.kubectl("wait", "--for=condition=Ready", "agent/kept", "--timeout=60s")
    async with aiohttp.ClientSession() as http:
        caller = Caller(team, http)
        assert (await caller.chat("kept", "count 2"))[0] == 200
        _, begun = await asked(
            http,
            caller.at("/runs"),
            json={"agent": f"{team.namespace}/kept", "message": "count 60", "session_id": "s"},
            headers=bearing(team, "caller"),
        )
        run = begun["run_id"]
        (pod,) = pods(team)
        kill = ["delete", "pod", pod["metadata"]["name"], "--force", "--grace-period=0"]
        await asyncio.to_thread(team.kubectl, *kill)
        while True:
            status, told = await caller.get(f"/runs/{run}")
            if status == 200 and told["status"] in {"completed", "interrupted", "failed"}:
                break
            assert status in {200, 404, 503}, told
            await SystemClock().sleep(0.2)
        assert told["status"] == "completed", told
        status, again = await caller.chat("kept", "count 1")
        assert (status, again["response"]) == (200, "1 ")


@pytest.mark.needs("postgres")
async def test_a_session_goes_on_where_an_agent_moves_to(team: Terminal, journal: str) -> None:
    async with aiohttp.ClientSession() as http:
        team.kubectl("apply", "-f", "-", stdin=KEPT.format(journal=journal, name="mover", mode="Dedicated"))
        team.kubectl("wait", "--for=condition=Ready", "agent/mover", "--timeout=60s")
        caller = Caller(team, http)
        refused: list[Any] = []
        moved = asyncio.Event()

        async def ask_on() -> int:
            """Somebody who goes on talking all the while."""
            asked_for = 0
            while not moved.is_set():
                status, told = await caller.chat("mover", "count 1", session="going")
                asked_for += 1
                if status != 200:
                    refused.append((status, told))
            return asked_for

        going = asyncio.create_task(ask_on())
        assert (told := await caller.chat("mover", "count 1"))[0] == 200, told
        for mode, gone in (("Pooled", "deployment/mover"), ("Dedicated", "")):
            text = KEPT.format(journal=journal, name="mover", mode=mode)
            await asyncio.to_thread(team.kubectl, "apply", "-f", "-", stdin=text)
            if gone:
                await asyncio.to_thread(team.kubectl, "wait", "--for=delete", gone, "--timeout=60s")
            else:
                there = ["wait", "--for=jsonpath={.status.url}", "agent/mover", "--timeout=60s"]
                await asyncio.to_thread(team.kubectl, *there)
                await asyncio.to_thread(team.kubectl, "rollout", "status", "deployment/mover", "--timeout=60s")
            assert (told := await caller.chat("mover", "count 1"))[0] == 200, told
        moved.set()
        assert await going > 2
        assert refused == []
        _, session = await caller.get("/sessions/s")
        assert [run["status"] for run in session["runs"]] == ["completed"] * 3, session


@pytest.mark.needs("postgres")
async def test_a_pool_has_more_pods_under_load_and_a_session_goes_on_in_any_of_them(
    terminal: Terminal, journal: str
) -> None:
    terminal.kubectl("apply", "-f", "-", stdin=COUNTING + "---" + CALLERS)
    terminal.kubectl("apply", "-f", "-", stdin=KEPT.format(journal=journal, name="kept", mode="Pooled"))
    terminal.kubectl("wait", "--for=condition=Ready", "pod/counting", "agent/kept", "--timeout=60s")
    async with aiohttp.ClientSession() as http:
        caller = Caller(terminal, http)
        with load(terminal.get("service", CALLED)["spec"]["clusterIP"]):
            more = [f"deployment/{CALLED}", "--for=jsonpath={.status.readyReplicas}=2", "--timeout=120s"]
            talking = asyncio.create_task(asyncio.to_thread(terminal.kubectl, "wait", *more))
            asked_for = 0
            while not talking.done() or asked_for < 3:
                status, told = await caller.chat("kept", "count 1")
                assert (status, told.get("response")) == (200, "1 "), told
                asked_for += 1
            await talking
        _, session = await caller.get("/sessions/s")
        assert {run["status"] for run in session["runs"]} == {"completed"}
    terminal.kubectl("wait", "--for=condition=Ready", "agent/kept", "--timeout=30s")
