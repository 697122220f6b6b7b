"""Hands a request to one of an agent's hosts, to another where that is safe, and gives back what it answers.

Safe means: nothing of the request can have been acted on. A host that cannot be reached has not seen it, one that is
ending has said that it takes no more. Whatever else goes wrong is told to the caller, who knows what was asked.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Mapping, Sequence

import aiohttp
import msgspec
from starlette.datastructures import Headers

from kadre.base.errors import Refused, Unavailable
from kadre.engine import http_client
from kadre.plan.types import AgentKey
from kadre.server.gateway import visitors
from kadre.server.gateway.fleet import Fleet
from kadre.server.gateway.visitors import Visitor
from kadre.server.identity import HEADER, Signer

TRIES = 3
"""Hosts that are asked, one after the other."""
CONNECT_SECONDS = 3.0
ANSWER_SECONDS = 900.0
"""For an answer that is no stream: three times the longest that a run may take unless its author says more."""
LOOK_SECONDS = 10.0
"""For one host's part of an answer that many give: one that hangs is missing in it, and not waited for."""
RETRY_AFTER = 5.0
MOST_PLACES = 10_000
"""Runs of which it is remembered where they are."""
_PASSED_ON = ("content-type", "accept", "last-event-id", "x-session-id")
"""Headers that a host is sent. Nobody's credentials are among them, and nothing that says where they call from."""
_ENDING = frozenset({"ShuttingDown"})


class BadGateway(Refused):
    """502: the host broke off before it answered; what became of the request is not known."""

    status = 502
    default_reason = "HostFailed"


class _Error(msgspec.Struct):
    reason: str = ""
    code: str | None = None


class _Told(msgspec.Struct):
    error: _Error


_told = msgspec.json.Decoder(_Told)


class Call(msgspec.Struct, frozen=True):
    """A request to a host. `seconds`: for its whole answer; None: it may go on for as long as a run does."""

    method: str
    path: str
    headers: Mapping[str, str]
    body: bytes = b""
    seconds: float | None = ANSWER_SECONDS


class Place(msgspec.Struct, frozen=True):
    """Where a run is."""

    agent: AgentKey
    host: str


def passed_on(headers: Headers) -> dict[str, str]:
    """What a host is sent of a request's headers."""
    return {name: value for name in _PASSED_ON if (value := headers.get(name))}


def preferred(hosts: Sequence[str], key: str) -> list[str]:
    """The hosts, the one first that `key` belongs to: the same one for as long as it is there (rendezvous hashing)."""
    if len(hosts) < 2:
        return list(hosts)
    return sorted(hosts, key=lambda host: hashlib.blake2b(f"{host}\n{key}".encode(), digest_size=8).digest())


class Upstream:
    """The hosts, and the way to them."""

    def __init__(self, fleet: Fleet, http: aiohttp.ClientSession, signer: Signer) -> None:
        self._fleet = fleet
        self._http = http
        self._signer = signer
        self._places: OrderedDict[str, Place] = OrderedDict()
        self.failures = 0
        """Hosts that did not answer and were asked in vain."""

    async def ask(self, call: Call, agent: AgentKey, visitor: Visitor, near: str) -> aiohttp.ClientResponse:
        """What a host of the agent answers. `near`: what prefers one host to the others, such as a session's id.

        Raises Unavailable where none takes it, BadGateway where one has broken off.
        """
        hosts = self._fleet.hosts(agent)
        if not hosts:
            message = f"no pod of agent {agent.short} answers now; kubectl describe agent {agent.name} says why"
            raise Unavailable(message, reason="AgentNotReady", retry_after=RETRY_AFTER)
        told = await visitors.rights(visitor, agent)
        headers = {**call.headers, HEADER: self._signer.sign(visitor.name, str(agent), told)}
        why = ""
        for host in preferred(hosts, near)[:TRIES]:
            try:
                answer = await self.send(call, host, headers)
            except Unavailable as error:
                why = str(error)
                continue
            self._note(answer, agent, host)
            return answer
        raise Unavailable(f"agent {agent.short}: {why}", reason="AgentNotReady", retry_after=RETRY_AFTER)

    async def at(self, call: Call, place: Place, visitor: Visitor) -> aiohttp.ClientResponse:
        """What that one host answers. Raises Unavailable, BadGateway."""
        told = await visitors.rights(visitor, place.agent)
        headers = {**call.headers, HEADER: self._signer.sign(visitor.name, str(place.agent), told)}
        answer = await self.send(call, place.host, headers)
        self._note(answer, place.agent, place.host)
        return answer

    async def send(self, call: Call, host: str, headers: Mapping[str, str]) -> aiohttp.ClientResponse:
        """Send it there. Raises Unavailable where it has not been acted on, BadGateway where that is not known."""
        timeout = aiohttp.ClientTimeout(total=call.seconds, sock_connect=CONNECT_SECONDS)
        try:
            answer = await self._http.request(
                call.method,
                f"http://{host}{call.path}",
                data=call.body or None,
                headers=headers,
                timeout=timeout,
                allow_redirects=False,
            )
        except (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError, http_client.Stale) as error:
            self.failures += 1
            raise Unavailable(f"its pod at {host} cannot be reached") from error
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            self.failures += 1
            if call.method in {"GET", "HEAD"}:
                raise Unavailable(f"its pod at {host} broke off") from error
            message = f"the agent's pod at {host} broke off before it answered; look at /runs for what became of it"
            raise BadGateway(message) from error
        if answer.status == 503 and await _is_ending(answer):
            self.failures += 1
            raise Unavailable(f"its pod at {host} is ending")
        return answer

    def place(self, run_id: str) -> Place | None:
        """Where a run is, where that is known and its host is there still."""
        found = self._places.get(run_id)
        return found if found is not None and found.host in self._fleet.hosts(found.agent) else None

    def note(self, run_id: str, place: Place) -> None:
        """A run has been found there."""
        self._places[run_id] = place
        self._places.move_to_end(run_id)
        if len(self._places) > MOST_PLACES:
            self._places.popitem(last=False)

    def _note(self, answer: aiohttp.ClientResponse, agent: AgentKey, host: str) -> None:
        run_id = answer.headers.get("x-run-id")
        if run_id:
            self.note(run_id, Place(agent, host))


async def _is_ending(answer: aiohttp.ClientResponse) -> bool:
    """Whether a host has said that it takes nothing any more. Its answer can be read once more."""
    try:
        told = _told.decode(await answer.read()).error
    except (msgspec.DecodeError, aiohttp.ClientError, TimeoutError):
        return False
    return told.reason in _ENDING or told.code in _ENDING
