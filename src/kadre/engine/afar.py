"""Agents that other processes host, asked through the gateway: a run there is followed as one that is here.

Asked again with the same run's id, a host answers with the run that is there: what cannot be reached for a moment is
asked again, and a stream that breaks off is read on from where it broke.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from http import HTTPStatus
from pathlib import Path
from typing import Any
from urllib.parse import quote

import aiohttp
import msgspec

from kadre.base.clock import Clock
from kadre.base.errors import (
    BadRequest,
    Conflict,
    Forbidden,
    KadreError,
    NotFound,
    Refused,
    TooLarge,
    ToolError,
    TooMany,
    Unauthorized,
    Unavailable,
    shorten,
)
from kadre.base.retry import Backoff
from kadre.engine import events as ev
from kadre.engine import http_client, sse
from kadre.engine.accepting import Ask, Parent
from kadre.engine.live import Live
from kadre.engine.memory import spill
from kadre.engine.memory.port import RunInfo

ON_BEHALF = "x-kadre-for"
"""The header in which an agent says for whom it asks another one, percent-encoded: names are any text."""
ASKING = "x-kadre-asking"
"""The header in which a process says which of its agents asks: a pool's has many."""
CONNECT_SECONDS = 5.0
ANSWER_SECONDS = 150.0
"""For an answer: the gateway waits two minutes for an agent's first pod."""
QUIET_SECONDS = 45.0
"""In which something comes on a stream: a host says every 15 s that it is there."""
OUTAGE_SECONDS = 120.0
"""For which nobody may answer before a run is taken for lost: a gateway and an agent that are both rolled."""
LOST_SECONDS = 30.0
"""For which it may be said that there is no such run: as long as another pod needs to go on with it."""
MOST = 4 << 20
"""Bytes of an answer that is no stream."""
AGAIN = Backoff(attempts=8, first=0.25, limit=8.0)
_KINDS: Mapping[int, type[Refused]] = {
    kind.status: kind for kind in (BadRequest, Unauthorized, Forbidden, NotFound, Conflict, TooLarge, TooMany)
}
log = logging.getLogger(__name__)
_info = msgspec.json.Decoder(RunInfo)


class Uncertain(Unavailable):
    """Whether what was sent has been acted on is not known."""


