"""Runs and sessions of all agents: each is at a host, which is asked; lists are what all hosts tell, as one.

Where a run is, is remembered from when it was begun here; of another all hosts are asked that may have it.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from typing import Any
from urllib.parse import quote, urlencode

import aiohttp
import msgspec
from starlette.requests import Request
from starlette.responses import Response

from kadre.base import ids
from kadre.base.errors import KadreError, NotFound, Refused
from kadre.base.tasks import all_of
from kadre.plan.types import AgentKey
from kadre.server import body, errors, names, runs
from kadre.server.gateway import doors, visitors
from kadre.server.gateway.doors import while_there
from kadre.server.gateway.fleet import Fleet
from kadre.server.gateway.relay import Relay
from kadre.server.gateway.upstream import ANSWER_SECONDS, LOOK_SECONDS, Call, Place, Upstream, passed_on
from kadre.server.gateway.visitors import Visitor

AT_ONCE = 32
"""Hosts that are asked at the same time for one request."""
_object = msgspec.json.Decoder(dict[str, Any])
_FILTERS = ("session_id", "status", "before")


class Answers(msgspec.Struct):
    """What all hosts told. `missing`: those that could not be asked, and why."""

    found: list[Any]
    missing: list[str]


class RunDoors:
    """`/runs…` and `/sessions…` over all hosts."""

    def __init__(self, fleet: Fleet, upstream: Upstream, home: str = "") -> None:
        self._fleet = fleet
        self._upstream = upstream
        self._home = home

    async def create(self, request: Request) -> Response:
        """`POST /runs`: the agent is in the body."""
        sent = await body.read(request)
        told = doors.read(sent)
        agent = names.resolve(self._fleet, told.agent, "", self._home) if told.agent else names.only(self._fleet)
        session = told.session_id or ids.new_id("ses")
        written = msgspec.json.encode({**_object.decode(sent), "agent": agent.short, "session_id": session})
        call = Call("POST", "/runs", passed_on(request.headers), written)
        return await doors.hand_on(request, self._upstream, agent, call, session)

    async def one(self, request: Request) -> Response:
        """`GET /runs/{id}`, its events and blobs, and what is to become of it: where the run is."""
        visitor: Visitor = request.scope["visitor"]
        sent = await body.read(request) if request.method == "POST" else b""
        place = await while_there(request, self._place(request.path_params["id"], visitor))
        path = quote(request.url.path) + (f"?{request.url.query}" if request.url.query else "")
        seconds = None if request.url.path.endswith("/events") else ANSWER_SECONDS
        call = Call(request.method, path, passed_on(request.headers), sent, seconds)
        return Relay(await while_there(request, self._upstream.at(call, place, visitor)))

    async def index(self, request: Request) -> Response:
        """`GET /runs`, as a host answers it. `missing` names agents whose hosts could not be asked."""
        limit = runs.limit_of(request)
        query = {name: value for name in _FILTERS if (value := request.query_params.get(name))}
        told = await while_there(request, self._all(request, "/runs", {**query, "limit": str(limit)}))
        found = {each["run_id"]: each for page in told.found for each in page["runs"]}
        ordered = sorted(found.values(), key=lambda run: (run["created"], run["run_id"]), reverse=True)
        more = len(ordered) > limit or any(page["next"] for page in told.found)
        following = (
            runs.cursor(ordered[:limit][-1]["created"], ordered[:limit][-1]["run_id"]) if ordered and more else None
        )
        listed = {"runs": ordered[:limit], "next": following}
        return errors.json_response(listed | ({"missing": told.missing} if told.missing else {}))

    async def sessions(self, request: Request) -> Response:
        """`GET /sessions`, as a host answers it."""
        limit = runs.limit_of(request)
        told = await while_there(request, self._all(request, "/sessions", {"limit": str(limit)}))
        found: dict[tuple[str, str], Any] = {}
        for each in (session for page in told.found for session in page["sessions"]):
            known = found.get((each["agent"], each["session_id"]))
            if known is None or known["updated"] < each["updated"]:
                found[each["agent"], each["session_id"]] = each
        ordered = sorted(found.values(), key=lambda session: session["updated"], reverse=True)
        return errors.json_response({"sessions": ordered[:limit]} | ({"missing": told.missing} if told.missing else {}))

    async def session(self, request: Request) -> Response:
        """`GET /sessions/{id}`: where it is. `?agent=` where two agents have a session of that name."""
        session_id = request.path_params["id"]
        told = await while_there(request, self._all(request, f"/sessions/{session_id}", {}))
        if not told.found:
            unseen = f"; {'; '.join(told.missing)}" if told.missing else ""
            raise NotFound(f"there is no session {session_id!r}{unseen}", reason="NoSuchSession")
        return errors.json_response(max(told.found, key=lambda page: len(page["runs"])))

    async def _all(self, request: Request, path: str, query: dict[str, str]) -> Answers:
        """What every host tells the caller there. One that has nothing there tells nothing."""
        visitor: Visitor = request.scope["visitor"]
        agents = await self._asked(request, visitor)
        answers = Answers([], [])
        gate = asyncio.Semaphore(AT_ONCE)

        async def ask(agent: AgentKey, host: str) -> None:
            call = Call("GET", f"{quote(path)}?{urlencode({**query, 'agent': agent.short})}", {}, seconds=LOOK_SECONDS)
            async with gate:
                try:
                    answer = await self._upstream.at(call, Place(agent, host), visitor)
                    content = await answer.read()
                except (KadreError, aiohttp.ClientError, TimeoutError) as error:
                    answers.missing.append(f"{agent.short}: {error}")
                    return
            if answer.status == NotFound.status:
                return
            if answer.status >= Refused.status:
                answers.missing.append(f"{agent.short}: its pod at {host} answers {answer.status}")
                return
            answers.found.append(msgspec.json.decode(content))

        hosts = [(agent, host) for agent in agents for host in self._fleet.hosts(agent)]
        await all_of([ask(agent, host) for agent, host in hosts])
        answers.missing += [f"{agent.short}: no pod answers" for agent in agents if not self._fleet.hosts(agent)]
        answers.missing.sort()
        return answers

    async def _asked(self, request: Request, visitor: Visitor) -> Sequence[AgentKey]:
        """The agents that a list is of."""
        name = request.query_params.get("agent")
        if not name:
            return await visitors.allowed(visitor, self._fleet.all())
        agent = names.resolve(self._fleet, name, "", self._home)
        await visitors.check(visitor, "chat", agent)
        return [agent]

    async def _place(self, run_id: str, visitor: Visitor) -> Place:
        """Where the run is. Raises NotFound: nowhere that the caller may look."""
        known = self._upstream.place(run_id)
        if known is not None and await visitor.may("chat", known.agent):
            return known
        async for place in self._seek(run_id, visitor):
            self._upstream.note(run_id, place)
            return place
        raise NotFound(f"there is no run {run_id!r}", reason="NoSuchRun")

    async def _seek(self, run_id: str, visitor: Visitor) -> AsyncIterator[Place]:
        agents = await visitors.allowed(visitor, self._fleet.all())
        places = [Place(agent, host) for agent in agents for host in self._fleet.hosts(agent)]
        call = Call("HEAD", f"/runs/{quote(run_id, safe='')}", {}, seconds=LOOK_SECONDS)

        async def has(place: Place) -> bool:
            try:
                answer = await self._upstream.at(call, place, visitor)
            except KadreError:
                return False
            answer.release()
            return answer.status < Refused.status

        for start in range(0, len(places), AT_ONCE):
            some = places[start : start + AT_ONCE]
            for place, there in zip(some, await all_of([has(place) for place in some]), strict=True):
                if there:
                    yield place
