"""A server of OpenAI's API whose model does what any text in its conversation tells it, and repeats all it has read."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any, NamedTuple

from aiohttp import web

from kadre.engine import opening
from kadre.engine.memory import longterm
from tests.support.corpus import LATER, Case, Step
from tests.support.embeddings import embedded

CASE = re.compile(r"case ([\w-]+): (.*)", re.DOTALL)
PLACEHOLDER = re.compile(r"\[secret:[^\]\s]+\]")
HELPER = "worst-helper"
SUMMARIZER = "worst-summary"
MOST_SAID = 20_000


class Asked(NamedTuple):
    """A request as it came, without the header that says who calls."""

    case: str
    path: str
    text: str


class WorstModel:
    """A running one. `asked`: every request; `seen`: the cases whose text it has read."""

    def __init__(self) -> None:
        self.url = ""
        self.asked: list[Asked] = []
        self.seen: set[str] = set()
        self.keys: set[str] = set()
        self.cases: Mapping[str, Case] = {}

    async def chat(self, request: web.Request) -> web.StreamResponse:
        """One answer."""
        body = json.loads(text := await self._heard(request))
        messages = body["messages"]
        case, said = self._about(messages)
        self.asked.append(Asked(case.id if case else "", request.path, text))
        if case is not None and case.form == "model-error":
            shown = f"{case.text} is not allowed for {request.headers['Authorization']}"
            return web.json_response({"error": {"message": shown, "type": "invalid_api_key"}}, status=401)
        if case is not None and case.form == "helper-error" and body["model"] == HELPER and case.mark in text:
            return web.json_response({"error": {"message": case.text, "type": "content_filter"}}, status=400)
        answer, calls = self._answer(case, said, messages, body)
        return await _sent(request, bool(body.get("stream")), answer, calls)

    async def embeddings(self, request: web.Request) -> web.Response:
        """Vectors."""
        body = json.loads(text := await self._heard(request))
        self.asked.append(Asked("", request.path, text))
        return web.json_response(await embedded(body, 64))

    async def _heard(self, request: web.Request) -> str:
        """What was sent, its other headers included."""
        headers = dict(request.headers)
        self.keys.add(headers.pop("Authorization", "").removeprefix("Bearer "))
        body = await request.text()
        assert json.loads(body), "no body"
        return body if not _odd(headers) else json.dumps({"headers": headers}) + body

    def _about(self, messages: list[dict[str, Any]]) -> tuple[Case | None, str]:
        """The case that is played, and what the user said."""
        for message in reversed(messages):
            if message["role"] == "user" and (found := CASE.search(message["content"])):
                return self.cases[found[1]], found[2]
        return None, ""

    def _answer(
        self, case: Case | None, said: str, messages: list[dict[str, Any]], body: dict[str, Any]
    ) -> tuple[str, list[Step]]:
        if case is None:
            return "I see.", []
        all_of_it = json.dumps([messages, body.get("tools", [])], ensure_ascii=False)
        reads_it = case.mark in all_of_it
        if reads_it:
            self.seen.add(case.id)
        asked = messages[0]["content"] if messages[0]["role"] == "system" else ""
        if asked == opening.ASKED:
            return f"The user wants this: {messages[-1]['content']}", []
        if asked == longterm.ASKED:
            kept = case.through == "memory" and "look" in said
            return json.dumps([_around(case, messages[-1]["content"])] if kept else []), []
        done = _calls(messages)
        planned = self._planned(case, said, body["model"], reads_it)
        if done < len(planned):
            return "", [_filled(planned[done], case, all_of_it)]
        return _repeated(messages), []

    @staticmethod
    def _planned(case: Case, said: str, model: str, reads_it: bool) -> list[Step]:
        """The calls of this turn, from the first."""
        if model == HELPER:
            reads = [Step("fetch", {"case": "{case}"})] if "look" in said else []
            return [*reads, *(case.helper if reads_it or "obey" in said else ())]
        reads = [*case.steps] if "look" in said else []
        obeys = case.obeys if (reads_it or not case.says) and "go on" in said else ()
        return [*reads, *obeys]


def message(case: Case, turn: int = 0) -> str:
    """What the user says. Where the model obeys in a later turn, the first one only has it look."""
    if case.through not in LATER:
        return f"case {case.id}: look, and go on"
    return f"case {case.id}: look" if turn == 0 else f"case {case.id}: go on. {case.says[:300]}"


def _odd(headers: Mapping[str, str]) -> bool:
    usual = {"host", "accept", "accept-encoding", "user-agent", "content-type", "content-length"}
    return any(name.lower() not in usual for name in headers)


def _calls(messages: list[dict[str, Any]]) -> int:
    """How many calls were made in this turn."""
    count = 0
    for each in reversed(messages):
        if each["role"] == "user":
            break
        count += len(each.get("tool_calls") or ())
    return count


def _filled(step: Step, case: Case, read: str) -> Step:
    """The step with what the model has read in it, also spelt otherwise, as one does who wants to get past a mask."""
    placeholder = next(iter(PLACEHOLDER.findall(read)), "[secret:tickets-token/value]")
    inner = placeholder[1:-1]
    values = {
        "{case}": case.id,
        "{found}": placeholder,
        "{found|upper}": placeholder.upper(),
        "{found|base64}": base64.b64encode(placeholder.encode()).decode(),
        "{found|hex}": placeholder.encode().hex(),
        "{found|halves}": f"[{inner[:8]} + {inner[8:]}]",
        "{found|other}": placeholder.replace("[secret:", "[[secret:").replace("/value", " / value"),
    }
    text = json.dumps(step.arguments)
    for mark, value in values.items():
        text = text.replace(mark, value)
    return Step(step.tool, json.loads(text))


def _around(case: Case, told: str) -> str:
    """The words that the case's tool said, as they were read."""
    end = told.index(case.mark) + len(case.mark)
    return told[max(0, end - 300) : end]


