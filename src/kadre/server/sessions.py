"""The sessions door: list and search conversations, look at one, rename it, forget it, take it along."""

from __future__ import annotations

from urllib.parse import quote, urlencode

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from kadre.base.errors import BadRequest, Conflict, Forbidden, TooMany
from kadre.engine import searching
from kadre.engine.events import Summary
from kadre.engine.host import Host
from kadre.engine.memory import conversation
from kadre.engine.memory.port import Journal, SessionInfo
from kadre.server import body, errors, export
from kadre.server.runs import MAX_PAGE, RunsDoor, limit_of, only
from kadre.server.streaming import Stream

MAX_TITLE = 200
"""Characters of a title: a line of a list."""
SEARCHES = 2
"""Searches under way at once: each reads what was said in a thousand sessions."""
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
        """One session with the latest that was said in it: `?agent=` where two agents have one of that name.

        `?limit=`: so many messages and runs at most; `complete` says whether that is all. `?whole=true`: all of it,
        with the texts that were too large for an event. `?format=markdown`: the same for people.
        """
        form, limit = format_of(request), limit_of(request, MAX_PAGE)
        journal, session = await self._session(request)
        if form == "markdown":
            text = export.as_markdown(journal, session)
            return Stream(text, "text/markdown; charset=utf-8", {"X-Content-Type-Options": "nosniff"})
        if request.query_params.get("whole") == "true":
            return Stream(export.as_json(journal, session), "application/json")
        owner, session_id = session.agent, session.session_id
        events = await journal.history(owner, session_id, session.runs + 1, limit)
        runs = await journal.runs(agent=owner, session_id=session_id, limit=limit)
        # People read it as it was said, whatever the model is told of it by now.
        said = conversation.told([event for event in events if not isinstance(event, Summary)])
        latest = conversation.last(said, limit)
        complete = len(latest) == len(said) and len(runs) >= session.runs
        told = {"session_id": session_id, "agent": owner, "title": session.title, "messages": latest, "runs": runs}
        return errors.json_response({**told, "complete": complete, **({} if complete else self._rest(session))})

    def _rest(self, session: SessionInfo) -> dict[str, str]:
        """Where all of a session is of which a part is told."""
        served = {str(agent) for agent in self._host.agents}
        query = urlencode({"whole": "true", **({"agent": session.agent} if session.agent in served else {})})
        return {"rest": f"/sessions/{quote(session.session_id, safe='')}?{query}"}

    async def rename(self, request: Request) -> Response:
        """Give it a title; the empty one takes it away."""
        _check_person(request)
        sent = await body.decode(request, _changed)
        title = " ".join(sent.title.split())
        if len(title) > MAX_TITLE:
            raise BadRequest(f"a title has at most {MAX_TITLE} characters", reason="BadTitle")
        journal, session = await self._one(request)
        await journal.rename_session(session.agent, session.session_id, title)
        return errors.json_response({"session_id": session.session_id, "agent": session.agent, "title": title})

    async def delete(self, request: Request) -> Response:
        """Forget it, with its runs. Not while one of them is under way."""
        _check_person(request)
        journal, session = await self._one(request)
        await journal.delete_session(session.agent, session.session_id)
        return Response(status_code=204)

    async def _one(self, request: Request) -> tuple[Journal, SessionInfo]:
        """The session that is to be changed. Raises NotFound, and Conflict where two agents have one of that name."""
        session_id, agent = request.path_params["id"], self._runs.agent(request)
        found: dict[str, tuple[Journal, SessionInfo]] = {}
        for journal in self._runs.journals(request):
            named = await journal.sessions(agent=agent, session_id=session_id, caller=only(request), limit=MAX_PAGE)
            for session in named:
                found.setdefault(session.agent, (journal, session))
        if len(found) > 1:
            message = f"several agents have a session {session_id!r}; say which with ?agent="
            raise Conflict(message, reason="AmbiguousSession", details={"candidates": sorted(found)})
        if not found:
            raise export.none(session_id)
        return next(iter(found.values()))

    async def _session(self, request: Request) -> tuple[Journal, SessionInfo]:
        """The session of that name that was used last, in the first store that has it. Raises NotFound."""
        session_id, agent = request.path_params["id"], self._runs.agent(request)
        for journal in self._runs.journals(request):
            found = await journal.sessions(agent=agent, session_id=session_id, caller=only(request), limit=1)
            if found:
                return journal, found[0]
        raise export.none(session_id)


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
