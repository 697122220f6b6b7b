"""A model that says what a model said before, whatever it is asked: for runs that were recorded."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncGenerator, Sequence

from kadre.base.errors import ModelError
from kadre.engine.models.port import Model, ModelRequest, Reply, TextDelta

_WORDS = re.compile(r"\S+\s*|\s+")


class ReplayModel:
    """Gives `replies` in their order, then fails with `last`."""

    def __init__(self, replies: Sequence[Reply], last: ModelError) -> None:
        self._replies = list(reversed(replies))
        self._last = last

    async def call(self, request: ModelRequest) -> AsyncGenerator[TextDelta | Reply, None]:
        """See `port.Model.call`."""
        if not self._replies:
            raise self._last
        reply = self._replies.pop()
        for word in _WORDS.findall(reply.message.content) if request.stream else ():
            yield TextDelta(word)
            await asyncio.sleep(0)  # as from a network
        yield reply

    async def aclose(self) -> None:
        """Nothing to give back."""


class Overheard:
    """A model whose requests are kept, in their order."""

    def __init__(self, inner: Model) -> None:
        self.requests: list[ModelRequest] = []
        self._inner = inner

    def call(self, request: ModelRequest) -> AsyncGenerator[TextDelta | Reply, None]:
        """See `port.Model.call`."""
        self.requests.append(request)
        return self._inner.call(request)

    async def aclose(self) -> None:
        """See `port.Model.aclose`."""
        await self._inner.aclose()