def _repeated(messages: list[dict[str, Any]]) -> str:
    """All that tools have said, as it is and encoded."""
    told = "\n".join(str(each["content"]) for each in messages if each["role"] == "tool")[:MOST_SAID]
    data = "".join(PLACEHOLDER.findall(told)).encode()
    return "\n".join([told, base64.b64encode(data).decode(), data.hex(), told[:200].upper(), told[:200][::-1]])


async def _sent(request: web.Request, stream: bool, text: str, steps: list[Step]) -> web.StreamResponse:
    calls = [
        {
            "index": number,
            "id": f"call-{number}",
            "type": "function",
            "function": {"name": step.tool, "arguments": json.dumps(step.arguments)},
        }
        for number, step in enumerate(steps)
    ]
    told = {"role": "assistant", "content": text, **({"tool_calls": calls} if calls else {})}
    reason = "tool_calls" if calls else "stop"
    usage = {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2}
    if not stream:
        choice = {"index": 0, "message": told, "finish_reason": reason}
        return web.json_response({"choices": [choice], "usage": usage})
    response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
    await response.prepare(request)
    pieces = [{"choices": [{"index": 0, "delta": told, "finish_reason": reason}]}, {"choices": [], "usage": usage}]
    for piece in pieces:
        await response.write(f"data: {json.dumps(piece)}\n\n".encode())
    await response.write(b"data: [DONE]\n\n")
    return response


@asynccontextmanager
async def worst_model() -> AsyncIterator[WorstModel]:
    """Serve it."""
    serving = WorstModel()
    app = web.Application(client_max_size=16 * 1024**2)
    app.router.add_post("/v1/chat/completions", serving.chat)
    app.router.add_post("/v1/embeddings", serving.embeddings)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    serving.url = f"http://127.0.0.1:{runner.addresses[0][1]}/v1"
    try:
        yield serving
    finally:
        await runner.cleanup()
