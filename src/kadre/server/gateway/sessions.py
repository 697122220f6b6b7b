"""Sessions of all agents: lists are what all hosts tell, as one; one is changed where it is."""

from __future__ import annotations

import functools
from typing import Any
from urllib.parse import quote, urlencode

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from kadre.base.errors import Conflict, Forbidden, NotFound, Unavailable
from kadre.engine import searching
from kadre.server import body, runs, sessions
from kadre.server.gateway.fleet import Fleet
from kadre.server.gateway.relay import Relay
from kadre.server.gateway.runs import Item, RunDoors, latest, listed_as
from kadre.server.gateway.upstream import LOOK_SECONDS, RETRY_AFTER, Call, Place, Upstream, passed_on
from kadre.server.gateway.visitors import Visitor
from kadre.server.gateway.waiting import while_there

_object = msgspec.json.Decoder(dict[str, Any])
_PASSED_ON = frozenset(("format", "limit", "whole"))
"""What may be asked of one session."""


class SessionDoors:
    """`/sessions…` over all hosts."""

    def __init__(self, fleet: Fleet, upstream: Upstream, runs: RunDoors) -> None:
        self._fleet = fleet
        self._upstream = upstream
        self._runs = runs

    async def index(self, request: Request) -> Response:
        """`GET /sessions`, as a host answers it."""
        limit, wanted = runs.limit_of(request), sessions.query_of(request)
        query = {"limit": str(limit)} | ({"q": wanted} if wanted else {})
        kept: dict[tuple[str, str], Item] = {}
        complete = True

        def take(place: Place, content: bytes) -> None:
            nonlocal kept, complete
            page = _object.decode(content)
            for session in page["sessions"]:
                key = (str(place.agent), str(session["session_id"]))
                if key not in kept or kept[key]["updated"] < session["updated"]:
                    kept[key] = session
            complete = complete and page.get("complete", True) and len(kept) <= limit
            kept = latest(kept, limit, lambda session: (session["updated"], session["session_id"]))

        seconds = searching.SECONDS + LOOK_SECONDS if wanted else LOOK_SECONDS
        missing = await self._runs.all(request, "/sessions", query, take, seconds)
        more = {"complete": complete and not missing} if wanted else {}
        return listed_as("sessions", list(kept.values()), missing, more)

    async def get(self, request: Request) -> Response:
        """`GET /sessions/{id}`, as the host tells it that has most of it. `?agent=` as there."""
        sessions.format_of(request)
        runs.limit_of(request)
        most: tuple[int, Place] | None = None

        def take(place: Place, content: bytes) -> None:
            nonlocal most
            count = int(_object.decode(content)["runs"][0]["order"])
            if most is None or count > most[0]:
                most = count, place

        missing = await self._runs.all(request, self._path(request), {"limit": "1"}, take)
        if most is None:
            raise self._none(request, missing)
        visitor: Visitor = request.scope["visitor"]
        place = most[1]
        given = {name: value for name, value in request.query_params.items() if name in _PASSED_ON}
        query = urlencode({**given, "agent": place.agent.short})
        call = Call("GET", f"{self._path(request)}?{query}", passed_on(request.headers))
        answer = await while_there(request.receive, self._upstream.at(call, place, visitor))
        return Relay(answer, functools.partial(self._upstream.fate, place.agent))

    async def change(self, request: Request) -> Response:
        """`PATCH` and `DELETE /sessions/{id}`: at the host that has it; where several have a part of it, at each."""
        visitor: Visitor = request.scope["visitor"]
        if visitor.via:
            raise Forbidden("an agent changes no sessions", reason="ViaAgent")
        sent = await body.read(request)
        places: list[Place] = []
        missing = await self._runs.all(
            request, self._path(request), {"limit": "1"}, lambda place, _: places.append(place)
        )
        agents = sorted({place.agent for place in places})
        if len(agents) > 1:
            named = [agent.short for agent in agents]
            message = f"several agents have a session {request.path_params['id']!r}; say which with ?agent="
            raise Conflict(message, reason="AmbiguousSession", details={"candidates": named})
        if not places:
            raise self._none(request, missing)
        query = urlencode({"agent": agents[0].short})
        call = Call(request.method, f"{self._path(request)}?{query}", passed_on(request.headers), sent)
        for place in places[:-1] if not self._fleet.durable(agents[0]) else ():
            answer = await while_there(request.receive, self._upstream.at(call, place, visitor))
            if answer.status >= 400 and answer.status != NotFound.status:
                return Relay(answer, functools.partial(self._upstream.fate, place.agent))
            answer.release()
        answer = await while_there(request.receive, self._upstream.at(call, places[-1], visitor))
        return Relay(answer, functools.partial(self._upstream.fate, agents[0]))

    @staticmethod
    def _path(request: Request) -> str:
        return f"/sessions/{quote(request.path_params['id'], safe='')}"

    @staticmethod
    def _none(request: Request, missing: list[str]) -> NotFound | Unavailable:
        """That no host has it, as far as they could be asked."""
        session_id = request.path_params["id"]
        if missing and request.method != "GET":
            message = f"whether there is a session {session_id!r} is not known: {'; '.join(missing)}"
            return Unavailable(message, reason="AgentNotReady", retry_after=RETRY_AFTER)
        unseen = f"; {'; '.join(missing)}" if missing else ""
        return NotFound(f"there is no session {session_id!r}{unseen}", reason="NoSuchSession")