class Afar:
    """The gateway at `url`, as an agent's process calls it. `token`: the file that says whose process it is."""

    def __init__(self, http: aiohttp.ClientSession, url: str, token: Path, clock: Clock, *, asking: str = "") -> None:
        self._http = http
        self._url = url.rstrip("/")
        self._token = token
        self._clock = clock
        self._asking = asking

    def by(self, asking: str) -> Afar:
        """The same, as that agent of the process calls it."""
        return Afar(self._http, self._url, self._token, self._clock, asking=asking)

    async def start(self, ask: Ask, parent: Parent) -> Live:
        """Have the agent's host accept the run; its events are read as they are waited for. Raises Refused."""
        body = {
            "message": ask.message,
            "session_id": ask.session_id,
            "run_id": ask.run_id,
            "parent": {"run_id": parent.run_id, "chain": parent.chain, "outside": parent.outside},
        }
        try:
            try:
                said = await self._said("POST", "/runs", ask.caller, {**body, "agent": ask.agent.short})
            except Conflict as error:
                if error.reason != "AmbiguousAgent":
                    raise
                named = f"{ask.agent.short}.{ask.agent.group}"  # not at once: hosts of before know no groups
                said = await self._said("POST", "/runs", ask.caller, {**body, "agent": named})
        except Uncertain:
            return await self.begun(ask)
        return self._read(_info.decode(said))

    async def begun(self, ask: Ask) -> Live:
        """The run, which was asked for before. Raises Refused, and ToolError where there is none any more."""
        try:
            return self._read(_info.decode(await self._said("GET", f"/runs/{ask.run_id}", ask.caller)))
        except NotFound as error:
            message = f"what {ask.agent} was asked is lost: whether it was done is not known"
            raise ToolError(message, unknown=True) from error

    def _read(self, info: RunInfo) -> Live:
        live = Live(info)
        reading = _Reading(self, live, self._clock)
        live.read_on(reading.more, reading.close)
        return live

    async def cancel(self, run_id: str, caller: str) -> None:
        """End the run. Where its host cannot be reached it goes on until its own deadline."""
        try:
            await self._said("POST", f"/runs/{run_id}/cancel", caller, {})
        except NotFound:
            pass  # it was not begun
        except Refused as error:
            log.warning("run %s at another host is not cancelled: %s", run_id, error)

    async def approve(self, run_id: str, caller: str, decided: Mapping[str, Any]) -> None:
        """Hand on what a person decided. `decided`: as the door for it has it, with `by`. Raises Refused."""
        await self._said("POST", f"/runs/{run_id}/approve", caller, decided)

    async def events(self, info: RunInfo, after: int) -> aiohttp.ClientResponse:
        """The run's events as they come, from the one after that number on. Raises Refused."""
        headers = {"accept": "text/event-stream", "last-event-id": str(after)}
        timeout = aiohttp.ClientTimeout(sock_connect=CONNECT_SECONDS, sock_read=QUIET_SECONDS)
        return await self._sent("GET", f"/runs/{info.run_id}/events", info.caller, timeout, headers)

    async def blob(self, info: RunInfo, digest: str) -> bytes:
        """A text of the run, whole. Raises Refused."""
        return await self._said("GET", f"/runs/{info.run_id}/blobs/{digest}", info.caller)

    async def _said(self, method: str, path: str, caller: str, body: Any = None) -> bytes:
        """What is answered, asked again where nobody can have acted on it for a moment. Raises Refused.

        Uncertain, where that is not known: what is read is read again.
        """
        attempt = 0
        while True:
            attempt += 1
            try:
                return await self._once(method, path, caller, body)
            except (Unavailable, TooMany) as error:
                wait = AGAIN.delay(attempt, error.retry_after)
                if wait is None or (isinstance(error, Uncertain) and method != "GET"):
                    raise
            await self._clock.sleep(wait)

    async def _once(self, method: str, path: str, caller: str, body: Any) -> bytes:
        timeout = aiohttp.ClientTimeout(total=ANSWER_SECONDS, sock_connect=CONNECT_SECONDS)
        try:
            async with await self._sent(method, path, caller, timeout, body=body) as answer:
                return await _whole(answer)
        except (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError, http_client.Stale) as error:
            raise _unreached(error) from error
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise Uncertain(f"the gateway broke off ({shorten(str(error) or type(error).__name__)})") from error

    async def _sent(
        self,
        method: str,
        path: str,
        caller: str,
        within: aiohttp.ClientTimeout,
        headers: Mapping[str, str] | None = None,
        body: Any = None,
    ) -> aiohttp.ClientResponse:
        """An answer that is none of a refusal. Raises Refused, and what aiohttp does."""
        answer = await self._http.request(
            method,
            self._url + path,
            json=body,
            headers={**(headers or {}), **self._said_of(caller)},
            timeout=within,
            allow_redirects=False,
        )
        if answer.status < HTTPStatus.MULTIPLE_CHOICES:
            return answer
        async with answer:
            raise _refusal(answer, await _whole(answer))

    def _said_of(self, caller: str) -> dict[str, str]:
        """Who asks, and for whom."""
        return {"authorization": f"Bearer {self._bearer()}", ASKING: self._asking, ON_BEHALF: quote(caller)}

    def _bearer(self) -> str:
        try:
            return self._token.read_text(encoding="ascii").strip()  # it is renewed where it lies
        except (OSError, ValueError) as error:
            message = f"this pod's token for the gateway cannot be read ({error}): the controller mounts it"
            raise Unavailable(message, reason="NoToken") from error


