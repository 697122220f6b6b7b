"""The gateway on a real cluster: who calls is known, nobody else is let in, and streams outlive what carries them."""

from __future__ import annotations

import asyncio
from collections import Counter
from contextlib import suppress
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from tests.e2e.calling import CALLERS, asked, bearing, gateways, lines
from tests.e2e.conftest import INSTALLED, Terminal, scripted

pytestmark = [pytest.mark.timeout(300), pytest.mark.requirement("gateway-on-a-cluster")]
SCRIPT = (Path(__file__).parent / "slow_model.py").read_text()
COUNTING = scripted("counting", SCRIPT, 8000)
AGENT = """
apiVersion: kagent.dev/v1alpha1
kind: Agent
metadata: {{name: counter}}
spec:
  model: {{provider: vllm, name: m, endpoint: "http://counting:8000/v1"}}
  systemMessage: {message}
"""
STREAMS = 50
RUNS = 1000
FEW = 32
BOUNDED = f"""  maxConcurrentRuns: {FEW}
"""
MOST_MEMORY = 128 << 20
"""Bytes more that a gateway may have taken while a thousand requests were under way: see `crowd.ROOM`."""


@pytest.fixture
def counter(terminal: Terminal) -> Terminal:
    """An agent whose answers take their time, ready."""
    terminal.kubectl("apply", "-f", "-", stdin=COUNTING + "---" + CALLERS)
    terminal.kubectl("wait", "--for=condition=Ready", "pod/counting", "--timeout=60s")
    terminal.kubectl("apply", "-f", "-", stdin=AGENT.format(message="Count."))
    terminal.kubectl("wait", "--for=condition=Ready", "agent/counter", "--timeout=60s")
    return terminal


async def test_a_caller_is_who_the_cluster_says_and_may_what_its_rules_say(counter: Terminal) -> None:
    chat, hello = f"/agents/{counter.namespace}/counter/chat", {"message": "count 2"}
    caller, stranger = bearing(counter, "caller"), bearing(counter, "stranger")
    (url, *_) = gateways(counter).values()
    async with aiohttp.ClientSession(url) as http:
        for headers, expected in ((None, (401, "NoCredentials")), (stranger, (403, "NotAllowed"))):
            status, told = await asked(http, chat, json=hello, headers=headers)
            assert (status, told["error"]["reason"]) == expected
        status, told = await asked(http, chat, json=hello, headers={"Authorization": "Bearer no-token"})
        assert (status, told["error"]["reason"]) == (401, "BadToken")
        status, reply = await asked(http, chat, json=hello, headers=caller)
        assert (status, reply["response"]) == (200, "1 2 ")
        _, listed = await asked(http, "/runs", headers=caller)
        account = f"user:system:serviceaccount:{counter.namespace}:caller"
        assert {each["caller"] for each in listed["runs"]} == {account}
        _, listed = await asked(http, "/agents", headers=stranger)
        assert listed["agents"] == []
    # The pod itself believes nobody but the gateway: no stranger, and no token that was never meant for it.
    pod = counter.get("pods", "-l", "app=counter")["items"][0]["status"]["podIP"]
    async with aiohttp.ClientSession(f"http://{pod}:8080") as http:
        for headers in (None, caller):
            status, told = await asked(http, "/chat", json=hello, headers=headers)
            assert (status, told["error"]["reason"]) == (401, "NotLocal")
        status, told = await asked(http, "/chat", json=hello, headers={"X-Kadre-Identity": "a.b.c"})
        assert (status, told["error"]["reason"]) == (401, "UnprovenIdentity")


