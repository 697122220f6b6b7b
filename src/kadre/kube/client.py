"""The API's verbs as the controller needs them, over aiohttp. Objects are plain JSON.

Ours and not a client library's: the loop needs seven verbs, and each library measured puts as much CPU again on top of
a request as the request costs (docs/design/0010).
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from http import HTTPStatus
from types import TracebackType
from typing import Any, Self, TypeVar
from urllib.parse import urlencode

import aiohttp
import msgspec
from yarl import URL

from kadre.base.errors import shorten
from kadre.kube.access import Access
from kadre.kube.errors import ApiError
from kadre.kube.kinds import Key, Kind, Object

T = TypeVar("T")

PAGE = 250
"""Objects in one page of a list."""
TIMEOUT = aiohttp.ClientTimeout(total=None, sock_connect=5.0, sock_read=30.0)
WATCH_SECONDS = 290
"""After which a watch is begun anew: below the minutes for which proxies keep a silent connection."""
# A little longer than the server has been told to hold it. In all, not between two reads: of those there are thousands,
# and each would set the timer anew.
_WATCHING = aiohttp.ClientTimeout(total=WATCH_SECONDS + 15.0, sock_connect=5.0)
METADATA_ONLY = "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1"
METADATA_LIST = "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1"
LINE = 4 << 20
"""Bytes of one watched event: more than the API server keeps of any object."""
MAX_CONNECTIONS = 64
NO_VERSION = str(2**63 - 1)
"""A version that no object will ever have."""
CLOSING = 0.05
"""Seconds in which the loop closes the connections that were cut: it does so in rounds of its own."""


class Event(msgspec.Struct):
    """One line of a watch."""

    type: str
    object: Object


class Part(msgspec.Struct):
    """Some of a list's objects, undecoded: as Python has them they take many times as much memory."""

    metadata: Object
    items: list[msgspec.Raw] | None = None

    @property
    def version(self) -> str:
        """Of the whole list, as every part of it says."""
        return str(self.metadata.get("resourceVersion", ""))

    def objects(self) -> Iterator[Object]:
        """One after the other."""
        return (_ANY.decode(raw) for raw in self.items or ())


@dataclass(frozen=True)
class Page:
    """A whole list, and the version from which a watch goes on."""

    items: list[Object]
    version: str


@dataclass(frozen=True)
class Scope:
    """Which objects of a kind: of one namespace or of all, those that a `selector` of labels chooses, whole or not."""

    namespace: str = ""
    selector: str = ""
    metadata_only: bool = False
    name: str = ""
    """Those of that name, in whatever namespace."""

    def query(self) -> dict[str, str]:
        """As the API wants it."""
        named = {"fieldSelector": f"metadata.name={self.name}"} if self.name else {}
        return named | ({"labelSelector": self.selector} if self.selector else {})

    def holds(self, key: Key) -> bool:
        """Whether an object that is kept of this kind is one of this scope's namespace."""
        return self.namespace in ("", key.namespace)


TOKEN_KEYS, KEY_SET = "/openid/v1/jwks", "application/jwk-set+json"
EVERYTHING = Scope()
ALL = ("",)
"""The namespaces of who is not confined to some."""
_EVENT = msgspec.json.Decoder(Event)
_ANY = msgspec.json.Decoder()
_KEYS: msgspec.json.Decoder[Object] = msgspec.json.Decoder(dict[str, Any])
_PART = msgspec.json.Decoder(Part)


