"""Stands between a client and an API server, and has happen to requests what happens on bad days."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import aiohttp
from aiohttp import web

from kadre.kube.access import Access

PASSED = ("Content-Type", "Accept")
_NO_END = aiohttp.ClientTimeout(total=None)


@dataclass
class Between:
    """Everything goes through until something is set here. Paths are parts of addresses, as `/services`."""

    to: Access
    session: aiohttp.ClientSession
    refused: dict[tuple[str, str], int | Iterator[int]] = field(default_factory=dict)
    """Status that is answered to a method at addresses that end so, in place of asking the server; or one after the
    other, until there is none any more."""
    refusals: int = 0
    """How often that has happened. Each says its number: no two are worded alike."""
    wait: str = ""
    """Retry-After of them."""
    before_answer: dict[tuple[str, str], Callable[[], Awaitable[None]]] = field(default_factory=dict)
    """What happens after the server has done what a method at an address that ends so wants, before that is told."""
    denied: set[str] = field(default_factory=set)
    """Resources to which the server says that we have no right, whatever we have."""
    watches: list[str] = field(default_factory=list)
    """Addresses of all watches that were begun."""
    brief: set[str] = field(default_factory=set)
    """Collections whose watches end at once, with no event."""
    holding: set[str] = field(default_factory=set)
    """Collections of which an event has been held."""
    _held: dict[str, asyncio.Future[str]] = field(default_factory=dict)

    def hold(self, collection: str) -> None:
        """Let no event of that collection through any more."""
        self._held[collection] = asyncio.get_running_loop().create_future()

    def release(self, collection: str) -> None:
        """Let through what was held, and what comes."""
        self._held.pop(collection).set_result("release")

    def expire(self, collection: str) -> None:
        """Lose what was held, and say that it is too long ago."""
        self._held.pop(collection).set_result("expire")

    async def answer(self, request: web.Request) -> web.StreamResponse:
        """One request."""
        for (method, end), given in self.refused.items():
            if request.method == method and request.path.endswith(end):
                status = given if isinstance(given, int) else next(given, 0)
                if not status:
                    continue
                self.refusals += 1
                message = f"{method} {request.path} is refused (request {self.refusals})"
                told = {"kind": "Status", "message": message, "code": status}
                return web.json_response(told, status=status, headers={"Retry-After": self.wait} if self.wait else {})
        if request.query.get("watch"):
            return await self._watched(request)
        if request.path.endswith("/selfsubjectaccessreviews"):
            review = await request.json()
            if review["spec"]["resourceAttributes"]["resource"] in self.denied:
                return web.json_response(review | {"status": {"allowed": False}})
        async with self._asked(request) as asked:
            body = await asked.read()
        for (method, end), happens in list(self.before_answer.items()):
            if request.method == method and request.path.endswith(end):
                await happens()
        return web.Response(status=asked.status, body=body, headers={"Content-Type": "application/json"})

    async def _watched(self, request: web.Request) -> web.StreamResponse:
        collection = request.path.rpartition("/")[2]
        self.watches.append(collection)
        response = web.StreamResponse(headers={"Content-Type": "application/json"})
        if collection in self.brief:
            await response.prepare(request)
            return response
        async with self._asked(request) as asked:
            if asked.status != web.HTTPOk.status_code:
                return web.Response(status=asked.status, body=await asked.read())
            await response.prepare(request)
            with contextlib.suppress(aiohttp.ClientError, ConnectionError):
                async for line in asked.content:
                    if collection in self._held and await self._verdict(collection) == "expire":
                        gone = {"type": "ERROR", "object": {"kind": "Status", "reason": "Expired", "code": 410}}
                        await response.write(json.dumps(gone).encode() + b"\n")
                        return response
                    await response.write(line)
        return response

    async def _verdict(self, collection: str) -> str:
        """What becomes of an event that is held."""
        self.holding.add(collection)
        return await self._held[collection]

    @asynccontextmanager
    async def _asked(self, request: web.Request) -> AsyncIterator[aiohttp.ClientResponse]:
        headers = {name: request.headers[name] for name in PASSED if name in request.headers} | self.to.headers()
        url, data = f"{self.to.server}{request.path_qs}", await request.read() or None
        try:
            async with self.session.request(request.method, url, data=data, headers=headers) as asked:
                try:
                    yield asked
                finally:
                    if asked.connection is not None and asked.connection.transport is not None:
                        asked.connection.transport.abort()  # of a watch: TLS would wait for a farewell
        except aiohttp.ClientConnectorError as error:
            raise web.HTTPBadGateway from error


@asynccontextmanager
async def between(to: Access) -> AsyncIterator[tuple[Between, Access]]:
    """Stand before that server; and how it is reached by this way."""
    connector = aiohttp.TCPConnector(ssl=to.tls or True, limit=0)
    session = aiohttp.ClientSession(connector=connector, read_bufsize=1 << 22, timeout=_NO_END)
    stands = Between(to, session)
    app = web.Application(client_max_size=1 << 22)
    app.router.add_route("*", "/{path:.*}", stands.answer)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    host, port = runner.addresses[0][:2]
    try:
        yield stands, Access(f"http://{host}:{port}", None, to.namespace)
    finally:
        await runner.cleanup()
        await connector.close(abort_ssl=True)
        await session.close()