async def test_a_stream_is_gone_on_with_at_another_gateway_when_its_own_is_killed(counter: Terminal) -> None:
    caller = bearing(counter, "caller")
    (first, url), (_, other), *_ = gateways(counter).items()
    seen: list[tuple[str, dict[str, Any]]] = []
    run = ""
    async with aiohttp.ClientSession() as http:
        with suppress(aiohttp.ClientError):
            chat = f"{url}/agents/{counter.namespace}/counter/chat"
            headers = caller | {"Accept": "text/event-stream"}
            async with http.post(chat, json={"message": "count 80"}, headers=headers) as answer:
                run = answer.headers["X-Run-ID"]
                async for each in lines(answer):
                    seen.append(each)
                    if len(seen) == 12:
                        kill = ["delete", "pod", first, "--force", "--grace-period=0"]
                        await asyncio.to_thread(counter.run, "kubectl", "-n", INSTALLED, *kill)
        assert seen[-1][1]["type"] != "run_finished"
        again = caller | {"Last-Event-ID": seen[-1][0]}
        async with http.get(f"{other}/runs/{run}/events", headers=again) as answer:
            assert answer.status == 200
            seen += [each async for each in lines(answer)]
    kept = [int(name) for name, event in seen if "." not in name]
    assert kept == list(range(1, len(kept) + 1))
    (whole,) = [event for _, event in seen if event["type"] == "assistant_message"]
    assert whole["content"].split() == [str(number) for number in range(1, 81)]
    assert seen[-1][1]["status"] == "completed"
    counter.run("kubectl", "-n", INSTALLED, "rollout", "status", "deployment/kagent", "--timeout=60s")


async def test_streams_end_well_though_the_agent_rolls_under_them(counter: Terminal) -> None:
    caller = bearing(counter, "caller") | {"Accept": "text/event-stream"}
    urls = list(gateways(counter).values())

    async def follow(http: aiohttp.ClientSession, number: int, begun: asyncio.Event) -> str:
        chat = f"{urls[number % len(urls)]}/agents/{counter.namespace}/counter/chat"
        async with http.post(chat, json={"message": "count 60"}, headers=caller) as answer:
            begun.set()
            *_, (_, last) = [each async for each in lines(answer)]
            return str(last.get("status"))

    async with aiohttp.ClientSession() as http:
        begun = [asyncio.Event() for _ in range(STREAMS)]
        followed = [asyncio.create_task(follow(http, number, each)) for number, each in enumerate(begun)]
        await asyncio.gather(*[each.wait() for each in begun])
        rolled = AGENT.format(message="Count again.")
        await asyncio.to_thread(counter.kubectl, "apply", "-f", "-", stdin=rolled)
        assert Counter(await asyncio.gather(*followed)) == {"completed": STREAMS}


def memory(terminal: Terminal) -> dict[str, int]:
    """The bytes that each gateway's process has had at most, by its pod."""
    found = {}
    for pod in gateways(terminal):
        status = terminal.run("kubectl", "-n", INSTALLED, "exec", pod, "--", "cat", "/proc/1/status")
        (peak,) = [line.split()[1] for line in status.splitlines() if line.startswith("VmHWM")]
        found[pod] = int(peak) << 10
    return found


async def test_of_a_thousand_at_once_each_is_answered_or_told_when_to_come_back(counter: Terminal) -> None:
    few = AGENT.format(message="Count.").replace("name: counter", "name: few") + BOUNDED
    counter.kubectl("apply", "-f", "-", stdin=few)
    counter.kubectl("wait", "--for=condition=Ready", "agent/few", "--timeout=60s")
    caller = bearing(counter, "caller")
    urls = list(gateways(counter).values())
    told: Counter[int] = Counter()
    reasons: set[str] = set()
    before = memory(counter)

    async def ask(http: aiohttp.ClientSession, number: int) -> None:
        chat = f"{urls[number % len(urls)]}/agents/{counter.namespace}/few/chat"
        async with http.post(chat, json={"message": "count 1"}, headers=caller) as answer:
            body = await answer.json()
            told[answer.status] += 1
            if answer.status != 200:
                reasons.add(body["error"]["reason"])
                assert answer.headers["Retry-After"]

    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as http:
        await asyncio.gather(*[ask(http, number) for number in range(RUNS)])
    assert sum(told.values()) == RUNS
    assert set(told) <= {200, 429, 503}
    assert told[200] >= FEW
    assert "TooManyRuns" in reasons
    for pod, peak in memory(counter).items():
        assert peak - before[pod] < MOST_MEMORY
