"""Speaks to a running `kadre up`: JSON there and back, and a run's events as they come.

The standard library's HTTP client and not aiohttp: a command waits for one answer at a time, and starts four times
faster this way.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import os
from collections.abc import Iterable, Iterator
from typing import Any
from urllib.parse import quote, urlencode, urlsplit

import msgspec

from kadre.base.errors import KadreError, shorten
from kadre.engine import events as ev
from kadre.engine.models import sse

DEFAULT_SERVER = "http://127.0.0.1:8080"
TIMEOUT = 30.0
"""Seconds to wait for an answer; also for the next byte of a stream, where a heartbeat comes every 15 s."""


class Unreachable(KadreError):
    """Nobody answers, or not as `kadre up` does."""


class Answered(KadreError):
    """The server refused. `status` is HTTP's, `reason` CamelCase and stable."""

    def __init__(self, status: int, reason: str, message: str) -> None:
        self.status = status
        self.reason = reason
        super().__init__(message)


class Lost(KadreError):
    """A stream ended before its run did."""


class Client:
    """One server. Every call opens a connection of its own: a command makes few, and some at the same time."""

    def __init__(self, server: str = "") -> None:
        self.server = (server or os.environ.get("KADRE_SERVER") or DEFAULT_SERVER).rstrip("/")
        if "://" not in self.server:
            self.server = f"http://{self.server}"
        parts = urlsplit(self.server)
        if parts.scheme not in {"http", "https"} or not parts.hostname:
            raise Unreachable(f"{self.server} is no address of a server; write it as {DEFAULT_SERVER}")
        self._parts = parts

    def get(self, path: str, **query: str | int | None) -> Any:
        """The JSON at `path`. Raises Unreachable, Answered."""
        given = {name: value for name, value in query.items() if value not in (None, "")}
        return self._json(self._request("GET", f"{path}?{urlencode(given)}" if given else path))

    def post(self, path: str, body: Any = None) -> Any:
        """Send `body` as JSON and return the JSON that comes back. Raises Unreachable, Answered."""
        return self._json(self._request("POST", path, body))

    def chat(self, agent: str, message: str, session_id: str, run_id: str) -> Iterator[ev.Event]:
        """Say something to an agent (`name` or `namespace/name`); its run's events until the end. Raises Lost too."""
        body = {"message": message, "session_id": session_id, "run_id": run_id}
        return self._events(self._request("POST", f"/agents/{quote(agent)}/chat", body, stream=True))

    def follow(self, run_id: str, after: str = "") -> Iterator[ev.Event]:
        """A run's events from the one after id `after` until the end. Raises Lost too."""
        return self._events(self._request("GET", f"/runs/{quote(run_id)}/events", stream=True, after=after))

    def _request(
        self, method: str, path: str, body: Any = None, *, stream: bool = False, after: str = ""
    ) -> http.client.HTTPResponse:
        parts = self._parts
        connect = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
        connection = connect(parts.hostname or "", parts.port, timeout=TIMEOUT)
        headers = {"Accept": "text/event-stream" if stream else "application/json", "Connection": "close"}
        if body is not None:
            headers["Content-Type"] = "application/json"
        if after:
            headers["Last-Event-ID"] = after
        try:
            connection.request(method, parts.path + path, None if body is None else json.dumps(body), headers)
            response = connection.getresponse()
        except ConnectionRefusedError as error:
            raise Unreachable(
                f"no kadre up answers at {self.server}; start one with `kadre up`, or say where it is with --server"
            ) from error
        except (OSError, http.client.HTTPException) as error:
            connection.close()
            raise Unreachable(f"{self.server} does not answer as kadre up does: {shorten(str(error))}") from error
        if response.status >= 400:
            raise self._refused(response)
        return response

    def _json(self, response: http.client.HTTPResponse) -> Any:
        with response:
            try:
                return json.loads(response.read())
            except (ValueError, OSError, http.client.HTTPException) as error:
                raise Unreachable(f"{self.server} does not answer as kadre up does: {shorten(str(error))}") from error

    def _refused(self, response: http.client.HTTPResponse) -> KadreError:
        try:
            error = self._json(response)["error"]
            message = str(error["message"])
            if candidates := error.get("candidates"):
                message += f": {', '.join(candidates)}"
            return Answered(response.status, str(error["reason"]), message)
        except (Unreachable, KeyError, TypeError):
            return Unreachable(
                f"{self.server} does not answer as kadre up does: HTTP {response.status} {response.reason}"
            )

    @staticmethod
    def _events(response: http.client.HTTPResponse) -> Iterator[ev.Event]:
        parser = sse.Parser()
        with response:
            while True:
                try:
                    chunk = response.read1(65536)
                except (OSError, http.client.HTTPException) as error:
                    raise Lost(f"the connection was lost ({shorten(str(error))})") from error
                if not chunk:
                    raise Lost("the server ended the connection before the run had ended")
                for told in _fed(parser, chunk):
                    event = _decode(told.data)
                    if event is not None:
                        yield event
                    if isinstance(event, ev.RunFinished):
                        return


def event_id(event: ev.Event) -> str:
    """What to hand `Client.follow` to go on after this event."""
    return f"{event.seq}.{event.offset}" if isinstance(event, ev.Token) else str(event.seq)


def events(told: Iterable[Any]) -> list[ev.Event]:
    """Events that came as plain JSON, without those of types this version does not know."""
    known = []
    for item in told:
        with contextlib.suppress(msgspec.ValidationError):
            known.append(msgspec.convert(item, ev.Event))
    return known


def _fed(parser: sse.Parser, chunk: bytes) -> list[sse.ServerEvent]:
    try:
        return parser.feed(chunk)
    except sse.EventTooLarge as error:
        raise Lost(str(error)) from error


def _decode(data: bytes) -> ev.Event | None:
    """The event; None for a type this version does not know. Raises Lost for the server's word that a run was lost."""
    try:
        return ev.decode(data)
    except msgspec.DecodeError as error:
        try:
            told = json.loads(data)
        except ValueError:
            raise Lost("the server sent something that is no event") from error
        if isinstance(told, dict) and told.get("type") == "error":  # an error without a number is not of the run
            raise Lost(str(told.get("message", ""))) from error
        return None
