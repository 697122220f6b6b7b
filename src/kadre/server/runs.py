"""The runs door: start a run and leave, look at it, follow it, stop it, approve what it asks."""

from __future__ import annotations

import base64
import contextlib
from datetime import datetime
from typing import Annotated, Any, Literal, cast, get_args

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from kadre.base.errors import BadRequest, Forbidden, NotFound, NotSupportedYet
from kadre.engine.events import RunStatus
from kadre.engine.host import Host
from kadre.engine.live import Live
from kadre.engine.memory import conversation, spill
from kadre.engine.memory.port import Age, RunInfo, SessionInfo, age
from kadre.server import auth, body, chat, errors, names, sse

MAX_PAGE = 1000
NO_PAGE = {"X-Content-Type-Options": "nosniff"}
"""What a tool returned may look like a web page; a browser must not take it for one of ours."""


class RunRequest(chat.ChatRequest):
    """`POST /runs`: `agent` may be left out where only one is loaded."""

    agent: str = ""


class ApproveRequest(msgspec.Struct):
    """`POST /runs/{id}/approve`: `approval_id` may be left out where only one is open."""

    decision: Literal["allow", "deny"]
    """Never taken for granted: a misspelt field must not let a write through."""
    approval_id: str = ""
    note: str = ""


_age_decoder = msgspec.json.Decoder(tuple[Annotated[datetime, msgspec.Meta(tz=True)], str])
_run_decoder = msgspec.json.Decoder(RunRequest)
_approve_decoder = msgspec.json.Decoder(ApproveRequest)


class RunsDoor:
    """`/runs…` and `/sessions…`."""

    def __init__(self, host: Host, directory: names.Directory) -> None:
        self._host = host
        self._directory = directory

    async def create(self, request: Request) -> Response:
        """Accept a run and answer at once with 202 and where to look; the same run id answers with the run there is."""
        sent = await body.decode(request, _run_decoder)
        agent = names.resolve(self._directory, sent.agent) if sent.agent else names.only(self._directory)
        live = await self._host.start(chat.ask(request, agent, sent, stream=True))
        location = f"/runs/{live.info.run_id}"
        return errors.json_response(await self._shown(live), 202, {"Location": location, **chat.ids(live)})

    async def get(self, request: Request) -> Response:
        """The run with its events."""
        live = await self._open(request)
        return errors.json_response({**await self._shown(live), "events": live.events})

    async def events(self, request: Request) -> Response:
        """The run's events as they come, from Last-Event-ID on."""
        live = await self._open(request)
        after, offset = sse.parse_last_event_id(request.headers.get("last-event-id", ""))
        return sse.EventStream(chat.event_lines(live, after, offset), chat.ids(live))

    async def blob(self, request: Request) -> Response:
        """A text that was too large for an event of the run, whole."""
        live = await self._open(request)
        digest = request.path_params["digest"]
        path = spill.named(live.events, digest)
        if path is not None:
            kind = "application/json" if spill.is_json(path) else "text/plain; charset=utf-8"
            for journal in self._host.journals:
                with contextlib.suppress(NotFound):  # it is in another store, or forgotten meanwhile
                    data = await journal.get_blob(digest)
                    return Response(data, headers={**chat.ids(live), "Content-Type": kind, **NO_PAGE})
        raise NotFound(f"no event of run {live.info.run_id} names a blob {digest!r}", reason="NoSuchBlob")

    async def cancel(self, request: Request) -> Response:
        """End the run; one that has ended stays as it is."""
        await self._open(request)
        return errors.json_response(await self._shown(await self._host.cancel(request.path_params["id"])))

    async def approve(self, request: Request) -> Response:
        """Allow or deny one call."""
        live = await self._open(request)
        caller: auth.Caller = request.scope["caller"]
        if "approve" not in caller.rights:
            message = "deciding a call that waits is a right of its own, which this caller has not"
            raise Forbidden(message, reason="MayNotApprove")
        sent = await body.decode(request, _approve_decoder)
        approval = sent.approval_id
        if not approval:
            pending = live.pending_approvals()
            if len(pending) > 1:
                raise BadRequest("several calls wait; say which by approval_id", reason="AmbiguousApproval")
            approval = pending[0].id if pending else ""
        await self._host.approve(live.info.run_id, approval, sent.decision, caller.name, sent.note)
        return errors.json_response(await self._shown(live))

    async def fork(self, request: Request) -> Response:
        """Not built yet."""
        await self._open(request)
        raise NotSupportedYet("forking a run is not supported yet")

    async def index(self, request: Request) -> Response:
        """Runs, newest first: `?agent= &session_id= &status= &limit= &before=`, and where the `next` page begins."""
        query = request.query_params
        limit = limit_of(request)
        found: list[RunInfo] = []
        for journal in self._host.journals:
            found += await journal.runs(
                agent=self._agent(request),
                session_id=query.get("session_id"),
                status=_status(query.get("status")),
                caller=_only(request),
                before=_age(query.get("before")),
                limit=limit + 1,
            )
        found.sort(key=age, reverse=True)
        following = cursor(*age(found[limit - 1])) if len(found) > limit else None
        return errors.json_response({"runs": found[:limit], "next": following})

    async def sessions(self, request: Request) -> Response:
        """Sessions, the latest used first: `?agent= &limit=`."""
        limit = limit_of(request)
        agent = self._agent(request)
        found: list[SessionInfo] = []
        for journal in self._host.journals:
            found += await journal.sessions(agent=agent, caller=_only(request), limit=limit)
        found.sort(key=lambda info: info.updated, reverse=True)
        return errors.json_response({"sessions": found[:limit]})

    async def session(self, request: Request) -> Response:
        """One session with what was said in it. `?agent=` where two agents have a session of that name."""
        session_id = request.path_params["id"]
        agent = self._agent(request)
        for journal in self._host.journals:
            runs = await journal.runs(agent=agent, session_id=session_id, caller=_only(request), limit=MAX_PAGE)
            if runs:
                owner = runs[0].agent
                events = await journal.history(owner, session_id, max(run.order for run in runs) + 1, MAX_PAGE)
                said = conversation.messages(events, MAX_PAGE)
                shown = [run for run in runs if run.agent == owner]
                return errors.json_response({"session_id": session_id, "agent": owner, "messages": said, "runs": shown})
        raise NotFound(f"there is no session {session_id!r}", reason="NoSuchSession")

    async def _open(self, request: Request) -> Live:
        """The run. One of another caller is not there for who may see their own only, nor one of another agent.

        A journal may hold runs of agents to which the gateway has not vouched for the caller.
        """
        run_id = request.path_params["id"]
        live = await self._host.open(run_id)
        mine, caller = _only(request), request.scope["caller"]
        elsewhere = caller.agent and live.info.agent != caller.agent
        if elsewhere or (mine is not None and live.info.caller != mine):
            raise NotFound(f"there is no run {run_id!r}", reason="NoSuchRun")
        return live

    def _agent(self, request: Request) -> str | None:
        """The agent that a list is of: the one that is asked for, and else the one that the caller may see."""
        name, caller = request.query_params.get("agent"), request.scope["caller"]
        if not name:
            return caller.agent or None
        found = names.resolve(self._directory, name)
        auth.check(caller, found)
        return str(found)

    async def _shown(self, live: Live) -> dict[str, Any]:
        info = live.info
        for journal in self._host.journals:
            found = await journal.run(info.run_id)
            if found is not None:
                info = found
                break
        return {**msgspec.structs.asdict(info), "approvals": live.pending_approvals()}


