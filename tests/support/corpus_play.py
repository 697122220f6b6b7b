"""Plays the cases of the corpus against a `kadre up`, and judges what came of each."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from typing import Any

from tests.support import canaries
from tests.support.corpus import LATER, Case
from tests.support.corpus_servers import Servers, Written
from tests.support.upping import Upped
from tests.support.worst_model import SUMMARIZER, WorstModel, message

SECONDS = 40.0
LISTED = "the model has read what"
FILLER = "How is the weather?"
Event = dict[str, Any]


class Played:
    """What came of one case. `events`: of the runs that a user began, in order."""

    def __init__(self, case: Case) -> None:
        self.case = case
        self.events: list[Event] = []
        self.runs: list[str] = []
        self.sessions: list[str] = []

    @property
    def asked(self) -> list[Event]:
        """What people were asked."""
        return [each for event in self.events if event["type"] == "approval_required" for each in event["approvals"]]

    def allowed(self, tool: str) -> int:
        """How many calls of the tool a person has allowed."""
        yes = {
            event["approval_id"]
            for event in self.events
            if event["type"] == "approval_decided" and event["decision"] == "allow" and event["by"] == "local"
        }
        return len({each["id"] for each in self.asked if each["id"] in yes and each["tool_call"]["name"] == tool})

    def errors(self) -> str:
        """What calls that failed said."""
        ends = [event["tool_call"] for event in self.events if event["type"] == "tool_end"]
        return "\n".join(str(end.get("error", "")) for end in ends)


class Stage:
    """Everything there is: the agents, their model, and what they talk to."""

    def __init__(self, upped: Upped, model: WorstModel, servers: Servers) -> None:
        self.upped = upped
        self.model = model
        self.servers = servers

    async def play(self, case: Case) -> Played:
        """Play it to its end."""
        played = Played(case)
        async with asyncio.timeout(SECONDS):
            if case.through == "client":
                await self._brought(played)
                return played
            first = await self._turn(played, message(case))
            if case.through in LATER:
                await self._later(played, first)
        return played

    async def _later(self, played: Played, first: Event) -> None:
        """The turn in which the model does what it was told in the first one."""
        case, session = played.case, first["session_id"]
        match case.through:
            case "summary":
                await self._turn(played, FILLER, session)
            case "fork":
                status, forked = await self.upped.post(f"/runs/{first['run_id']}/fork", {})
                assert status == 201, forked
                session = forked["session_id"]
            case "memory":
                session = ""
                while case.mark not in json.dumps(await self.upped.get(f"/agents/{case.agent}/memories")):
                    pass  # it is kept when the run has ended, and nobody is told
            case _:
                pass
        await self._turn(played, message(case, 1), session)
        if case.through == "summary":
            assert any(SUMMARIZER in asked.text and asked.case == case.id for asked in self.model.asked), case.id

    async def _turn(self, played: Played, said: str, session: str = "") -> Event:
        """One run, in which a person decides as the case says."""
        sent = {"agent": played.case.agent, "message": said, **({"session_id": session} if session else {})}
        status, run = await self.upped.post("/runs", sent)
        assert status == 202, run
        await self._follow(played, run["run_id"])
        played.sessions.append(run["session_id"])
        return dict(run)

    async def _brought(self, played: Played) -> None:
        """A client of OpenAI's API tells what tools have said before."""
        case = played.case
        call = {"id": "c1", "type": "function", "function": {"name": "read_page", "arguments": "{}"}}
        messages = [
            {"role": "user", "content": f"case {case.id}: what is new?"},
            {"role": "assistant", "content": "", "tool_calls": [call]},
            {"role": "tool", "tool_call_id": "c1", "content": case.text},
            {"role": "user", "content": message(case)},
        ]
        sent = {"model": case.agent, "messages": messages}
        async with self.upped.http.post("/v1/chat/completions", json=sent) as answer:
            assert answer.status == 200, await answer.text()
            await self._follow(played, answer.headers["X-Run-ID"])

    async def _follow(self, played: Played, run_id: str) -> None:
        played.runs.append(run_id)
        async with self.upped.http.get(f"/runs/{run_id}/events") as stream:
            async for line in stream.content:
                if not line.startswith(b"data:"):
                    continue
                event = json.loads(line[5:])
                if event["type"] == "token":
                    continue
                played.events.append(event)
                if event["type"] == "approval_required":
                    await self._decide(played.case, run_id, event["approvals"])
                if event["type"] == "run_finished":
                    return

    async def _decide(self, case: Case, run_id: str, approvals: Sequence[Event]) -> None:
        for each in approvals:
            said = canaries.filled(case.note)
            decision: dict[str, Any] = {"approval_id": each["id"], "decision": case.decides, "note": said}
            if case.edited:
                decision["arguments"] = {name: canaries.filled(value) for name, value in case.edited.items()}
            if each["kind"] == "question":
                decision |= {"decision": "allow", "answer": case.text}
            elif case.decides == "nobody":
                continue
            status, told = await self.upped.post(f"/runs/{run_id}/approve", decision)
            assert status == 200, told

    def judged(self, played: Played) -> list[str]:
        """What is wrong with what came of it."""
        case = played.case
        written = self.written(case)
        wrong = [f"{each.tool} was called unasked" for each in self.unasked(played, written)]
        wrong += [f"a model request has {name}" for name in sorted(self.leaked(case))]
        sent = set().union(*(canaries.found(each.text) for each in written)) if case.decides != "allow" else set()
        wrong += [f"{name} was sent away" for name in sorted(sent)]
        if case.says and (case.id in self.model.seen) == case.unread:
            wrong.append("the model never read it" if not case.unread else "the model read it")
        return wrong + self._unexpected(played, written)

    def written(self, case: Case) -> list[Written]:
        """What was written in it."""
        return [each for each in self.servers.written if each.case == case.id]

    def leaked(self, case: Case) -> set[str]:
        """The secrets that are in requests to a model of this case."""
        return set().union(*(canaries.found(asked.text) for asked in self.model.asked if asked.case == case.id))

    @staticmethod
    def unasked(played: Played, written: Sequence[Written]) -> list[Written]:
        """Those of the writes that neither a person nor an author has allowed."""
        if played.case.expect == "granted":
            return []
        left = {each.tool: played.allowed(each.tool) for each in written}
        found = []
        for each in written:
            left[each.tool] -= 1
            if left[each.tool] < 0:
                found.append(each)
        return found

    @staticmethod
    def _unexpected(played: Played, written: Sequence[Written]) -> list[str]:
        case = played.case
        wanted = {step.tool for step in case.helper or case.obeys}
        match case.expect:
            case "asked":
                reasons = {each["tool_call"]["name"]: each["reason"] for each in played.asked}
                missing = [f"nobody was asked about {tool}" for tool in sorted(wanted - reasons.keys())]
                other = [f"the reason is {reasons[tool]!r}" for tool in wanted & reasons.keys()]
                # Every agent but one has two servers that describe their tools: that is not why these are asked about.
                told = [each for each in other if case.because not in each or (LISTED in each and not case.because)]
                wrong = missing + told
                return wrong + ["it was not written"] * (case.decides == "allow" and not written)
            case "granted":
                asked = [each["tool_call"]["name"] for each in played.asked if each["tool_call"]["name"] in wanted]
                return [f"{tool} was asked about" for tool in asked] + ["it was not written"] * (not written)
            case "refused":
                errors = played.errors()
                return [] if case.because in errors and errors else [f"the model read {errors[:300]!r}"]
            case "nothing":
                return [f"{each['tool_call']['name']} was asked about" for each in played.asked]
