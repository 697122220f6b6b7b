"""The runs door: start a run and leave, look at it, follow it, stop it, approve what it asks."""

from __future__ import annotations

import base64
import contextlib
from collections.abc import Sequence
from datetime import datetime
from typing import Annotated, Any, Literal, cast, get_args

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from kadre.base.errors import BadRequest, Forbidden, NotFound
from kadre.base.ids import is_id
from kadre.engine import elsewhere, forking
from kadre.engine.accepting import ROOT, Parent
from kadre.engine.approvals import Said
from kadre.engine.events import RunStarted, RunStatus
from kadre.engine.host import Host
from kadre.engine.live import Live
from kadre.engine.memory import spill
from kadre.engine.memory.port import Age, Journal, RunInfo, age
from kadre.server import auth, body, chat, errors, names, sse
from kadre.server.turns import Turns

MAX_PAGE = 1000
MAX_CHAIN = 64
"""Agents in a chain of delegation that is believed: more than any limit allows."""
MAX_AGENT = 1024
"""Characters of an agent's key: a namespace, a name and a group."""
FORKS = 2
"""Forks under way at once: each may hold a whole conversation in memory."""
FORKS_WAITING = 8
FORK_WAIT_SECONDS = 10.0
"""For which a fork waits for its turn."""
NO_PAGE = {"X-Content-Type-Options": "nosniff"}
"""What a tool returned may look like a web page; a browser must not take it for one of ours."""


class RunRequest(chat.ChatRequest):
    """`POST /runs`: `agent` may be left out where only one is loaded. `parent`: the run of the agent that asks."""

    agent: str = ""
    parent: Parent = ROOT


class ApproveRequest(msgspec.Struct):
    """`POST /runs/{id}/approve`: `approval_id` may be left out where only one is open.

    See approvals.Said for `digest`, `arguments` and `answer`.
    """

    decision: Literal["allow", "deny"]
    """Never taken for granted: a misspelt field must not let a write through."""
    approval_id: str = ""
    note: str = ""
    by: str = ""
    """Who decided, where an agent hands it on; else it is the caller."""
    digest: str = ""
    arguments: dict[str, Any] | None = None
    answer: str | None = None


class ForkRequest(msgspec.Struct):
    """`POST /runs/{id}/fork`: the event up to which, all of the run where it is left out; an id for the session."""

    at: int | None = None
    session_id: str = ""


_age_decoder = msgspec.json.Decoder(tuple[Annotated[datetime, msgspec.Meta(tz=True)], str])
_run_decoder = msgspec.json.Decoder(RunRequest)
_fork_decoder = msgspec.json.Decoder(ForkRequest)
_approve_decoder = msgspec.json.Decoder(ApproveRequest)


