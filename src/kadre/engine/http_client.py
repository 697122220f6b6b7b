"""What aiohttp leaves to those who use it, for calls to models and to MCP servers alike.

A server that speaks without having been asked would have its words taken for the answer to the next request on that
connection; and a body that breaks off in a malformed chunk would be waited for without end.
"""

from __future__ import annotations

import asyncio
from typing import Any

import aiohttp


class Stale(aiohttp.ClientError):
    """The connection was unusable before anything was sent on it: the same request may go out on another one."""


class Request(aiohttp.ClientRequest):
    """A request that goes out only on a connection on which nothing has been heard since the last answer."""

    async def send(self, conn: Any) -> aiohttp.ClientResponse:
        """See aiohttp. Raises Stale."""
        # The loop looks at its sockets between two rounds: what has come, or a close, is known after that.
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        if conn.protocol is None or conn.protocol.should_close:
            raise Stale("the server spoke without being asked, or closed the connection")
        return await super().send(conn)


def session() -> aiohttp.ClientSession:
    """For calls to models: as many connections as there are calls, which other bounds limit."""
    return aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0), request_class=Request)


def mind_end(response: aiohttp.ClientResponse) -> None:
    """Let whoever reads the body hear of the connection's end: aiohttp keeps it to itself after a malformed part."""
    connection = response.connection
    if connection is None:  # the body is there already
        return

    def ended(closed: asyncio.Future[Any] | None = None) -> None:
        if closed is not None and not closed.cancelled():
            closed.exception()  # or the loop would complain that nobody has asked for it
        if not response.content.is_eof() and response.content.exception() is None:
            response.content.set_exception(aiohttp.ClientPayloadError("the answer breaks off"))

    closed = connection.protocol.closed if connection.protocol is not None else None
    if closed is None:
        ended()
    else:
        closed.add_done_callback(ended)
