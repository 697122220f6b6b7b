"""Pods killed in the middle of a turn that somebody follows through the gateway: the agent's, and its model's."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Iterator
from typing import Any

import aiohttp
import pytest

from kadre.base.clock import SystemClock
from tests.e2e.calling import CALLERS, asked, bearing, gateways, lines
from tests.e2e.conftest import Terminal
from tests.e2e.test_gateway import AGENT, COUNTING
from tests.e2e.test_kaos import HOSTED, KEYS, PROXY
from tests.e2e.test_pools import KEPT

pytestmark = [pytest.mark.timeout(300), pytest.mark.requirement("gateway-broken-pods")]
KILL = ["delete", "pod", "--force", "--grace-period=0", "-l"]
LONG = 150
"""Words, one every tenth of a second: a killed pod has some seconds yet, in which no turn may end by itself."""
BEFORE_COUNTING = PROXY.replace("http://outside:8080/v1", "http://counting:8000/v1")
ASSISTANT = """
apiVersion: kaos.tools/v1alpha1
kind: Agent
metadata: {{name: assistant}}
spec: {{modelAPI: models, model: "{model}"}}
"""


class Follower:
    """Follows one run of an agent, from whichever gateway's turn it is, and kills a pod when it has heard something."""

    def __init__(self, terminal: Terminal, http: aiohttp.ClientSession, agent: str) -> None:
        self.seen: list[tuple[str, dict[str, Any]]] = []
        """Events, each with its id."""
        self.run = ""
        self.refused: list[str] = []
        """The reasons for which it was not told more, one after the other."""
        self.message = ""
        """With the last of these."""
        self._terminal = terminal
        self._http = http
        self._agent = f"{terminal.namespace}/{agent}"
        self._headers = bearing(terminal, "caller") | {"Accept": "text/event-stream"}
        self._urls: Iterator[str] = itertools.cycle(gateways(terminal).values())

    async def begin(self, message: str, killed: str, heard: int = 12) -> None:
        """Say something, and kill the pods of that label when so many events are there; until the stream ends."""
        chat = f"{next(self._urls)}/agents/{self._agent}/chat"
        killing: asyncio.Task[str] | None = None
        async with self._http.post(chat, json={"message": message}, headers=self._headers) as answer:
            assert answer.status == 200, await answer.text()
            self.run = answer.headers["X-Run-ID"]
            try:
                async for each in lines(answer):
                    self.seen.append(each)
                    if len(self.seen) >= heard and killing is None:
                        killing = asyncio.create_task(asyncio.to_thread(self._terminal.kubectl, *KILL, killed))
            except aiohttp.ClientPayloadError:
                assert self.seen[-1][1]["type"] == "error", self.seen[-1]
        assert killing is not None, f"it was over before anything was killed: {self.seen}"
        await killing

    async def go_on(self) -> None:
        """Ask on, as a client does, until the run has ended or is said to be none."""
        while True:
            (last, *_) = [name for name, _ in reversed(self.seen) if name]
            events = f"{next(self._urls)}/runs/{self.run}/events"
            async with self._http.get(events, headers=self._headers | {"Last-Event-ID": last}) as answer:
                if answer.status == 200:
                    self.seen += [each async for each in lines(answer)]
                    return
                self.message = (error := (await answer.json())["error"])["message"]
                self.refused.append(error["reason"])
                if answer.status == 404:
                    return
                assert (answer.status, answer.headers["Retry-After"]) == (503, "5"), error
            await SystemClock().sleep(0.2)

    async def answered(self, message: str) -> tuple[int, dict[str, Any]]:
        """What is answered to a message of its own."""
        headers = {"Authorization": self._headers["Authorization"]}
        chat = f"{next(self._urls)}/agents/{self._agent}/chat"
        return await asked(self._http, chat, json={"message": message}, headers=headers)


