"""Runs and sessions of all agents: each is at a host, which is asked; lists are what all hosts tell, as one.

Where a caller's run is, is remembered from when it was begun here; for another all hosts are asked that may have it.
"""

from __future__ import annotations

import heapq
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from typing import Any
from urllib.parse import quote, urlencode

import aiohttp
import msgspec
from starlette.requests import Request
from starlette.responses import Response

from kadre.base.clock import Clock, SystemClock
from kadre.base.errors import NotFound
from kadre.plan.types import AgentKey
from kadre.server import body, errors, runs
from kadre.server.gateway import doors, visitors
from kadre.server.gateway.doors import while_there
from kadre.server.gateway.fleet import Fleet
from kadre.server.gateway.many import Many
from kadre.server.gateway.relay import Relay
from kadre.server.gateway.upstream import ANSWER_SECONDS, LOOK_SECONDS, Call, Place, Upstream, passed_on
from kadre.server.gateway.visitors import Visitor

UNKNOWN_SECONDS = 3.0
"""For which a run that no host has is not looked for again."""
MOST_UNKNOWN = 1000
_FILTERS = ("session_id", "status", "before")
_object = msgspec.json.Decoder(dict[str, Any])
Item = dict[str, Any]
"""A run or a session, as a host lists it."""


class RunDoors:
    """`/runs…` and `/sessions…` over all hosts."""

    def __init__(self, fleet: Fleet, upstream: Upstream, home: str = "", clock: Clock | None = None) -> None:
        self._fleet = fleet
        self._upstream = upstream
        self._home = home
        self._many = Many(upstream)
        self._clock = clock or SystemClock()
        self._unknown: OrderedDict[tuple[str, str], float] = OrderedDict()

    async def create(self, request: Request) -> Response:
        """`POST /runs`: the agent is in the body."""
        sent = await body.read(request)
        told = doors.read(sent)
        agent = await doors.resolve(request, self._fleet, told.agent, "", self._home)
        written = msgspec.json.encode({**doors.fields(sent), "agent": agent.short})
        call = Call("POST", "/runs", passed_on(request.headers), written)
        return await doors.hand_on(request, self._upstream, agent, call, told.session_id, told.run_id)

    async def one(self, request: Request) -> Response:
        """`GET /runs/{id}` and its blobs, and what is to become of it: where the run is."""
        return await self._there(request, ANSWER_SECONDS)

    async def events(self, request: Request) -> Response:
        """`GET /runs/{id}/events`: for as long as the run goes on."""
        return await self._there(request, None)

    async def index(self, request: Request) -> Response:
        """`GET /runs`, as a host answers it. `missing` names agents whose hosts could not be asked."""
        limit = runs.limit_of(request)
        runs.check_filters(request)
        query = {name: value for name in _FILTERS if (value := request.query_params.get(name))}
        kept: dict[tuple[str, str], Item] = {}
        more = False

        def take(place: Place, content: bytes) -> None:
            nonlocal kept, more
            page = _object.decode(content)
            for run in page["runs"]:
                kept[str(place.agent), str(run["run_id"])] = run
            more = more or bool(page["next"]) or len(kept) > limit
            kept = _latest(kept, limit, lambda run: (run["created"], run["run_id"]))

        missing = await self._all(request, "/runs", {**query, "limit": str(limit)}, take)
        listed = list(kept.values())
        following = runs.cursor(listed[-1]["created"], listed[-1]["run_id"]) if listed and more else None
        return _list("runs", listed, missing, {"next": following})

    async def sessions(self, request: Request) -> Response:
        """`GET /sessions`, as a host answers it."""
        limit = runs.limit_of(request)
        kept: dict[tuple[str, str], Item] = {}

        def take(place: Place, content: bytes) -> None:
            nonlocal kept
            for session in _object.decode(content)["sessions"]:
                key = (str(place.agent), str(session["session_id"]))
                if key not in kept or kept[key]["updated"] < session["updated"]:
                    kept[key] = session
            kept = _latest(kept, limit, lambda session: (session["updated"], session["session_id"]))

        missing = await self._all(request, "/sessions", {"limit": str(limit)}, take)
        return _list("sessions", list(kept.values()), missing, {})

    async def session(self, request: Request) -> Response:
        """`GET /sessions/{id}`: where it is. `?agent=` where two agents have a session of that name."""
        session_id = request.path_params["id"]
        found: Item = {}

        def take(_: Place, content: bytes) -> None:
            nonlocal found
            page = _object.decode(content)
            if not found or len(page["runs"]) > len(found["runs"]):
                found = page

        missing = await self._all(request, f"/sessions/{quote(session_id, safe='')}", {}, take)
        if not found:
            unseen = f"; {'; '.join(missing)}" if missing else ""
            raise NotFound(f"there is no session {session_id!r}{unseen}", reason="NoSuchSession")
        return errors.json_response(found)

    async def _all(
        self, request: Request, path: str, query: dict[str, str], take: Callable[[Place, bytes], None]
    ) -> list[str]:
        """Have `take` see what every host tells the caller there; what is missing."""
        visitor: Visitor = request.scope["visitor"]

        def call(place: Place) -> Call:
            return Call("GET", f"{path}?{urlencode({**query, 'agent': place.agent.short})}", {}, seconds=LOOK_SECONDS)

        async with self._many.turn():
            agents = await self._asked(request, visitor)
            missing = await while_there(request, self._many.each(self._places(agents), call, visitor, take))
        return missing + [f"{agent.short}: no pod answers" for agent in agents if not self._fleet.hosts(agent)]

    async def _asked(self, request: Request, visitor: Visitor) -> Sequence[AgentKey]:
        """The agents that a list is of."""
        name = request.query_params.get("agent")
        if not name:
            return await visitors.allowed(visitor, self._fleet.all())
        agent = await doors.resolve(request, self._fleet, name, "", self._home)
        if not await visitors.sees(visitor, agent):
            await visitors.check(visitor, "chat", agent)
        return [agent]

    def _places(self, agents: Sequence[AgentKey]) -> list[Place]:
        return [Place(agent, host) for agent in agents for host in self._fleet.hosts(agent)]

    async def _there(self, request: Request, seconds: float | None) -> Response:
        """What the host answers at which the run is."""
        sent = await body.read(request) if request.method == "POST" else b""
        return Relay(await self.found(request, passed_on(request.headers), sent, seconds))

    async def found(
        self, request: Request, headers: Mapping[str, str], sent: bytes = b"", seconds: float | None = ANSWER_SECONDS
    ) -> aiohttp.ClientResponse:
        """The same, as it comes. Raises Refused."""
        visitor: Visitor = request.scope["visitor"]
        run_id = request.path_params["id"]
        path = f"/runs/{quote(run_id, safe='')}{quote(request.url.path.removeprefix(f'/runs/{run_id}'))}"
        call = Call(request.method, path, headers, sent, seconds)
        known = self._upstream.place(visitor, run_id)
        if known is not None and await visitors.sees(visitor, known.agent):
            answer = await while_there(request, self._upstream.at(call, known, visitor))
            if answer.status != NotFound.status:
                return answer
            answer.release()
        place = await self._seek(request, run_id, visitor)
        return await while_there(request, self._upstream.at(call, place, visitor))

    async def _seek(self, request: Request, run_id: str, visitor: Visitor) -> Place:
        """Where the run is. Raises NotFound: nowhere that the caller may look."""
        key, now = (visitor.name, run_id), self._clock.monotonic()
        found = None
        if now - self._unknown.get(key, -UNKNOWN_SECONDS) >= UNKNOWN_SECONDS:
            call = Call("HEAD", f"/runs/{quote(run_id, safe='')}", {}, seconds=LOOK_SECONDS)
            async with self._many.turn():
                places = self._places(await visitors.allowed(visitor, self._fleet.all()))
                found = await while_there(request, self._many.first(places, lambda _: call, visitor))
        if found is None:
            self._unknown.setdefault(key, now)
            if len(self._unknown) > MOST_UNKNOWN:
                self._unknown.popitem(last=False)
            raise NotFound(f"there is no run {run_id!r}", reason="NoSuchRun")
        self._unknown.pop(key, None)
        self._upstream.note(visitor, run_id, found)
        return found


def _latest(kept: dict[tuple[str, str], Item], limit: int, age: Callable[[Item], Any]) -> dict[tuple[str, str], Item]:
    """The latest of them, the latest first. Raises KeyError, TypeError for what has no age."""
    return dict(heapq.nlargest(limit, kept.items(), key=lambda entry: age(entry[1])))


def _list(name: str, items: Sequence[Item], missing: Sequence[str], more: dict[str, Any]) -> Response:
    return errors.json_response({name: items} | more | ({"missing": missing} if missing else {}))