class _Reading:
    """One run's events, read on whenever somebody waits for the next."""

    def __init__(self, afar: Afar, live: Live, clock: Clock) -> None:
        self._afar = afar
        self._live = live
        self._clock = clock
        self._heard = clock.monotonic()
        self._failures = 0
        self._answer: aiohttp.ClientResponse | None = None
        self._parser = sse.Parser()

    async def more(self) -> None:
        """Publish what comes next. Raises KadreError where the run is lost."""
        known = len(self._live.events)
        try:
            while len(self._live.events) == known and not self._live.ended:
                try:
                    await self._read()
                except (aiohttp.ClientError, TimeoutError, OSError, KadreError, sse.EventTooLarge) as error:
                    self.close()
                    await self._clock.sleep(self._patience(error))
        except BaseException:
            self.close()
            raise
        if self._live.ended:
            self.close()

    async def _read(self) -> None:
        live = self._live
        if self._answer is None:
            self._answer, self._parser = await self._afar.events(live.info, len(live.events)), sse.Parser()
        chunk = await self._answer.content.readany()
        if not chunk:
            raise Unavailable(f"what run {live.info.run_id} does is not told any more")
        found = self._parser.feed(chunk)
        if not found:
            self._heard = self._clock.monotonic()  # a heartbeat, or a part of what is to come
        for told in found:
            event = _event(told.data)
            if isinstance(event, ev.Token) or event.seq <= len(live.events):
                continue
            if event.seq != len(live.events) + 1:
                raise Unavailable(f"events of run {live.info.run_id} are missing")
            if isinstance(event, ev.AssistantMessage) and event.blobs:
                whole = await spill.restore(_Blobs(self._afar, live.info), event)
                live.whole = whole if isinstance(whole, ev.AssistantMessage) else None
            live.publish([event])
            self._heard, self._failures = self._clock.monotonic(), 0

    def _patience(self, error: Exception) -> float:
        """Seconds until the next try. Raises KadreError where there has been enough of them."""
        self._failures += 1
        quiet = self._clock.monotonic() - self._heard
        refused = isinstance(error, Refused) and not isinstance(error, Unavailable | TooMany)
        if quiet >= (LOST_SECONDS if refused else OUTAGE_SECONDS):
            raise error if isinstance(error, KadreError) else _unreached(error) from error
        return AGAIN.delay(min(self._failures, AGAIN.attempts - 1)) or AGAIN.limit

    def close(self) -> None:
        """Read no more for now."""
        if self._answer is not None:
            self._answer.close()
            self._answer = None


class _Blobs:
    """Large texts of a run, where its host keeps them."""

    def __init__(self, afar: Afar, info: RunInfo) -> None:
        self._afar = afar
        self._info = info

    async def get_blob(self, digest: str) -> bytes:
        """See Journal."""
        return await self._afar.blob(self._info, digest)


def _event(data: bytes) -> ev.Event:
    """The event; one of a type that is not known here as one that only takes its number. Raises Unavailable."""
    try:
        return ev.decode(data)
    except msgspec.DecodeError as error:
        if (why := ev.lost(data)) is not None:
            raise Unavailable(why) from error
        try:
            told = json.loads(data)
            return msgspec.convert({**told, "type": "system", "reason": "Unknown", "message": told["type"]}, ev.System)
        except (ValueError, TypeError, KeyError, msgspec.ValidationError):
            raise Unavailable(f"what its host tells is no event: {shorten(data.decode(errors='replace'))}") from error


def _refusal(answer: aiohttp.ClientResponse, body: bytes) -> Refused:
    """What an answer that is no answer says."""
    try:
        told = json.loads(body)["error"]
        reason, message = str(told.get("reason") or told.get("code") or ""), shorten(str(told["message"]))
    except (ValueError, TypeError, KeyError, AttributeError):
        reason, message = "", f"the gateway answers {answer.status} {answer.reason}"
    asked = answer.headers.get("retry-after", "")
    acted = answer.status != HTTPStatus.SERVICE_UNAVAILABLE or reason == "HostEnded"
    kind = _KINDS.get(answer.status, Uncertain if acted else Unavailable)
    return kind(message, reason=reason or None, retry_after=float(asked) if asked.isdigit() else None)


async def _whole(answer: aiohttp.ClientResponse) -> bytes:
    data = await answer.content.read(MOST + 1)
    while len(data) <= MOST and not answer.content.at_eof():
        data += await answer.content.read(MOST + 1 - len(data))
    if len(data) > MOST:
        raise TooLarge(f"the answer is larger than {MOST >> 20} MiB")
    return data


def _unreached(error: Exception) -> Unavailable:
    return Unavailable(f"the gateway cannot be reached ({shorten(str(error) or type(error).__name__)})")
