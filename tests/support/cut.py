"""A way to a server's socket that can be cut at the worst moment: when the server has done what it was asked."""

from __future__ import annotations

import asyncio
import contextlib
import tempfile
from pathlib import Path
from types import TracebackType
from typing import Self


class Cut:
    """Passes everything on, in a folder of its own; `next_answer_to` arms it. `shut`: it lets nobody through."""

    def __init__(self, behind: Path) -> None:
        self._behind = behind
        self._word = self._kept = b""
        self._then_shut = False
        self.cuts = 0
        self._closed = asyncio.Event()
        self.shut = False

    async def __aenter__(self) -> Self:
        self._folder = tempfile.TemporaryDirectory(prefix="kadre-cut-")
        self._tasks: set[asyncio.Task[None]] = set()
        self._server = await asyncio.start_unix_server(self._serve, self.socket)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._folder.cleanup()

    @property
    def socket(self) -> Path:
        """The one that leads through here, of the same name."""
        return Path(self._folder.name) / self._behind.name

    def next_answer_to(self, word: bytes, *, then_shut: bool = False) -> None:
        """Let the next question with that value in it reach the server, and its answer nobody."""
        self._word = word
        self._then_shut = then_shut

    def next_question_with(self, word: bytes) -> None:
        """Let the next question with that value in it reach nobody, and shut the way."""
        self._kept = word

    def hang_up(self) -> None:
        """Cut everybody off and let nobody through; what the server is still at nobody hears of."""
        self.shut = True
        for task in self._tasks:
            task.cancel()

    async def until_shut(self, seconds: float = 20) -> None:
        """Wait until the answer that was armed has come, and the way is shut."""
        async with asyncio.timeout(seconds):
            await self._closed.wait()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        if self.shut:
            writer.close()
            return
        server_reader, server_writer = await asyncio.open_unix_connection(self._behind)
        doomed = asyncio.Event()
        back = asyncio.ensure_future(self._answers(server_reader, writer, doomed))
        try:
            while data := await reader.read(65536):
                if self._kept and self._kept in data:
                    self._closed.set()
                    self.hang_up()
                    return
                if self._word and self._word in data:
                    self._word = b""
                    doomed.set()
                server_writer.write(data)
        except (ConnectionError, asyncio.CancelledError):
            pass
        finally:
            back.cancel()
            for side in (writer, server_writer):
                side.close()
                with contextlib.suppress(ConnectionError, asyncio.CancelledError):
                    await side.wait_closed()

    async def _answers(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, doomed: asyncio.Event) -> None:
        while data := await reader.read(65536):
            if doomed.is_set():
                self.cuts += 1
                self.shut = self._then_shut
                self._closed.set()
                break
            writer.write(data)
        writer.close()
