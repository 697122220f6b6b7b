"""Speaks to a running `kadre up`: JSON there and back, and a run's events as they come.

The standard library's HTTP client and not aiohttp: a command waits for one answer at a time, and starts four times
faster this way.
"""

from __future__ import annotations

import contextlib
import functools
import http.client
import json
import os
from collections.abc import Callable, Iterator, Mapping
from types import MappingProxyType
from typing import Any, Literal
from urllib.parse import quote, urlencode, urlsplit

import msgspec

from kadre.base.errors import KadreError, shorten
from kadre.engine import events as ev
from kadre.engine import sse

DEFAULT_SERVER = "http://127.0.0.1:8080"
STREAM = "text/event-stream"
PIECE = 64 * 1024
"""Bytes that are read at once of what may be long."""
TIMEOUT = 30.0
"""Seconds to wait for an answer; also for the next byte of a stream, where a heartbeat comes every 15 s."""


_CONNECTIONS = {"http": http.client.HTTPConnection, "https": http.client.HTTPSConnection}


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
        server = server or os.environ.get("KADRE_SERVER") or DEFAULT_SERVER
        if "://" not in server:
            server = f"http://{server}"
        try:
            parts = urlsplit(server)
            host, port = parts.hostname, parts.port
        except ValueError:
            host = port = None
        if not host or parts.scheme not in _CONNECTIONS:
            raise Unreachable(f"{server} is no address of a server; write it as {DEFAULT_SERVER}")
        self.server = server.rstrip("/")
        self._base = parts.path.rstrip("/")
        self._connect: Callable[[], http.client.HTTPConnection] = functools.partial(
            _CONNECTIONS[parts.scheme], host, port, timeout=TIMEOUT
        )

    def get(self, path: str, **query: str | int) -> Any:
        """The JSON at `path`; empty query values are left out. Raises Unreachable, Answered."""
        with self._request("GET", _with(path, query)) as response:
            return self._json(response)

    def post(self, path: str, body: Any = None) -> Any:
        """Send `body` as JSON and return the JSON that comes back. Raises Unreachable, Answered."""
        with self._request("POST", quote(path), body) as response:
            return self._json(response)

    def patch(self, path: str, body: Any, **query: str) -> Any:
        """Change what is at `path` and return the JSON that comes back. Raises Unreachable, Answered."""
        with self._request("PATCH", _with(path, query), body) as response:
            return self._json(response)

    def delete(self, path: str, **query: str) -> None:
        """Delete what is at `path`. Raises Unreachable, Answered."""
        with self._request("DELETE", _with(path, query)):
            pass

    def pieces(self, path: str, **query: str) -> Iterator[bytes]:
        """What is at `path` as it comes. Raises Unreachable, Answered, and Lost where it does not come to its end."""
        with self._request("GET", _with(path, query)) as response:
            try:
                while piece := response.read(PIECE):
                    yield piece
            except (OSError, http.client.HTTPException) as error:
                raise Lost(f"the connection was lost before the end ({shorten(str(error))})") from error

    def decide(
        self, run_id: str, approval_id: str, decision: Literal["allow", "deny"], said: Mapping[str, Any]
    ) -> None:
        """Decide a call that a run waits with, or answer its question; `said`: see `POST /runs/{id}/approve`.

        Raises Unreachable, Answered.
        """
        self.post(f"/runs/{run_id}/approve", {"approval_id": approval_id, "decision": decision, **said})

    def chat(self, agent: str, message: str, session_id: str, run_id: str) -> Iterator[ev.Event]:
        """Say something to an agent (`name` or `namespace/name`); its run's events until the end. Raises Lost too."""
        body = {"message": message, "session_id": session_id, "run_id": run_id}
        with self._request("POST", f"/agents/{quote(agent)}/chat", body, {"Accept": STREAM}) as response:
            yield from _stream(response)

    def follow(self, run_id: str, after: str = "") -> Iterator[ev.Event]:
        """A run's events from the one after id `after` until the end. Raises Lost too."""
        headers = {"Accept": STREAM, "Last-Event-ID": after}
        with self._request("GET", f"/runs/{quote(run_id)}/events", None, headers) as response:
            yield from _stream(response)

    @contextlib.contextmanager
    def _request(
        self, method: str, path: str, body: Any = None, headers: Mapping[str, str] = MappingProxyType({})
    ) -> Iterator[http.client.HTTPResponse]:
        """The response to a request that was not refused; closed with its connection at the end."""
        data = None if body is None else json.dumps(body)
        with contextlib.closing(self._connect()) as connection:
            try:
                connection.request(method, self._base + path, data, {"Content-Type": "application/json", **headers})
                response = connection.getresponse()
            except ConnectionRefusedError as error:
                raise Unreachable(
                    f"no kadre up answers at {self.server}; start one with `kadre up`, or say where it is with --server"
                ) from error
            except OSError as error:
                raise self._stranger(error.strerror or str(error)) from error
            except http.client.HTTPException as error:
                raise self._stranger(str(error)) from error
            with response:
                if response.status >= 400:
                    raise self._refused(response)
                yield response

    def _json(self, response: http.client.HTTPResponse) -> Any:
        try:
            return json.loads(response.read())
        except (ValueError, OSError, http.client.HTTPException) as error:
            raise self._stranger(str(error)) from error

    def _refused(self, response: http.client.HTTPResponse) -> KadreError:
        try:
            error = self._json(response)["error"]
            candidates = f": {', '.join(error['candidates'])}" if "candidates" in error else ""
            return Answered(response.status, str(error["reason"]), str(error["message"]) + candidates)
        except (Unreachable, KeyError, TypeError):
            return self._stranger(f"HTTP {response.status} {response.reason}")

    def _stranger(self, why: str) -> Unreachable:
        return Unreachable(f"{self.server} does not answer as kadre up does: {shorten(why)}")


def _with(path: str, query: Mapping[str, str | int]) -> str:
    """The address with what is asked there; what is empty is left out."""
    given = {name: value for name, value in query.items() if value != ""}
    return quote(path) + (f"?{urlencode(given)}" if given else "")


def _stream(response: http.client.HTTPResponse) -> Iterator[ev.Event]:
    """The events of a stream until its run has finished. Raises Lost."""
    parser = sse.Parser()
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
        why = ev.lost(data)
        if why is not None:
            raise Lost(why) from error
        if not isinstance(error, msgspec.ValidationError):
            raise Lost("the server sent something that is no event") from error
        return None
