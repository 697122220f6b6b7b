"""Runs of all agents: each is at a host, which is asked; lists are what all hosts tell, as one.

Where a caller's run is, is remembered from when it was begun here; for another all hosts are asked that may have it.
"""

from __future__ import annotations

import contextlib
import functools
import heapq
from collections import OrderedDict
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any
from urllib.parse import quote, urlencode

import aiohttp
import msgspec
from starlette.requests import Request
from starlette.responses import Response

from kadre.base import ids
from kadre.base.clock import Clock, SystemClock
from kadre.base.errors import NotFound, Unavailable
from kadre.plan.types import AgentKey
from kadre.server import approvals, body, errors, runs
from kadre.server.gateway import doors, visitors
from kadre.server.gateway.fleet import Fleet
from kadre.server.gateway.many import Many
from kadre.server.gateway.relay import Relay
from kadre.server.gateway.upstream import (
    ANSWER_SECONDS,
    LOOK_SECONDS,
    RETRY_AFTER,
    Call,
    Place,
    Upstream,
    passed_on,
    preferred,
)
from kadre.server.gateway.visitors import Visitor
from kadre.server.gateway.waiting import while_there
from kadre.server.openai import BASE

UNKNOWN_SECONDS = 3.0
"""For which a run that no host has is not looked for again."""
MOST_UNKNOWN = 1000
NEAR_TRIES = 256
"""Ids among which one is looked for that belongs to a host: of a hundred hosts, one in a hundred does."""
NAMED = 5
"""Agents that are named where more may have a run."""
_FILTERS = ("session_id", "status", "before")
_object = msgspec.json.Decoder(dict[str, Any])
Item = dict[str, Any]
"""A run or a session, as a host lists it."""


