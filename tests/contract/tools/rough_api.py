"""A REST API that does what a test says, down to its bytes; and what it was asked."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import NamedTuple

import msgspec

from kadre.base.clock import SystemClock


class Asked(NamedTuple):
    """A request as it came."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes


Answering = Callable[[Asked, asyncio.StreamWriter], Awaitable[None]]


class RoughApi:
    """Answers each request with the next of `answers`, then with the last one again."""

    def __init__(self, *answers: bytes | Answering) -> None:
        self.answers = list(answers)
        self.asked: list[Asked] = []
        self.port = 0
        self.serving: list[asyncio.Task[None]] = []

    @property
    def url(self) -> str:
        """Where it is."""
        return f"http://127.0.0.1:{self.port}"

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection."""
        task = asyncio.current_task()
        assert task is not None
        self.serving.append(task)
        try:
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
                method, path, _ = head[0].split(" ", 2)
                headers = {
                    name.lower(): value.strip() for name, _, value in (line.partition(":") for line in head[1:] if line)
                }
                body = await reader.readexactly(int(headers.get("content-length", 0)))
                asked = Asked(method, path, headers, body)
                self.asked.append(asked)
                answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
                if isinstance(answer, bytes):
                    writer.write(answer)
                else:
                    await answer(asked, writer)
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()


@asynccontextmanager
async def rough(*answers: bytes | Answering, port: int = 0) -> AsyncIterator[RoughApi]:
    """Serve it."""
    api = RoughApi(*answers)
    server = await asyncio.start_server(api.serve, "127.0.0.1", port)
    api.port = server.sockets[0].getsockname()[1]
    try:
        yield api
    finally:
        server.close()
        for task in api.serving:
            task.cancel()
        await asyncio.gather(*api.serving, return_exceptions=True)


def answer(status: int = 200, body: object = None, kind: str = "application/json", **headers: str) -> bytes:
    """An answer: `body` as JSON, or the bytes that it is."""
    data = body if isinstance(body, bytes) else b"" if body is None else msgspec.json.encode(body)
    fields = {"Content-Type": kind, "Content-Length": str(len(data))} | {
        name.replace("_", "-"): value for name, value in headers.items()
    }
    head = "".join(f"{name}: {value}\r\n" for name, value in fields.items())
    return f"HTTP/1.1 {status} Reason\r\n{head}\r\n".encode() + data


async def breaks_off(asked: Asked, writer: asyncio.StreamWriter) -> None:
    """The connection ends without an answer."""
    writer.transport.abort()


async def never(asked: Asked, writer: asyncio.StreamWriter) -> None:
    """No answer at all."""
    await asyncio.Event().wait()


async def dribbles(asked: Asked, writer: asyncio.StreamWriter) -> None:
    """An answer a byte at a time."""
    for number in range(1000):
        writer.write(answer(200, b"x" * 1000)[number : number + 1])
        await writer.drain()
        await SystemClock().sleep(0.02)
