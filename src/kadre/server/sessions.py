"""The sessions door: list and search conversations, look at one, rename it, forget it, take it along."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from kadre.base.errors import BadRequest, Conflict, Forbidden, NotFound, TooMany
from kadre.engine import searching
from kadre.engine.events import Summary
from kadre.engine.host import Host
from kadre.engine.memory import conversation, spill
from kadre.engine.memory.port import Journal, RunInfo, SessionInfo
from kadre.server import body, errors
from kadre.server.runs import MAX_PAGE, RunsDoor, limit_of, only

MAX_TITLE = 200
"""Characters of a title: a line of a list."""
SEARCHES = 2
"""Searches under way at once: each reads what was said in a thousand sessions."""
MAX_WHOLE = 32 * 1024 * 1024
"""Bytes of a session that is told whole: past them the texts too large for an event are told by their beginning."""
FORMATS = ("json", "markdown")


class Changed(msgspec.Struct, forbid_unknown_fields=True):
    """`PATCH /sessions/{id}`."""

    title: str


_changed = msgspec.json.Decoder(Changed)


class SessionsDoor:
    """`/sessions…`."""

    def __init__(self, host: Host, runs: RunsDoor) -> None:
        self._host = host
        self._runs = runs
        self._searching = 0

    async def index(self, request: Request) -> Response:
        """Sessions, the latest used first: `?agent= &limit= &q=`; `q`: those in which that was said."""
        limit, agent = limit_of(request), self._runs.agent(request)
        wanted = query_of(request)
        if wanted:
            return await self._search(request, wanted, agent, limit)
        found: list[SessionInfo] = []
        for journal in self._runs.journals(request):
            found += await journal.sessions(agent=agent, caller=only(request), limit=limit)
        found.sort(key=lambda info: info.updated, reverse=True)
        return errors.json_response({"sessions": found[:limit]})

    async def _search(self, request: Request, wanted: str, agent: str | None, limit: int) -> Response:
        if self._searching >= SEARCHES:
            message = f"{SEARCHES} searches are under way, which is as many as may be at once"
            raise TooMany(message, reason="SearchesUnderWay", retry_after=1.0)
        self._searching += 1
        told, complete = [], True
        try:
            for journal in self._runs.journals(request):
                here = await searching.search(
                    journal, wanted, self._host.clock, agent=agent, caller=only(request), limit=limit
                )
                told += [{**msgspec.to_builtins(each.session), "excerpt": each.excerpt} for each in here.found]
                complete = complete and here.complete
        finally:
            self._searching -= 1
        told.sort(key=lambda each: each["updated"], reverse=True)
        return errors.json_response({"sessions": told[:limit], "complete": complete and len(told) <= limit})

    async def get(self, request: Request) -> Response:
        """One session with what was said in it: `?agent=` where two agents have one of that name.

        `?whole=true`: texts that were too large for an event in full. `?format=markdown`: for people.
        """
        form = format_of(request)
        journal, runs = await self._session(request)
        owner, session_id = runs[0].agent, runs[0].session_id
        events = await journal.history(owner, session_id, max(run.order for run in runs) + 1, MAX_PAGE)
        if request.query_params.get("whole") == "true" or form == "markdown":
            events = await _whole(journal, events)
        # People read it as it was said, whatever the model is told of it by now.
        spoken = [event for event in events if not isinstance(event, Summary)]
        said = conversation.messages(spoken, MAX_PAGE)
        kept = await journal.sessions(agent=owner, session_id=session_id, limit=1)
        title = kept[0].title if kept else ""
        told = {"session_id": session_id, "agent": owner, "title": title, "messages": said, "runs": runs}
        if form == "markdown":
            return markdown_response(msgspec.to_builtins(told))
        return errors.json_response(told)

    async def rename(self, request: Request) -> Response:
        """Give it a title; the empty one takes it away."""
        _check_person(request)
        sent = await body.decode(request, _changed)
        title = " ".join(sent.title.split())
        if len(title) > MAX_TITLE:
            raise BadRequest(f"a title has at most {MAX_TITLE} characters", reason="BadTitle")
        journal, runs = await self._one(request)
        await journal.rename_session(runs[0].agent, runs[0].session_id, title)
        return errors.json_response({"session_id": runs[0].session_id, "agent": runs[0].agent, "title": title})

    async def delete(self, request: Request) -> Response:
        """Forget it, with its runs. Not while one of them is under way."""
        _check_person(request)
        journal, runs = await self._one(request)
        await journal.delete_session(runs[0].agent, runs[0].session_id)
        return Response(status_code=204)

    async def _one(self, request: Request) -> tuple[Journal, Sequence[RunInfo]]:
        """The session that is to be changed. Raises NotFound, and Conflict where two agents have one of that name."""
        session_id, agent = request.path_params["id"], self._runs.agent(request)
        found: dict[str, tuple[Journal, Sequence[RunInfo]]] = {}
        for journal in self._runs.journals(request):
            for run in await journal.runs(agent=agent, session_id=session_id, caller=only(request), limit=MAX_PAGE):
                found.setdefault(run.agent, (journal, [run]))
        if len(found) > 1:
            message = f"several agents have a session {session_id!r}; say which with ?agent="
            raise Conflict(message, reason="AmbiguousSession", details={"candidates": sorted(found)})
        if not found:
            raise none(session_id)
        return next(iter(found.values()))

    async def _session(self, request: Request) -> tuple[Journal, Sequence[RunInfo]]:
        """The session's runs, the latest first, in the first store that has it. Raises NotFound."""
        session_id, agent = request.path_params["id"], self._runs.agent(request)
        for journal in self._runs.journals(request):
            runs = await journal.runs(agent=agent, session_id=session_id, caller=only(request), limit=MAX_PAGE)
            if runs:
                return journal, [run for run in runs if run.agent == runs[0].agent]
        raise none(session_id)


