"""The load generator: sends a bounded number of requests over keep-alive connections and times each answer.

A process of its own that reads one job a line and writes one result a line, both JSON, until its input ends. The client
is written on asyncio's transports: any HTTP client library would cost more than what is measured.
"""

from __future__ import annotations

import asyncio
import itertools
import sys
import time
from typing import cast

import httptools
import msgspec
import uvloop


class Shot(msgspec.Struct):
    """One request to send, complete, and the text without which its answer counts as lost."""

    data: str
    expect: str


class Job(msgspec.Struct, kw_only=True):
    """What to send: `shots` are cycled through until `turns` are done.

    `own`: each connection keeps to one shot and sends its equal part of the turns (a session has one turn at a time).
    `fresh`: connections are opened within the time that is measured, as in a burst of strangers.
    """

    port: int
    shots: list[Shot]
    turns: int
    concurrency: int
    own: bool = False
    fresh: bool = False
    timeout: float = 60.0
    """Seconds for the whole job; what has not answered by then is lost."""


class Outcome(msgspec.Struct):
    """Seconds each answered request took, what was lost and why the first one was, and seconds in all."""

    latencies: list[float]
    lost: int
    seconds: float
    first_loss: str = ""


class _Client(asyncio.Protocol):
    """One connection with one request at a time."""

    def __init__(self) -> None:
        self._waiter: asyncio.Future[None] | None = None
        self._body = bytearray()
        self._parser = httptools.HttpResponseParser(self)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop's are not of that class

    def connection_lost(self, exc: Exception | None) -> None:
        self._end(ConnectionError(f"closed by the server ({exc})"))

    def data_received(self, data: bytes) -> None:
        self._parser.feed_data(data)

    def on_body(self, body: bytes) -> None:
        self._body += body

    def on_message_complete(self) -> None:
        self._end(None)

    def _end(self, error: Exception | None) -> None:
        waiter, self._waiter = self._waiter, None
        if waiter is None or waiter.done():
            return
        if error is None:
            waiter.set_result(None)
        else:
            waiter.set_exception(error)

    async def send(self, data: bytes, expect: bytes) -> None:
        """Send and wait for the whole answer. Raises ConnectionError or ValueError where it is not the right one."""
        if self._transport.is_closing():
            raise ConnectionError("closed by the server between two turns")
        self._body.clear()
        self._parser = httptools.HttpResponseParser(self)
        self._waiter = asyncio.get_running_loop().create_future()
        self._transport.write(data)
        await self._waiter
        if self._parser.get_status_code() != 200 or expect not in self._body:
            raise ValueError(f"{self._parser.get_status_code()} {bytes(self._body[-300:])!r}")

    def close(self) -> None:
        self._transport.abort()


async def _connect(port: int) -> _Client:
    _, client = await asyncio.get_running_loop().create_connection(_Client, "127.0.0.1", port)
    return client


class _Run:
    """One job under way."""

    def __init__(self, job: Job) -> None:
        self._job = job
        shots = [(shot.data.encode(), shot.expect.encode()) for shot in job.shots]
        each = job.turns // job.concurrency
        shared = itertools.islice(itertools.cycle(shots), job.turns)
        self._queues = [
            itertools.repeat(shots[index % len(shots)], each) if job.own else shared for index in range(job.concurrency)
        ]
        self._turns = each * job.concurrency if job.own else job.turns
        self._latencies: list[float] = []
        self._first_loss = ""

    async def run(self) -> Outcome:
        """Send everything, or as much as the time allows."""
        job = self._job
        try:
            async with asyncio.timeout(job.timeout):
                clients = (
                    [] if job.fresh else await asyncio.gather(*(_connect(job.port) for _ in range(job.concurrency)))
                )
        except OSError as error:  # which a TimeoutError is, too
            return Outcome([], self._turns, job.timeout, f"cannot connect: {type(error).__name__} {error}")
        started = time.perf_counter()
        workers = [
            asyncio.create_task(self._work(index, clients[index] if clients else None))
            for index in range(job.concurrency)
        ]
        _, late = await asyncio.wait(workers, timeout=job.timeout)
        seconds = time.perf_counter() - started
        for worker in late:
            worker.cancel()
        if late:
            self._first_loss = self._first_loss or f"{len(late)} still waiting after {job.timeout:g} s"
            await asyncio.wait(late)
        return Outcome(self._latencies, self._turns - len(self._latencies), seconds, self._first_loss)

    async def _work(self, index: int, client: _Client | None) -> None:
        try:
            for data, expect in self._queues[index]:
                started = time.perf_counter()
                try:
                    client = client or await _connect(self._job.port)
                    await client.send(data, expect)
                except (OSError, ValueError) as error:
                    self._first_loss = self._first_loss or f"{type(error).__name__}: {error}"
                    if client:
                        client.close()
                    client = None
                else:
                    self._latencies.append(time.perf_counter() - started)
        finally:
            if client:
                client.close()


def main() -> None:
    """Answer jobs until there are none."""
    for line in sys.stdin.buffer:
        outcome = uvloop.run(_Run(msgspec.json.decode(line, type=Job)).run())
        sys.stdout.buffer.write(msgspec.json.encode(outcome) + b"\n")
        sys.stdout.buffer.flush()


if __name__ == "__main__":
    main()
