"""The OpenAI door: any client of `/v1/chat/completions` talks to an agent as if it were a model.

Without a session the client's messages are the history, as with OpenAI; with `X-Session-ID` the server keeps the
history and only the last user message is taken.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import AsyncIterator
from typing import Any

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from kadre.base.errors import BadRequest, KadreError, NotFound
from kadre.base.tasks import Tasks
from kadre.engine import events as ev
from kadre.engine.accepting import Ask
from kadre.engine.host import Host
from kadre.engine.live import Live
from kadre.engine.messages import Message, ToolCall
from kadre.plan.names import RESERVED
from kadre.plan.types import AgentKey
from kadre.server import auth, body, chat, errors, names, sse


class _Function(msgspec.Struct):
    name: str
    arguments: str = "{}"


class _ToolCall(msgspec.Struct):
    id: str
    function: _Function


class _Part(msgspec.Struct):
    type: str = ""
    text: str = ""


class _Message(msgspec.Struct):
    role: str
    content: str | list[_Part] | None = None
    tool_calls: list[_ToolCall] | None = None
    tool_call_id: str = ""


class _StreamOptions(msgspec.Struct):
    include_usage: bool | None = None


class CompletionRequest(msgspec.Struct):
    """The fields an agent heeds. Sampling fields are the agent author's, so a client's are accepted and not used."""

    messages: list[_Message]
    model: str = ""
    stream: bool | None = None
    stream_options: _StreamOptions | None = None
    n: int | None = None
    tools: list[Any] | None = None


BASE = "x-kadre-base"
"""Header by which the gateway says at which address its client has called it."""
_decoder = msgspec.json.Decoder(CompletionRequest)
_encode = msgspec.json.Encoder().encode


class OpenAIDoor:
    """`POST /v1/chat/completions` (agent in `model`) and `/{agent}/v1/chat/completions`, and `GET …/v1/models`."""

    def __init__(self, host: Host, directory: names.Directory, tasks: Tasks) -> None:
        self._host = host
        self._directory = directory
        self._tasks = tasks

    async def completions(self, request: Request) -> Response:
        """One turn of the agent as a chat completion."""
        sent = await body.decode(request, _decoder)
        ask = self._ask(request, sent)
        live = await self._host.start(ask)
        link = _link(request, live)
        watcher = self._tasks.spawn("disconnect", self._cancel_when_gone(request, live))
        try:
            if not sent.stream:
                return completion(live, await live.wait_decision(), link)
            with_usage = bool(sent.stream_options and sent.stream_options.include_usage)
            chunks = stream_chunks(live, with_usage, link)
            first = await anext(chunks)
        finally:
            watcher.cancel()
        if isinstance(first, Response):
            return first
        return sse.EventStream(_joined(first, chunks), chat.ids(live), gone=lambda: self._cancel(live))

    async def _cancel_when_gone(self, request: Request, live: Live) -> None:
        message = await request.receive()
        if message["type"] == "http.disconnect":
            self._cancel(live)

    def _cancel(self, live: Live) -> None:
        """Nobody can come back to this stream: as with a model server, a client that leaves stops the generation."""
        self._tasks.spawn("cancel", self._host.cancel(live.info.run_id))

    def _ask(self, request: Request, sent: CompletionRequest) -> Ask:
        if sent.tools:
            raise BadRequest("an agent's tools are its own; leave `tools` out", reason="ToolsNotAccepted")
        if sent.n not in (None, 1):
            raise BadRequest("an agent gives one answer; leave `n` out", reason="UnsupportedParameter")
        messages = [_neutral(message) for message in sent.messages]
        if not messages or messages[-1].role != "user":
            raise BadRequest("the last message must be the user's", reason="NoUserMessage")
        session = request.headers.get("x-session-id", "")
        caller: auth.Caller = request.scope["caller"]
        agent = self._agent(request, sent.model)
        auth.check(caller, agent)
        return Ask(
            agent=agent,
            message=messages[-1].content,
            session_id=session,
            history=() if session else tuple(messages[:-1]),
            caller=caller.name,
            stream=bool(sent.stream),
        )

    def _agent(self, request: Request, model: str) -> AgentKey:
        params = request.path_params
        if "name" in params:
            namespace = params.get("namespace", "")
            if params["name"] in RESERVED and not namespace:
                message = (
                    f"{params['name']} is an address of Kadre's own; use /NAMESPACE/{params['name']}/v1 for the agent"
                )
                raise NotFound(message, reason="ReservedName")
            return names.resolve(self._directory, params["name"], namespace)
        return names.resolve(self._directory, model) if model else names.only(self._directory)

    async def models(self, request: Request) -> Response:
        """The agents, as models."""
        keys = list(self._directory.all())
        if "name" in request.path_params:
            keys = [self._agent(request, "")]
        named = Counter(key.name for key in keys)
        data = [
            {
                "id": key.name if named[key.name] == 1 else f"{key.namespace}/{key.name}",
                "object": "model",
                "created": 0,
                "owned_by": "kadre",
            }
            for key in keys
        ]
        return errors.json_response({"object": "list", "data": data})


def _neutral(message: _Message) -> Message:
    content = message.content
    if isinstance(content, list):
        other = {part.type for part in content if part.type != "text"}
        if other:
            raise BadRequest(f"only text parts are taken, not {sorted(other)}", reason="UnsupportedContent")
        content = "".join(part.text for part in content)
    calls = tuple(ToolCall(call.id, call.function.name, call.function.arguments) for call in message.tool_calls or ())
    match message.role:
        case "system" | "developer":
            return Message("system", content or "")
        case "user":
            return Message("user", content or "")
        case "assistant":
            return Message("assistant", content or "", calls)
        case "tool":
            return Message("tool", content or "", tool_call_id=message.tool_call_id)
        case other_role:
            raise BadRequest(f"unknown role {other_role!r}", reason="UnknownRole")


def _link(request: Request, live: Live) -> str:
    """Where the client finds the run: at the gateway, where that has vouched for it, and not at a pod's own address."""
    caller: auth.Caller = request.scope["caller"]
    base = request.headers.get(BASE, "") if caller.agent else ""
    return f"{(base or str(request.base_url)).rstrip('/')}/runs/{live.info.run_id}"