@pytest.mark.needs("postgres")
async def test_a_turn_whose_pod_is_killed_goes_on_where_it_is_kept_and_is_said_to_be_lost_elsewhere(
    terminal: Terminal, journal: str
) -> None:
    kept = KEPT.format(journal=journal, name="kept", mode="Dedicated")
    manifests = [COUNTING, CALLERS, kept, AGENT.format(message="Count.")]
    terminal.kubectl("apply", "-f", "-", stdin="---".join(manifests))
    terminal.kubectl("wait", "--for=condition=Ready", "pod/counting", "agent/kept", "agent/counter", "--timeout=90s")
    async with aiohttp.ClientSession() as http:
        here, gone = Follower(terminal, http, "kept"), Follower(terminal, http, "counter")
        said = f"count {LONG}"
        both = here.begin(said, "agent=kept"), gone.begin(said, "agent=counter")
        await asyncio.gather(*both)
        for each, fate in ((here, f"look at /runs/{here.run}"), (gone, "the run is lost with it")):
            assert fate in each.seen[-1][1]["message"], each.seen[-1]
            each.seen.pop()
        await asyncio.gather(here.go_on(), gone.go_on())
        assert gone.refused[-1] in {"RunLost", "NoSuchRun"}
        assert set(gone.refused[:-1]) <= {"AgentNotReady"}
        assert set(here.refused) <= {"AgentNotReady"}
        while gone.refused[-1] != "RunLost":  # which the gateway knows that has handed the run on
            await gone.go_on()
        assert f"agent {terminal.namespace}/counter keeps its runs in its pod" in gone.message
        assert (await gone.answered("count 2"))[1]["response"] == "1 2 "
    numbers = [int(name) for name, _ in here.seen if "." not in name]
    assert numbers == list(range(1, len(numbers) + 1))
    assert "TakenUp" in [event.get("reason") for _, event in here.seen], here.refused
    (whole,) = [event for _, event in here.seen if event["type"] == "assistant_message"]
    assert whole["content"].split() == [str(number) for number in range(1, LONG + 1)]
    assert here.seen[-1][1]["status"] == "completed"


async def falls_away(terminal: Terminal, message: str) -> None:
    """A ModelAPI's pod is killed amid a turn: the turn says so, so does what uses it, and all comes back by itself."""
    terminal.kubectl("wait", "--for=create", "deployment/assistant", "--timeout=90s")
    terminal.kubectl("wait", "--for=jsonpath={.status.ready}=true", "agents.kaos.tools/assistant", "--timeout=90s")
    away = [
        asyncio.create_task(asyncio.to_thread(terminal.kubectl, "wait", f"--for={said}", of, "--timeout=60s"))
        for said, of in (
            ("jsonpath={.status.ready}=false", "modelapi/models"),
            ("condition=DependenciesReady=False", "agents.kaos.tools/assistant"),
        )
    ]
    async with aiohttp.ClientSession() as http:
        follower = Follower(terminal, http, "assistant")
        await follower.begin(message, "app=modelapi-models", heard=6)
        (_, why), (_, last) = follower.seen[-2:]
        assert (last["type"], last["status"]) == ("run_finished", "failed"), follower.seen[-3:]
        assert why["reason"] == "ModelStreamBroken"
        assert "broke off" in why["message"]
        assert "send the message again" in why["message"]
        await asyncio.gather(*away)
        status, told = await follower.answered("count 2")
        while status != 200:
            assert (status, told["error"]["reason"]) == (502, "ModelUnavailable"), told
            assert "no connection to http://modelapi-models" in told["error"]["message"]
            await SystemClock().sleep(0.2)
            status, told = await follower.answered("count 2")
    terminal.kubectl("wait", "--for=jsonpath={.status.ready}=true", "modelapi/models", "--timeout=30s")
    terminal.kubectl("wait", "--for=condition=DependenciesReady", "agents.kaos.tools/assistant", "--timeout=30s")


@pytest.mark.requirement("kaos-servers")
async def test_an_agent_whose_litellm_falls_away_says_so_and_is_back_when_that_is(
    terminal: Terminal, litellm: None
) -> None:
    manifests = [COUNTING, CALLERS, KEYS, BEFORE_COUNTING, ASSISTANT.format(model="m")]
    terminal.kubectl("apply", "-f", "-", stdin="---".join(manifests))
    await falls_away(terminal, "count 60")


@pytest.mark.requirement("kaos-servers")
async def test_an_agent_whose_ollama_falls_away_says_so_and_is_back_when_that_is(
    terminal: Terminal, running_ollama: str
) -> None:
    hosted = HOSTED.replace("{model}", "smollm2:135m")
    terminal.kubectl("apply", "-f", "-", stdin="---".join([CALLERS, hosted, ASSISTANT.format(model="smollm2:135m")]))
    await falls_away(terminal, "Write a very long story about the sea, with many chapters.")
