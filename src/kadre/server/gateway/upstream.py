"""Hands a request to one of an agent's hosts, to another where that is safe, and gives back what it answers.

Safe means: nothing of the request can have been acted on. A host that cannot be reached has not seen it, one that is
ending, or that does not know the gateway's key yet, has said that it takes nothing. Whatever else goes wrong is told to
the caller, who knows what was asked.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from http import HTTPStatus

import aiohttp
import msgspec
from starlette.datastructures import Headers

from kadre.base.errors import Refused, Unavailable
from kadre.base.ids import is_id
from kadre.engine import http_client
from kadre.plan.types import AgentKey
from kadre.server.gateway import visitors
from kadre.server.gateway.fleet import Fleet
from kadre.server.gateway.visitors import Visitor
from kadre.server.gateway.wanted import Wanted
from kadre.server.identity import HEADER, Signer

log = logging.getLogger(__name__)

TRIES = 3
"""Hosts that are asked, one after the other."""
CONNECT_SECONDS = 3.0
ANSWER_SECONDS = 900.0
"""For an answer that is no stream: three times the longest that a run may take unless its author says more."""
LOOK_SECONDS = 10.0
"""For one host's part of an answer that many give: one that hangs is missing in it, and not waited for."""
PART = 4 << 20
"""Bytes of such a part at most."""
HOLD_SECONDS = 120.0
"""For which a message waits for an agent's first pod, where one is about to come."""
HELD = 1000
"""Messages that wait so at once."""
RETRY_AFTER = 5.0
MOST_PLACES = 10_000
"""Runs of which it is remembered where they are."""
_PASSED_ON = frozenset((b"content-type", b"accept", b"last-event-id", b"x-session-id"))
"""Headers that a host is sent. Nobody's credentials are among them, and nothing that says where they call from."""
_TAKES_NOTHING = {"ShuttingDown": "is ending", "UnprovenIdentity": "does not know the gateway's key yet"}


class BadGateway(Refused):
    """502: the host broke off before it answered; what became of the request is not known."""

    status = 502
    default_reason = "HostFailed"


class RequestTimeout(Refused):
    """504: the agent did not answer in the time that a request may take; see `Fleet.seconds`."""

    status = 504
    default_reason = "RequestTimeout"


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
    found = {name.decode(): value.decode("latin-1") for name, value in headers.raw if name in _PASSED_ON and value}
    found["accept-encoding"] = "identity"  # what is passed back is passed back as it comes
    return found


def with_session(headers: dict[str, str], session: str) -> dict[str, str]:
    """The headers with a session's id. One that is none is in the body, for the host to refuse."""
    if is_id(session):
        return {**headers, "x-session-id": session}
    return {name: value for name, value in headers.items() if name != "x-session-id"}


def preferred(hosts: Sequence[str], key: str) -> list[str]:
    """The hosts, the one first that `key` belongs to: the same one while they are the same (rendezvous hashing).

    Where one host is added or goes, what belongs to another stays there, but for the added one's share.
    """
    if len(hosts) < 2:
        return list(hosts)
    return sorted(hosts, key=lambda host: hashlib.blake2b(f"{host}\n{key}".encode(), digest_size=8).digest())


