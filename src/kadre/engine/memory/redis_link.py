"""One connection to a Redis server: what many ask goes out in one stream, and is answered in its order.

What is asked for in one turn of the event loop is sent in one piece: the busier the process, the more appends the
server takes, and flushes to its disk, at once. No timer and no setting. Knows nothing of journals.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections import deque
from collections.abc import Callable
from typing import Any, NamedTuple, cast

from kadre.base import errors
from kadre.base.problems import Problem

try:
    import hiredis
except ImportError as missing:
    fix = "pip install 'kadre[redis]'"
    raise errors.ProblemError(
        [Problem("StoreLibraryMissing", "a Redis journal needs the extra `redis`", fix=fix)]
    ) from missing

ANSWER_SECONDS = 15.0
"""After which nobody waits for the server any more: it, or the way to it, is stuck."""
Hears = Callable[[bytes, bytes], None]
"""What is told of a message: its channel and the message."""


class Refusal(Exception):
    """The server's own words for why it does not do it. `code`: the first of them, as in WRONGPASS."""

    def __init__(self, said: str) -> None:
        super().__init__(said)
        self.code = said.partition(" ")[0]


class Lost(ConnectionError):
    """The connection is gone: what was asked may have been done or not."""


class Script(NamedTuple):
    """What the server does in one piece, in Lua, and the name that it has for it."""

    text: str
    name: str

    @classmethod
    def of(cls, text: str) -> Script:
        """That script."""
        return cls(text, hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest())


class Link(asyncio.Protocol):
    """A connection. `names`: what the journal's keys begin with, and its channels."""

    def __init__(self, names: tuple[str, str]) -> None:
        self._names = names
        self.prefix = names[0]
        self._reader = hiredis.Reader()
        self._transport: asyncio.Transport | None = None
        self._waiting: deque[asyncio.Future[Any]] = deque()
        self._out: list[bytes] = []
        self._room = asyncio.Event()
        self._room.set()
        self._loop = asyncio.get_running_loop()
        self._hears: Hears | None = None
        self._unconfirmed = 0
        self._when_gone: Callable[[], None] | None = None
        self.gone = asyncio.Event()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """See asyncio.Protocol."""
        self._transport = cast("asyncio.Transport", transport)

    def connection_lost(self, error: Exception | None) -> None:
        """See asyncio.Protocol."""
        self._end(error)

    def pause_writing(self) -> None:
        """See asyncio.Protocol."""
        self._room.clear()

    def resume_writing(self) -> None:
        """See asyncio.Protocol."""
        self._room.set()

    def data_received(self, data: bytes) -> None:
        """See asyncio.Protocol."""
        try:
            self._reader.feed(data)
            while (reply := self._reader.gets()) is not False:
                if type(reply) is hiredis.PushNotification:
                    self._pushed(reply)
                elif self._waiting:
                    _answer(self._waiting.popleft(), reply)
        except hiredis.ProtocolError as error:  # whoever answers, it is no Redis server
            self.cut(error)

    def _pushed(self, told: list[Any]) -> None:
        if told[0] == b"message":
            if self._hears is not None:
                self._hears(told[1], told[2])
        elif told[0] == b"subscribe" and self._unconfirmed:
            self._unconfirmed -= 1
            if not self._unconfirmed:
                _answer(self._waiting.popleft(), None)

    async def ask(self, *words: str | bytes | int) -> Any:
        """The server's answer. Raises Refusal, Lost, TimeoutError, and UnicodeEncodeError for a text that is none."""
        packed = hiredis.pack_command(words)  # type: ignore[arg-type]  # its stub says one word; it takes any number
        if not self._room.is_set():
            async with asyncio.timeout(ANSWER_SECONDS):
                await self._room.wait()
        if self.gone.is_set():
            raise Lost("the connection is gone")
        if not self._out:
            self._loop.call_soon(self._send)
        self._out.append(packed)
        answer = self._loop.create_future()
        self._waiting.append(answer)
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                return await answer
        except TimeoutError:
            self.cut()
            raise

    def _send(self) -> None:
        out, self._out = self._out, []
        if self._transport is not None and not self.gone.is_set():
            self._transport.write(b"".join(out))

    async def run(self, script: Script, *args: str | bytes | int) -> Any:
        """What the script returns. One that the server does not know (any more) is sent whole; it then does."""
        try:
            return await self.ask("EVALSHA", script.name, 2, *self._names, *args)
        except Refusal as refusal:
            if refusal.code != "NOSCRIPT":
                raise
        return await self.ask("EVAL", script.text, 2, *self._names, *args)

    async def listen(self, hears: Hears, *channels: str) -> None:
        """Hear what is told there; of channels that begin with this journal's name. Asked while nothing else is."""
        self._hears = hears
        self._unconfirmed = len(channels)
        await self.ask("SUBSCRIBE", *(self._names[1] + channel for channel in channels))

    def when_gone(self, call: Callable[[], None]) -> None:
        """Have it called when the connection is gone."""
        self._when_gone = call
        if self.gone.is_set():
            call()

    def cut(self, error: Exception | None = None) -> None:
        """Hang up at once."""
        self._end(error)
        if self._transport is not None:
            self._transport.abort()

    def _end(self, error: Exception | None) -> None:
        if self.gone.is_set():
            return
        self.gone.set()
        self._room.set()
        for answer in self._waiting:
            if not answer.done():
                lost = Lost("the connection was lost")
                lost.__cause__ = error
                answer.set_exception(lost)
        self._waiting.clear()
        if self._when_gone is not None:
            self._when_gone()


def _answer(waiting: asyncio.Future[Any], reply: Any) -> None:
    if waiting.done():  # nobody waits for it any more
        return
    if isinstance(reply, hiredis.ReplyError):
        waiting.set_exception(Refusal(str(reply)))
    else:
        waiting.set_result(reply)