class RunDoors:
    """`/runs…` over all hosts."""

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

    async def fork(self, request: Request) -> Response:
        """`POST /runs/{id}/fork`: at the host where the run is, in a session that belongs to it."""
        told = doors.fields(await body.read(request) or b"{}")
        visitor: Visitor = request.scope["visitor"]
        place = self._upstream.place(visitor, request.path_params["id"])
        if place is None or not await visitors.sees(visitor, place.agent):
            place = await self._seek(request, request.path_params["id"], visitor)
        if not told.get("session_id"):
            told["session_id"] = self._near(place)
        headers = {**passed_on(request.headers), BASE: str(request.base_url)}
        answer, place = await self._found(request, headers, msgspec.json.encode(told), ANSWER_SECONDS)
        run_id = answer.headers.get("x-run-id")
        if run_id and answer.status < 400:
            self._upstream.note(visitor, run_id, place)
        return Relay(answer, functools.partial(self._upstream.fate, place.agent))

    def _near(self, place: Place) -> str:
        """The id of a session whose messages go to that host, where its agent has several."""
        hosts = self._fleet.hosts(place.agent)
        made = [ids.new_id("ses") for _ in range(1 if len(hosts) < 2 else NEAR_TRIES)]
        return next((each for each in made if preferred(hosts, f"{place.agent} {each}")[:1] == [place.host]), made[0])

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
            kept = latest(kept, limit, lambda run: (run["created"], run["run_id"]))

        missing = await self.all(request, "/runs", {**query, "limit": str(limit)}, take)
        listed = list(kept.values())
        following = runs.cursor(listed[-1]["created"], listed[-1]["run_id"]) if listed and more else None
        return listed_as("runs", listed, missing, {"next": following})

    async def approvals(self, request: Request) -> Response:
        """`GET /approvals`, as a host answers it, of the agents about whose calls the caller may decide."""
        limit = runs.limit_of(request)
        kept: Item = {}
        more = False

        def take(_: Place, content: bytes) -> None:
            nonlocal more
            page = _object.decode(content)
            for item in page["approvals"]:
                approvals.keep(kept, item)
            more = more or bool(page["more"])

        missing = await self.all(request, "/approvals", {"limit": str(limit)}, take, deed="approve")
        listed = approvals.ordered(kept)
        return listed_as("approvals", listed[:limit], missing, {"more": more or len(listed) > limit})

    async def all(
        self,
        request: Request,
        path: str,
        query: dict[str, str],
        take: Callable[[Place, bytes], None],
        seconds: float = LOOK_SECONDS,
        deed: visitors.Deed | None = None,
    ) -> list[str]:
        """Have `take` see what every host tells the caller there; what is missing.

        `deed`: what they must be allowed to do with an agent for its hosts to be asked.
        """
        visitor: Visitor = request.scope["visitor"]

        def call(place: Place) -> Call:
            return Call("GET", f"{path}?{urlencode({**query, 'agent': place.agent.short})}", {}, seconds=seconds)

        async with self._many.turn():
            agents = await self._asked(request, visitor, deed)
            missing = await while_there(request.receive, self._many.each(self._places(agents), call, visitor, take))
        return missing + [f"{agent.short}: no pod answers" for agent in agents if not self._fleet.hosts(agent)]

    async def _asked(self, request: Request, visitor: Visitor, deed: visitors.Deed | None) -> Sequence[AgentKey]:
        """The agents that a list is of."""
        name = request.query_params.get("agent")
        if not name:
            return await visitors.allowed(visitor, self._fleet.all(), deed)
        agent = await doors.resolve(request, self._fleet, name, "", self._home)
        if deed is not None:
            await visitors.check(visitor, deed, agent)
        elif not await visitors.sees(visitor, agent):
            await visitors.check(visitor, "chat", agent)
        return [agent]

    def _places(self, agents: Sequence[AgentKey]) -> list[Place]:
        return [Place(agent, host) for agent in agents for host in self._fleet.hosts(agent)]

    async def _there(self, request: Request, seconds: float | None) -> Response:
        """What the host answers at which the run is."""
        sent = await body.read(request) if request.method == "POST" else b""
        headers = {**passed_on(request.headers), BASE: str(request.base_url)}
        answer, place = await self._found(request, headers, sent, seconds)
        return Relay(answer, functools.partial(self._upstream.fate, place.agent))

    async def found(
        self, request: Request, headers: Mapping[str, str], sent: bytes = b"", seconds: float | None = ANSWER_SECONDS
    ) -> aiohttp.ClientResponse:
        """The same, as it comes. Raises Refused."""
        answer, _ = await self._found(request, headers, sent, seconds)
        return answer

    async def _found(
        self, request: Request, headers: Mapping[str, str], sent: bytes, seconds: float | None
    ) -> tuple[aiohttp.ClientResponse, Place]:
        """The same, and where it comes from. Raises Refused."""
        visitor: Visitor = request.scope["visitor"]
        run_id = request.path_params["id"]
        path = f"/runs/{quote(run_id, safe='')}{quote(request.url.path.removeprefix(f'/runs/{run_id}'))}"
        call = Call(request.method, path, headers, sent, seconds)
        known = self._upstream.place(visitor, run_id)
        if known is not None and await visitors.sees(visitor, known.agent):
            with contextlib.suppress(Unavailable):  # another pod may have it by now
                answer = await while_there(request.receive, self._upstream.at(call, known, visitor))
                if answer.status != NotFound.status:
                    return answer, known
                answer.release()
        place = await self._seek(request, run_id, visitor)
        return await while_there(request.receive, self._upstream.at(call, place, visitor)), place

    async def _seek(self, request: Request, run_id: str, visitor: Visitor) -> Place:
        """Where the run is. Raises NotFound: nowhere that the caller may look; Unavailable where that is not known."""
        key, now = (visitor.name, run_id), self._clock.monotonic()
        found, last = None, self._upstream.last(visitor, run_id)
        if last is not None:
            there = last.agent in self._fleet.named(last.agent.name)
            last = last if there and await visitors.sees(visitor, last.agent) else None
        if now - self._unknown.get(key, -UNKNOWN_SECONDS) >= UNKNOWN_SECONDS:
            call = Call("HEAD", f"/runs/{quote(run_id, safe='')}", {}, seconds=LOOK_SECONDS)
            async with self._many.turn():
                agents = await visitors.allowed(visitor, self._fleet.all())
                places = self._places(agents)
                if last is not None and last not in places and request.method == "GET":
                    places.append(last)  # one that ends, or is not ready for a moment, tells what it has
                found, silent = await while_there(request.receive, self._many.first(places, lambda _: call, visitor))
            if found is None:
                answered = {place.agent for place in places} - {place.agent for place in silent}
                unasked = [each for each in agents if self._may_have(each, answered, silent)]
                self._wake(run_id, last.agent if last is not None else None, unasked)
        if found is None:
            self._unknown.setdefault(key, now)
            if len(self._unknown) > MOST_UNKNOWN:
                self._unknown.popitem(last=False)
            raise self._none(run_id, last)
        self._unknown.pop(key, None)
        self._upstream.note(visitor, run_id, found)
        return found

    def _may_have(self, agent: AgentKey, answered: Collection[AgentKey], silent: Sequence[Place]) -> bool:
        """Whether the agent may have a run that none of the pods has that were asked and have `answered`.

        What is kept elsewhere is there whatever becomes of pods: one may have gone while it was asked, and another one
        come that was not.
        """
        if self._fleet.durable(agent):
            return agent not in answered
        hosts = self._fleet.hosts(agent)
        return any(each.agent == agent and each.host in hosts for each in silent) if hosts else self._fleet.comes(agent)

    def _wake(self, run_id: str, known: AgentKey | None, unasked: Sequence[AgentKey]) -> None:
        """Have pods come of agents that may have the run and have none now.

        Raises Unavailable where there are such, or where one of their pods did not answer. `known`: whose the run is.
        """
        if known is not None:
            unasked = [known] if known in unasked or not self._fleet.hosts(known) else []
        for agent in unasked:
            if not self._fleet.hosts(agent) and self._fleet.comes(agent):
                self._upstream.wanted.begins(agent)()
        if unasked:
            names = ", ".join(agent.short for agent in list(dict.fromkeys(unasked))[:NAMED])
            whose = f"is of agent {names}" if known is not None else f"may be of an agent ({names})"
            message = f"run {run_id!r} {whose}, of which no pod answers now"
            raise Unavailable(message, reason="AgentNotReady", retry_after=RETRY_AFTER)

    def _none(self, run_id: str, last: Place | None) -> NotFound:
        """That no host has the run, and what is known of why. `last`: where it was."""
        if last is None or self._fleet.durable(last.agent):
            return NotFound(f"there is no run {run_id!r}", reason="NoSuchRun")
        why = f"its pod has ended, or has forgotten it, and {self._upstream.keeps(last.agent)}"
        return NotFound(f"run {run_id!r} is lost: {why}", reason="RunLost")


def latest(kept: dict[tuple[str, str], Item], limit: int, age: Callable[[Item], Any]) -> dict[tuple[str, str], Item]:
    """The latest of them, the latest first. Raises KeyError, TypeError for what has no age."""
    return dict(heapq.nlargest(limit, kept.items(), key=lambda entry: age(entry[1])))


def listed_as(name: str, items: Sequence[Item], missing: Sequence[str], more: dict[str, Any]) -> Response:
    """A list as hosts answer it, with what could not be asked."""
    return errors.json_response({name: items} | more | ({"missing": missing} if missing else {}))