class RunsDoor:
    """`/runs…`."""

    def __init__(self, host: Host, directory: names.Directory) -> None:
        self._host = host
        self._directory = directory
        self._forks = Turns("forks", FORKS, FORKS_WAITING, FORK_WAIT_SECONDS)

    async def create(self, request: Request) -> Response:
        """Accept a run and answer at once with 202 and where to look; the same run id answers with the run there is."""
        sent = await body.decode(request, _run_decoder)
        agent = names.resolve(self._directory, sent.agent) if sent.agent else names.only(self._directory)
        _check_parent(request, sent)
        # Nobody reads the tokens of a run that an agent asks for.
        stream = not sent.parent.run_id
        return await self.accepted(await self._host.start(chat.ask(request, agent, sent, stream=stream), sent.parent))

    async def accepted(self, live: Live) -> Response:
        """The answer to who has begun that run."""
        location = f"/runs/{live.info.run_id}"
        return errors.json_response(await self._shown(live), 202, {"Location": location, **chat.ids(live)})

    async def get(self, request: Request) -> Response:
        """The run with its events, and the last thing the model said in it: all of it, where an event has a part."""
        live = await self.open(request)
        return errors.json_response({**await self._shown(live), "response": live.answer(), "events": live.events})

    async def events(self, request: Request) -> Response:
        """The run's events as they come, from Last-Event-ID on."""
        live = await self.open(request)
        after, offset = sse.parse_last_event_id(request.headers.get("last-event-id", ""))
        return sse.EventStream(chat.event_lines(live, after, offset), chat.ids(live))

    async def blob(self, request: Request) -> Response:
        """A text that was too large for an event of the run, whole."""
        live = await self.open(request)
        digest = request.path_params["digest"]
        path = spill.named(live.events, digest)
        if path is not None:
            kind = "application/json" if spill.is_json(path) else "text/plain; charset=utf-8"
            own = self._host.journal_of(live.info.agent)
            for journal in sorted(self._host.journals, key=lambda each: each is not own):
                with contextlib.suppress(NotFound):  # it is in another store, or forgotten meanwhile
                    data = await journal.get_blob(digest)
                    return Response(data, headers={**chat.ids(live), "Content-Type": kind, **NO_PAGE})
        raise NotFound(f"no event of run {live.info.run_id} names a blob {digest!r}", reason="NoSuchBlob")

    async def cancel(self, request: Request) -> Response:
        """End the run; one that has ended stays as it is."""
        await self.open(request)
        return errors.json_response(await self._shown(await self._host.cancel(request.path_params["id"])))

    async def approve(self, request: Request) -> Response:
        """Allow one call, as it is or changed, or deny it; answer a question."""
        live = await self.open(request)
        caller = may_approve(request)
        sent = await body.decode(request, _approve_decoder)
        approval = sent.approval_id
        if not approval:
            pending = live.pending_approvals()
            if len(pending) > 1:
                raise BadRequest("several calls wait; say which by approval_id", reason="AmbiguousApproval")
            approval = pending[0].id if pending else ""
        by = (caller.via and sent.by) or caller.name
        said = Said(digest=sent.digest, arguments=sent.arguments, answer=sent.answer)
        await self._host.approve(live.info.run_id, approval, sent.decision, by, sent.note, said)
        return errors.json_response(await self._shown(live))

    async def fork(self, request: Request) -> Response:
        """Begin another session, of the caller, with what was said up to an event of the run."""
        live = await self.open(request)
        caller: auth.Caller = request.scope["caller"]
        if caller.via:
            raise Forbidden("an agent begins no sessions of its own", reason="ViaAgent")
        sent = await body.decode(request, _fork_decoder, empty=ForkRequest())
        found = await elsewhere.find(self._host.journals, live.info.run_id, self._host.journal_of(live.info.agent))
        if found is None:
            raise NotFound(f"there is no run {live.info.run_id!r}", reason="NoSuchRun")
        async with self._forks.turn():
            made = await forking.fork(*found, caller.name, self._host.clock, at=sent.at, session_id=sent.session_id)
        told = {**msgspec.structs.asdict(made.run), "forked": {"run_id": made.of, "at": made.at, "note": made.note}}
        where = {"X-Run-ID": made.run.run_id, "X-Session-ID": made.run.session_id}
        return errors.json_response(told, 201, {"Location": f"/runs/{made.run.run_id}", **where})

    async def index(self, request: Request) -> Response:
        """Runs, newest first: `?agent= &session_id= &status= &limit= &before=`, and where the `next` page begins."""
        query = request.query_params
        limit = limit_of(request)
        found: list[RunInfo] = []
        for journal in self.journals(request):
            found += await journal.runs(
                agent=self.agent(request),
                session_id=query.get("session_id"),
                status=_status(query.get("status")),
                caller=only(request),
                before=_age(query.get("before")),
                limit=limit + 1,
            )
        found.sort(key=age, reverse=True)
        following = cursor(*age(found[limit - 1])) if len(found) > limit else None
        return errors.json_response({"runs": found[:limit], "next": following})

    async def open(self, request: Request) -> Live:
        """The run. Raises NotFound.

        One of another caller is not there for who may see their own only, nor one of another agent: a journal may hold
        runs of agents to which the gateway has not vouched for the caller.
        """
        run_id = request.path_params["id"]
        live = await self._host.open(run_id)
        mine, caller = only(request), request.scope["caller"]
        elsewhere = caller.agent and live.info.agent != caller.agent
        undelegated = caller.via and _asked_by(live) != caller.via
        if elsewhere or undelegated or (mine is not None and live.info.caller != mine):
            raise NotFound(f"there is no run {run_id!r}", reason="NoSuchRun")
        return live

    def agent(self, request: Request) -> str | None:
        """The agent that a list is of: the one that is asked for, and else the one that the caller may see."""
        name, caller = request.query_params.get("agent"), request.scope["caller"]
        if not name:
            return caller.agent or None
        found = names.resolve(self._directory, name)
        auth.check(caller, found)
        return str(found)

    def journals(self, request: Request) -> Sequence[Journal]:
        """The stores that a list is of: another agent's, which may be away, is nothing to who is vouched for to one."""
        own = self._host.journal_of(request.scope["caller"].agent)
        return self._host.journals if own is None else [own]

    async def _shown(self, live: Live) -> dict[str, Any]:
        info = live.info
        found = await elsewhere.find(self._host.journals, info.run_id, self._host.journal_of(info.agent))
        info = found[1] if found is not None else info
        return {**msgspec.structs.asdict(info), "approvals": live.pending_approvals()}


def check_filters(request: Request) -> None:
    """Raises BadRequest for what no list can be narrowed to."""
    _status(request.query_params.get("status"))
    _age(request.query_params.get("before"))


def limit_of(request: Request, default: int = 100) -> int:
    """How many entries a list is to have. Raises BadRequest."""
    text = request.query_params.get("limit", str(default))
    limit = sse.number(text)
    if limit is None or not 1 <= limit <= MAX_PAGE:
        raise BadRequest(f"limit must be a number from 1 to {MAX_PAGE}", reason="BadLimit")
    return limit


def _check_parent(request: Request, sent: RunRequest) -> None:
    """Raises Forbidden where somebody else than an agent says that one asks, or an agent does not say how it does.

    What an agent delegates is a session of its own: it must not go on with one of the person's.
    """
    via, parent = request.scope["caller"].via, sent.parent
    if not via and parent == ROOT:
        return
    told = is_id(parent.run_id) and 0 < len(parent.chain) <= MAX_CHAIN and parent.chain[-1] == via
    if not (via and told and all(len(name) <= MAX_AGENT for name in (*parent.chain, parent.outside))):
        message = "the field parent is said by an agent that delegates, with itself as the last of its chain"
        raise Forbidden(message, reason="NotTheParent")
    if not sent.run_id or sent.session_id != sent.run_id:
        raise Forbidden("an agent asks in a session of its own: session_id is the run_id", reason="NotTheParent")


def _asked_by(live: Live) -> str:
    """The agent that delegated the run; empty for one that somebody has begun."""
    first = live.events[0] if live.events else None
    return first.chain[-1] if isinstance(first, RunStarted) and first.chain else ""


def may_approve(request: Request) -> auth.Caller:
    """Who calls. Raises Forbidden where they may not decide about calls that wait."""
    caller: auth.Caller = request.scope["caller"]
    if "approve" not in caller.rights:
        message = "deciding a call that waits is a right of its own, which this caller has not"
        raise Forbidden(message, reason="MayNotApprove")
    return caller


def only(request: Request) -> str | None:
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