def check_filters(request: Request) -> None:
    """Raises BadRequest for what no list can be narrowed to."""
    _status(request.query_params.get("status"))
    _age(request.query_params.get("before"))


def limit_of(request: Request) -> int:
    """How many entries a list is to have. Raises BadRequest."""
    text = request.query_params.get("limit", "100")
    limit = sse.number(text)
    if limit is None or not 1 <= limit <= MAX_PAGE:
        raise BadRequest(f"limit must be a number from 1 to {MAX_PAGE}", reason="BadLimit")
    return limit


def _only(request: Request) -> str | None:
    """The caller whose runs and sessions alone are shown; None: everybody's."""
    caller: auth.Caller = request.scope["caller"]
    return None if "see-all" in caller.rights else caller.name


def cursor(created: datetime | str, run_id: str) -> str:
    """Where the page after this run begins: what clients hand back and need not understand."""
    return base64.urlsafe_b64encode(msgspec.json.encode((created, run_id))).decode().rstrip("=")


def _age(cursor: str | None) -> Age | None:
    if cursor is None:
        return None
    try:
        return _age_decoder.decode(base64.urlsafe_b64decode(cursor + "=="))
    except (ValueError, msgspec.DecodeError) as error:
        message = "before must be the `next` of the page before; leave it out for the first page"
        raise BadRequest(message, reason="BadCursor") from error


def _status(text: str | None) -> RunStatus | None:
    if text is None:
        return None
    try:
        return cast("RunStatus", msgspec.convert(text, RunStatus))
    except msgspec.ValidationError as error:
        known = ", ".join(get_args(RunStatus))
        raise BadRequest(f"status must be one of {known}", reason="BadStatus") from error