def waiting_text(live: Live, link: str) -> str:
    """What a client that knows nothing of approvals is told while a person is waited for."""
    pending = live.pending_approvals()
    calls = "; ".join(map(_call, (each for each in pending if each.kind == "call")))
    questions = "; ".join(f"{each.reason} {_call(each)}" for each in pending if each.kind == "question")
    told = []
    if calls:
        told.append(f"This needs a person's approval: {calls}. Decide with POST {link}/approve")
    if questions:
        how = f'POST {link}/approve {{"decision": "allow", "answer": …}}'
        told.append(f"This needs a person's answer: {questions}. Answer with {how}")
    return "\n".join(told)


def _call(approval: ev.Approval) -> str:
    arguments = msgspec.json.encode(approval.tool_call.arguments).decode()
    return f"{approval.tool_call.name}({arguments}) [{approval.id}]"


def completion(live: Live, finished: ev.RunFinished | None, link: str) -> Response:
    """A finished or waiting run as one chat completion."""
    if finished is not None and finished.status != "completed":
        return _failed(live)
    text = live.answer() if finished is not None else waiting_text(live, link)
    usage = msgspec.structs.asdict(finished.usage) if finished is not None else None
    choice = {
        "index": 0,
        "message": {"role": "assistant", "content": text, "refusal": None},
        "logprobs": None,
        "finish_reason": _finish_reason(live) if finished is not None else "stop",
    }
    return errors.json_response(
        {**_head(live, "chat.completion"), "choices": [choice], "usage": usage}, 200, chat.ids(live)
    )


def _failed(live: Live) -> Response:
    failed = errors.failure(live)
    body = errors.openai_error(failed.status, failed.reason, failed.message)
    return errors.json_response(body, failed.status, {**chat.ids(live), **errors.retry_header(failed.retry_after)})


def _finish_reason(live: Live) -> str:
    for event in reversed(live.events):
        if type(event) is ev.AssistantMessage:
            return event.finish_reason
    return "stop"


def _head(live: Live, kind: str) -> dict[str, Any]:
    name = live.info.agent.rpartition("/")[2].partition(".")[0]  # an agent's name has no dot, its API group has
    return {"id": f"chatcmpl-{live.info.run_id}", "object": kind, "created": int(time.time()), "model": name}


def _line(data: Any) -> bytes:
    return b"data: " + _encode(data) + b"\n\n"


async def _joined(first: bytes, rest: AsyncIterator[bytes | Response]) -> AsyncIterator[bytes]:
    yield first
    async for chunk in rest:
        if isinstance(chunk, bytes):
            yield chunk


async def stream_chunks(live: Live, with_usage: bool, link: str) -> AsyncIterator[bytes | Response]:
    """The run as chat completion chunks. Yields a Response, and nothing else, where it failed before any text."""
    head = _head(live, "chat.completion.chunk")

    def chunk(delta: dict[str, str], reason: str | None = None) -> bytes:
        choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": reason}
        return _line({**head, "choices": [choice]})

    begun = False
    try:
        async for text in _texts(live, link):
            yield chunk({"content": text} if begun else {"role": "assistant", "content": text})
            begun = True
    except KadreError as error:
        if not begun:
            yield errors.as_refusal(error, errors.OPENAI_PATHS[0])
            return
        yield _line(errors.openai_error(500, "RunLost", str(error)))
    finished = live.finished
    if finished is not None and finished.status != "completed":
        if not begun:
            yield _failed(live)
            return
        failed = errors.failure(live)
        yield _line(errors.openai_error(failed.status, failed.reason, failed.message))
    else:
        yield chunk({} if begun else {"role": "assistant", "content": ""}, _finish_reason(live) if finished else "stop")
        if with_usage:
            usage = msgspec.structs.asdict(finished.usage) if finished else None
            yield _line({**head, "choices": [], "usage": usage})
    yield b"data: [DONE]\n\n"


async def _texts(live: Live, link: str) -> AsyncIterator[str]:
    """What the model says, as it says it; ends with the run, or with the question it waits for a person to answer."""
    streamed = ""
    async for event in live.follow():
        match event:
            case ev.Token():
                streamed += event.content
                yield event.content
            case ev.AssistantMessage():
                if rest := live.said(event).removeprefix(streamed):  # what was not told by tokens
                    yield rest
                streamed = ""
            case ev.ApprovalRequired():
                yield waiting_text(live, link)
                return
            case _:
                pass
