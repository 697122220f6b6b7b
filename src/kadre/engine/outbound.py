"""HTTP to where somebody else says: each connection goes to an address that was judged, and to no other.

A name is resolved once for a connection and what it resolved to is connected to, so that no name can mean another
address by then. A session keeps its connections for those who have the same judge.
"""

from __future__ import annotations

import socket
from collections.abc import Sequence

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult

from kadre.base import addresses
from kadre.engine import http_client


class NotCalled(OSError):
    """The address is none that is called."""


class Checked(AbstractResolver):
    """Resolves names to addresses that are called, and to no other. `inner`: where it asks, else the machine's own."""

    def __init__(self, judge: addresses.Judge, inner: AbstractResolver | None = None) -> None:
        self._judge = judge
        self._inner = inner or aiohttp.ThreadedResolver()

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        """See aiohttp. Raises NotCalled where one of its addresses is none that is called."""
        found = await self._inner.resolve(host, port, family)
        if not all(self._judge.allows(each["host"]) for each in found):
            raise NotCalled(f"{host} is at an address that may not be called")
        return found

    async def close(self) -> None:
        """See aiohttp."""
        await self._inner.close()


def check_literal(host: str, judge: addresses.Judge) -> None:
    """Raise NotCalled for a host that is an address by itself, which no resolver sees, and none that is called."""
    if addresses.is_literal(host) and not judge.allows(host):
        raise NotCalled(f"{host} is an address that may not be called")


async def check(host: str, judge: addresses.Judge) -> None:
    """Raise OSError where the host has no address now, and NotCalled where it has one that is not called."""
    check_literal(host, judge)
    if not addresses.is_literal(host):
        await Checked(judge).resolve(host, family=socket.AF_UNSPEC)


def session(
    judge: addresses.Judge,
    inner: AbstractResolver | None = None,
    *,
    limit: int = 0,
    traces: Sequence[aiohttp.TraceConfig] = (),
) -> aiohttp.ClientSession:
    """For calls to what the judge allows. It keeps no cookies, unpacks nothing, and sends nothing twice by itself.

    A host that is an address by itself is for whoever calls to check: see `check_literal`. `limit`: connections.
    """
    connector = aiohttp.TCPConnector(limit=limit, resolver=Checked(judge, inner), use_dns_cache=False)
    made = aiohttp.ClientSession(
        connector=connector,
        request_class=http_client.Request,
        cookie_jar=aiohttp.DummyCookieJar(),
        auto_decompress=False,
        trace_configs=list(traces),
    )
    # It would send a GET, PUT or DELETE a second time where the connection was lost after the first: not ours to do.
    made._retry_connection = False  # noqa: SLF001 - there is no public way
    return made