def none(session_id: str) -> NotFound:
    """What is said of a session that is not there, or is another's."""
    return NotFound(f"there is no session {session_id!r}", reason="NoSuchSession")


def query_of(request: Request) -> str:
    """What is looked for. Raises BadRequest."""
    wanted = request.query_params.get("q", "").strip()
    if len(wanted) > searching.MAX_QUERY:
        raise BadRequest(f"q has at most {searching.MAX_QUERY} characters", reason="BadQuery")
    return wanted


def format_of(request: Request) -> str:
    """The form in which a session is asked for. Raises BadRequest."""
    form = request.query_params.get("format", "json")
    if form not in FORMATS:
        raise BadRequest(f"format must be one of {', '.join(FORMATS)}", reason="BadFormat")
    return form


def _check_person(request: Request) -> None:
    """Raises Forbidden for an agent, which sees what it delegates and changes nothing else."""
    if request.scope["caller"].via:
        raise Forbidden("an agent changes no sessions", reason="ViaAgent")


async def _whole(journal: Journal, events: Sequence[Any]) -> list[Any]:
    """The events with the texts that are kept apart, as far as there is room."""
    told, size = [], 0
    for event in events:
        if event.blobs and size <= MAX_WHOLE:
            event = await spill.restore(journal, event)  # noqa: PLW2901
            size += len(msgspec.json.encode(event))
        told.append(event)
    return told


def markdown_response(session: Mapping[str, Any]) -> Response:
    """A session as hosts tell it, for people to read."""
    headers = {"X-Content-Type-Options": "nosniff"}
    return Response(markdown(session).encode(), 200, headers, "text/markdown; charset=utf-8")


def markdown(session: Mapping[str, Any]) -> str:
    """The same as text. What was said stands as it was said; calls and what they gave are code."""
    name = f"Session {session['session_id']} of {session['agent']}"
    parts = [f"# {session['title']}", name] if session.get("title") else [f"# {name}"]
    for message in session["messages"]:
        content = message.get("content", "")
        if message["role"] == "tool":
            parts.append(f"### {message.get('name', 'tool')} answered\n\n{_fenced(content)}")
            continue
        who = {"user": "User", "assistant": "Assistant"}.get(message["role"], message["role"])
        calls = [
            f"Calls `{call['name']}`:\n\n{_fenced(call['arguments'], 'json')}" for call in message.get("tool_calls", ())
        ]
        parts.append("\n\n".join([f"## {who}", *([content] if content else []), *calls]))
    return "\n\n".join(parts) + "\n"


def _fenced(text: str, language: str = "") -> str:
    """A block of code, its fence longer than any in the text."""
    fence = "```"
    while fence in text:
        fence += "`"
    return f"{fence}{language}\n{text}\n{fence}"
