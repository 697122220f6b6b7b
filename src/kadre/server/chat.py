"""The chat door: a message in, the answer out, as JSON or as the run's events."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Annotated

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from kadre.base.errors import KadreError
from kadre.engine import events as ev
from kadre.engine.accepting import Ask
from kadre.engine.host import Host
from kadre.engine.live import Live
from kadre.plan.types import AgentKey
from kadre.server import auth, body, errors, names, sse


class ChatRequest(msgspec.Struct):
    """What a client sends: a message, and the session it belongs to (a new one where it says none)."""

    message: Annotated[str, msgspec.Meta(min_length=1)]
    session_id: str = ""
    run_id: str = ""


class ChatReply(msgspec.Struct):
    """What it gets."""

    response: str
    session_id: str
    run_id: str
    usage: dict[str, int]


_decoder = msgspec.json.Decoder(ChatRequest)
_encoder = msgspec.json.Encoder()


class ChatDoor:
    """`POST /chat`, `/agents/{name}/chat`, `/agents/{namespace}/{name}/chat`."""

    def __init__(self, host: Host, directory: names.Directory) -> None:
        self._host = host
        self._directory = directory

    async def post(self, request: Request) -> Response:
        """Start a run and answer when it has ended, or waits for a person."""
        params = request.path_params
        if "name" in params:
            agent = names.resolve(self._directory, params["name"], params.get("namespace", ""))
        else:
            agent = names.only(self._directory)
        sent = await body.decode(request, _decoder)
        stream = wants_events(request)
        live = await self._host.start(ask(request, agent, sent, stream=stream))
        if stream:
            return sse.EventStream(event_lines(live), ids(live))
        return chat_reply(live, await live.wait_decision())


def ask(request: Request, agent: AgentKey, sent: ChatRequest, *, stream: bool) -> Ask:
    """What was sent, as the host takes it."""
    caller: auth.Caller = request.scope["caller"]
    auth.check(caller, agent)
    return Ask(
        agent=agent,
        message=sent.message,
        session_id=sent.session_id or request.headers.get("x-session-id", ""),
        run_id=sent.run_id,
        caller=caller.name,
        stream=stream,
    )


def wants_events(request: Request) -> bool:
    """Whether the client asked for server-sent events."""
    return "text/event-stream" in request.headers.get("accept", "")


def ids(live: Live) -> dict[str, str]:
    """The headers that tell a client which run and session it is talking to."""
    return {"X-Run-ID": live.info.run_id, "X-Session-ID": live.info.session_id}


def chat_reply(live: Live, finished: ev.RunFinished | None) -> Response:
    """200 with the answer; 202 while a person is waited for; a failed run's own status otherwise."""
    info = live.info
    if finished is None:
        waiting = {
            "status": "waiting",
            "run_id": info.run_id,
            "session_id": info.session_id,
            "approvals": live.pending_approvals(),
        }
        return errors.json_response(waiting, 202, ids(live))
    if finished.status == "completed":
        usage = msgspec.structs.asdict(finished.usage)
        reply = ChatReply(live.answer(), info.session_id, info.run_id, usage)
        return Response(_encoder.encode(reply), 200, ids(live), "application/json")
    failed = errors.failure(live)
    told = {"reason": failed.reason, "message": failed.message, "run_id": info.run_id, "session_id": info.session_id}
    return errors.json_response(
        {"error": told}, failed.status, {**ids(live), **errors.retry_header(failed.retry_after)}
    )


async def event_lines(live: Live, after: int = 0, offset: int = -1) -> AsyncIterator[bytes]:
    """The run's events as server-sent events; a run that was lost ends with an `error` event of its own."""
    try:
        async for event in live.follow(after, offset):
            yield event_line(event)
    except KadreError as error:
        data = msgspec.json.encode({"type": "error", "run_id": live.info.run_id, "message": str(error)})
        yield b"event: error\ndata: " + data + b"\n\n"


def event_line(event: ev.Event) -> bytes:
    """One event as a server-sent event: its id is `seq`, or `seq.offset` for a token."""
    if type(event) is ev.Token:
        return b"id: %d.%d\nevent: token\ndata: %b\n\n" % (event.seq, event.offset, ev.encode(event))
    kind: str = type(event).__struct_config__.tag  # type: ignore[assignment]  # all our tags are strings
    return b"id: %d\nevent: %b\ndata: %b\n\n" % (event.seq, kind.encode(), ev.encode(event))