class Client:
    """One API server."""

    def __init__(self, access: Access, manager: str) -> None:
        self._access = access
        self.manager = manager
        self._session: aiohttp.ClientSession | None = None
        self._connector: aiohttp.TCPConnector | None = None

    async def __aenter__(self) -> Self:
        self._connector = aiohttp.TCPConnector(limit=MAX_CONNECTIONS, ssl=self._access.tls or True)
        self._session = aiohttp.ClientSession(connector=self._connector, read_bufsize=1 << 18)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._session is not None and self._connector is not None:
            await self._connector.close(abort_ssl=True)  # the farewell of a connection may take seconds
            await self._session.close()
            await asyncio.sleep(CLOSING)

    async def get(self, kind: Kind, namespace: str, name: str) -> Object:
        """One object."""
        return await self._json("GET", kind.path(namespace, name))

    async def find(self, kind: Kind, key: Key) -> Object | None:
        """One object; None where there is none."""
        try:
            return await self.get(kind, *key)
        except ApiError as error:
            if error.missing:
                return None
            raise

    async def create(self, kind: Kind, obj: Object) -> Object:
        """Make an object; a conflict where there is one of that name."""
        path = kind.path(obj["metadata"].get("namespace", ""))
        return await self._json("POST", path, obj, {"fieldManager": self.manager})

    async def replace(self, kind: Kind, obj: Object) -> Object:
        """Put this object in the place of the one of that name and version; a conflict where it is another version."""
        metadata = obj["metadata"]
        path = kind.path(metadata.get("namespace", ""), metadata["name"])
        return await self._json("PUT", path, obj, {"fieldManager": self.manager})

    async def apply(self, kind: Kind, obj: Object, part: str = "", manager: str = "") -> Object:
        """Server-side apply of our fields, taking them from whoever else has them. `part`: as in status.

        `manager`: whose fields they are, where not this client's.
        """
        metadata = obj["metadata"]
        path = kind.path(metadata.get("namespace", ""), metadata["name"], part)
        how = {"fieldManager": manager or self.manager, "force": "true"}
        return await self._json("PATCH", path, obj, how, "application/apply-patch+yaml")

    async def merge(self, kind: Kind, key: Key, change: Object) -> Object:
        """Merge a change into an object (RFC 7386); a conflict where it names a version that is not the latest."""
        path, how = kind.path(*key), {"fieldManager": self.manager}
        return await self._json("PATCH", path, change, how, "application/merge-patch+json")

    async def apply_new(self, kind: Kind, obj: Object) -> Object:
        """Server-side apply of an object that is not there; a conflict where there is one of that name.

        An object that is there is compared by its version, which is never the one we give.
        """
        return await self.apply(kind, {**obj, "metadata": {**obj["metadata"], "resourceVersion": NO_VERSION}})

    async def delete(self, kind: Kind, namespace: str, name: str, uid: str = "") -> None:
        """Delete an object, with what it owns; nothing where it is gone. `uid`: only if it is still that one."""
        options: Object = {"propagationPolicy": "Background"}
        if uid:
            options["preconditions"] = {"uid": uid}
        try:
            await self._json("DELETE", kind.path(namespace, name), options)
        except ApiError as error:
            if not error.missing:
                raise

    async def serves(self, kind: Kind) -> bool:
        """Whether the cluster has a kind's API, at its version."""
        try:
            await self._json("GET", kind.path().rpartition("/")[0])
        except ApiError as error:
            if error.missing:
                return False
            raise
        return True

    async def list(self, kind: Kind, scope: Scope = EVERYTHING) -> Page:
        """Every object in scope."""
        items: list[Object] = []
        version = ""
        async for part in self.parts(kind, scope):
            items += part.objects()
            version = part.version
        return Page(items, version)

    async def parts(self, kind: Kind, scope: Scope = EVERYTHING) -> AsyncIterator[Part]:
        """Every object in scope, part by part: all that a cluster has at once may be more than there is memory for."""
        query = {"limit": str(PAGE), **scope.query()}
        accept = METADATA_LIST if scope.metadata_only else "application/json"
        while True:
            part = await self._answered("GET", kind.path(scope.namespace), _PART, query=query, accept=accept)
            yield part
            if not part.metadata.get("continue"):
                return
            query["continue"] = part.metadata["continue"]

    async def watch(self, kind: Kind, version: str, scope: Scope = EVERYTHING) -> AsyncGenerator[Event, None]:
        """What happens from that version on, until the server ends it. Raises ApiError, `expired` for too long ago."""
        query = {
            "watch": "true",
            "resourceVersion": version,
            "allowWatchBookmarks": "true",
            "timeoutSeconds": str(WATCH_SECONDS),
            **scope.query(),
        }
        accept = METADATA_ONLY if scope.metadata_only else "application/json"
        try:
            async with self._request("GET", kind.path(scope.namespace), query, accept, timeout=_WATCHING) as response:
                await _check(response)
                try:
                    async for line in _lines(response):
                        event = _EVENT.decode(line)
                        if event.type == "ERROR":
                            raise _told(int(event.object.get("code") or 0), event.object, None)
                        yield event
                finally:
                    _cut(response)
        except (aiohttp.ClientError, TimeoutError, OSError, msgspec.DecodeError) as error:
            raise ApiError(0, "Unreachable", _unreachable(self._access.server, error)) from error

    async def ask(self, path: str, body: Object | None = None) -> Object:
        """A GET of any other address, or a POST of `body` to it."""
        return await self._json("POST" if body is not None else "GET", path, body)

    async def token_keys(self) -> Object:
        """The public keys by which the cluster signs the tokens of pods, as a JSON Web Key Set (RFC 7517)."""
        keys: Object = await self._answered("GET", TOKEN_KEYS, _KEYS, accept=f"{KEY_SET}, application/json")
        return keys

    async def _json(
        self,
        method: str,
        path: str,
        body: Object | None = None,
        query: Mapping[str, str] | None = None,
        content: str = "application/json",
    ) -> Object:
        found: Any = await self._answered(method, path, _ANY, body=body, query=query, content=content)
        return found if isinstance(found, dict) else {}

    async def _answered(
        self,
        method: str,
        path: str,
        answer: msgspec.json.Decoder[T],
        *,
        body: Object | None = None,
        query: Mapping[str, str] | None = None,
        content: str = "application/json",
        accept: str = "application/json",
    ) -> T:
        data = msgspec.json.encode(body) if body is not None else None
        headers = {"Content-Type": content} if data is not None else {}
        try:
            async with self._request(method, path, query or {}, accept, data=data, headers=headers) as response:
                await _check(response)
                return answer.decode(await response.read())
        except (aiohttp.ClientError, TimeoutError, OSError, msgspec.DecodeError) as error:
            raise ApiError(0, "Unreachable", _unreachable(self._access.server, error)) from error

    def _request(
        self,
        method: str,
        path: str,
        query: Mapping[str, str],
        accept: str,
        *,
        data: bytes | None = None,
        headers: Mapping[str, str] | None = None,
        timeout: aiohttp.ClientTimeout = TIMEOUT,
    ) -> Any:
        if self._session is None:
            raise RuntimeError("a Client is entered before it is used")
        said = {"Accept": accept, **(headers or {}), **self._access.headers()}
        # Names are safe in an address as they are, and taking it apart costs a tenth of a request.
        url = URL(f"{self._access.server}{path}?{_encoded(*query.items())}", encoded=True)
        return self._session.request(method, url, data=data, headers=said, timeout=timeout)


