"""For a client, as long as it is there."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from typing import Any, TypeVar

from starlette.requests import ClientDisconnect
from starlette.types import Receive

T = TypeVar("T")


async def while_there(receive: Receive, asking: Awaitable[T]) -> T:
    """What is asked for; it is cancelled when the client leaves. Raises ClientDisconnect then.

    One task, which hears the client leave, and none for what is asked: this is on the way of every request.
    """
    asks: asyncio.Task[Any] = asyncio.current_task()  # type: ignore[assignment]  # there is one where something waits
    listens = asks.get_loop().create_task(_until_left(receive, asks), name="gateway-watch")
    try:
        return await asking
    except asyncio.CancelledError:
        if not listens.done() or asks.uncancel():
            raise  # the gateway is ending, not the client
        raise ClientDisconnect from None
    finally:
        listens.cancel()


async def _until_left(receive: Receive, asks: asyncio.Task[Any]) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
    asks.cancel()