class Upstream:
    """The hosts, and the way to them."""

    def __init__(self, fleet: Fleet, http: aiohttp.ClientSession, signer: Signer) -> None:
        self._fleet = fleet
        self._http = http
        self._signer = signer
        self._places: OrderedDict[tuple[str, str], Place] = OrderedDict()
        """By caller and run: an id is whoever's who chose it."""
        self.failures = 0
        """Hosts that did not answer and were asked in vain."""
        self.held = 0
        """Messages that wait for an agent's first pod."""
        self.wanted = Wanted()

    async def ask(self, call: Call, agent: AgentKey, visitor: Visitor, near: str) -> aiohttp.ClientResponse:
        """What a host of the agent answers. `near`: what prefers one host to the others, such as a session's id.

        Raises Unavailable where none takes it, BadGateway where one has broken off, RequestTimeout.
        """
        ended = self.wanted.begins(agent)
        try:
            answer = await self._asked(call, agent, visitor, near)
        except BaseException:
            ended()
            raise
        if answer.connection is None:
            ended()
        else:
            answer.connection.add_callback(ended)  # called once it is read to its end, or closed
        return answer

    async def _asked(self, call: Call, agent: AgentKey, visitor: Visitor, near: str) -> aiohttp.ClientResponse:
        allowed = self._fleet.seconds(agent)
        hosts = self._fleet.hosts(agent) or await self._held(agent, allowed or HOLD_SECONDS)
        if allowed:
            call = msgspec.structs.replace(call, seconds=min(allowed, call.seconds or allowed))
        why = f"no pod of it answers now; kubectl describe agent {agent.name} -n {agent.namespace} says why"
        headers = {**call.headers, HEADER: await self._word(visitor, agent)}
        for host in preferred(hosts, near)[:TRIES]:
            try:
                answer = await self.send(call, Place(agent, host), headers)
            except Unavailable as error:
                why = str(error)
                continue
            run_id = answer.headers.get("x-run-id")
            if run_id and answer.status < HTTPStatus.BAD_REQUEST:
                self.note(visitor, run_id, Place(agent, host))
            return answer
        raise Unavailable(f"agent {agent.short}: {why}", reason="AgentNotReady", retry_after=RETRY_AFTER)

    async def _held(self, agent: AgentKey, seconds: float) -> Sequence[str]:
        """The agent's hosts, as soon as it has one; none where none is about to come, or does not come in time."""
        if self.held >= HELD:
            return ()
        self.held += 1
        try:
            async with asyncio.timeout(min(seconds, HOLD_SECONDS)):
                while not (hosts := self._fleet.hosts(agent)) and self._fleet.comes(agent):
                    await self._fleet.arrives(agent)
                return hosts
        except TimeoutError:
            return ()
        finally:
            self.held -= 1

    async def at(self, call: Call, place: Place, visitor: Visitor) -> aiohttp.ClientResponse:
        """What that one host answers. Raises Unavailable, BadGateway."""
        headers = {**call.headers, HEADER: await self._word(visitor, place.agent)}
        return await self.send(call, place, headers)

    async def _word(self, visitor: Visitor, agent: AgentKey) -> str:
        """What the agent's hosts are told of who is calling. Raises Unavailable."""
        return self._signer.sign(visitor.name, str(agent), await visitors.rights(visitor, agent), visitor.via)

    async def send(self, call: Call, place: Place, headers: Mapping[str, str]) -> aiohttp.ClientResponse:
        """Send it there.

        Raises Unavailable where it has not been acted on, BadGateway and RequestTimeout where that is not known.
        """
        host = place.host
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
            raise self._failed(host, "cannot be reached", error) from error
        except TimeoutError as error:
            if call.method in {"GET", "HEAD"}:
                raise self._failed(host, "broke off", error) from error
            allowed = f"{call.seconds:g} s, which is as long as a request may take"
            message = f"the agent does not answer within {allowed}; look at /runs for what becomes of it"
            raise RequestTimeout(message) from error
        except (aiohttp.ClientError, OSError) as error:
            unavailable = self._failed(host, "broke off", error)
            if call.method in {"GET", "HEAD"}:
                raise unavailable from error
            raise BadGateway(f"the agent's pod broke off before it answered; {self.fate(place.agent)}") from error
        if answer.status in {HTTPStatus.UNAUTHORIZED, HTTPStatus.SERVICE_UNAVAILABLE}:
            reason = await _reason(answer)
            if reason in _TAKES_NOTHING:
                raise self._failed(host, _TAKES_NOTHING[reason], None)
        return answer

    def _failed(self, host: str, how: str, error: BaseException | None) -> Unavailable:
        """What callers are told, without the address, which the log has."""
        self.failures += 1
        log.info("the pod at %s %s%s", host, how, f" ({error!r})" if error is not None else "")
        return Unavailable(f"its pod {how}", reason="AgentNotReady", retry_after=RETRY_AFTER)

    def place(self, visitor: Visitor, run_id: str) -> Place | None:
        """Where a caller's run is, where that is known and its host is there still."""
        found = self._places.get((visitor.name, run_id))
        return found if found is not None and found.host in self._fleet.hosts(found.agent) else None

    def last(self, visitor: Visitor, run_id: str) -> Place | None:
        """Where a caller's run was last, where that is known, whatever has become of its host."""
        return self._places.get((visitor.name, run_id))

    def fate(self, agent: AgentKey, run_id: str = "") -> str:
        """What becomes of a run whose pod broke off, and what its caller can do: the end of a sentence."""
        if not self._fleet.durable(agent):
            return f"if it has ended, the run is lost with it: {self.keeps(agent)}"
        return f"look at {f'/runs/{run_id}' if run_id else '/runs'} for what becomes of the run"

    @staticmethod
    def keeps(agent: AgentKey) -> str:
        """Why runs of an agent that is not durable are lost, and how others are kept."""
        how = "a memory of type postgres or redis, or the chart's journal.existingSecret, keeps them elsewhere"
        return f"agent {agent.short} keeps its runs in its pod ({how})"

    def note(self, visitor: Visitor, run_id: str, place: Place) -> None:
        """A run that the caller sees is there."""
        key = (visitor.name, run_id)
        self._places[key] = place
        self._places.move_to_end(key)
        if len(self._places) > MOST_PLACES:
            self._places.popitem(last=False)


async def whole(answer: aiohttp.ClientResponse) -> bytes:
    """A small answer, in full. Raises aiohttp.ClientError, TimeoutError, and ValueError where it is not small."""
    parts, size = [], 0
    try:
        async for part in answer.content.iter_any():
            parts.append(part)
            size += len(part)
            if size > PART:
                raise ValueError(f"its pod answers with more than {PART >> 20} MiB")
    finally:
        answer.close()
    return b"".join(parts)


async def _reason(answer: aiohttp.ClientResponse) -> str:
    """Why a host refuses. Its answer can be read once more where it is small, and is not read at all elsewhere."""
    length = answer.headers.get("content-length", "")
    if not length.isdigit() or int(length) > PART:
        return ""
    try:
        told = _told.decode(await answer.read()).error
    except (ValueError, aiohttp.ClientError, TimeoutError):
        return ""
    return told.reason or told.code or ""