@lru_cache(maxsize=64)
def _encoded(*query: tuple[str, str]) -> str:
    """A query as an address has it. Most requests have one of very few."""
    return urlencode(query)


async def _lines(response: aiohttp.ClientResponse) -> AsyncIterator[bytes]:
    rest = bytearray()
    async for chunk in response.content.iter_any():
        rest += chunk
        *whole, last = rest.split(b"\n")
        for line in whole:
            yield bytes(line)
        rest = last
        if len(rest) > LINE:
            raise ApiError(0, "TooLarge", f"an event of more than {LINE} bytes")


def _cut(response: aiohttp.ClientResponse) -> None:
    """Close the connection of an answer that would go on, without the farewell for which TLS waits."""
    if response.connection is not None and response.connection.transport is not None:
        response.connection.transport.abort()


async def _check(response: aiohttp.ClientResponse) -> None:
    if response.status < HTTPStatus.BAD_REQUEST:
        return
    try:
        status = _ANY.decode(await response.read())
    except msgspec.DecodeError:
        status = {}
    after = response.headers.get("Retry-After", "")
    raise _told(response.status, status if isinstance(status, dict) else {}, float(after) if after.isdigit() else None)


def _told(code: int, status: Object, after: float | None) -> ApiError:
    message = shorten(str(status.get("message") or f"HTTP {code}"), 500)
    return ApiError(code, str(status.get("reason") or ""), message, after)


def _unreachable(server: str, error: BaseException) -> str:
    if isinstance(error, asyncio.TimeoutError):
        return f"the API server {server} does not answer in time"
    return f"the API server {server} cannot be reached: {shorten(str(error), 200)}"
