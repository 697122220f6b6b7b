"""What both sides of `benchmarks.checkpoints` say, and how each of their processes is told to say it.

A turn is what a support agent has most: a question, a tool call, its result, an answer. A side is a process that
answers a line of JSON, a `Job`, with another, a `Done`; between jobs its event loop lives on, as a server's does.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import random
import sys
import time
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Protocol

import msgspec
import uvloop

TOOL = "search_tickets"
USED = (1200, 90, 1290)
"""Tokens of a model call: into it, out of it, both."""
MODEL_SECONDS = 0.002
"""The model's time for a call: while it takes it, a store may write."""
MESSAGES = 4
"""Kept of a turn."""

_WORDS = (
    "order",
    "refund",
    "parcel",
    "invoice",
    "address",
    "customer",
    "waits",
    "damaged",
    "card",
    "returned",
    "later",
)
_made = random.Random(7)


def _text(letters: int) -> str:
    said = ""
    while len(said) < letters:
        said += f"{_made.choice(_WORDS)}-{_made.randrange(1000)} "
    return said


QUESTIONS, RESULTS, ANSWERS = ([_text(letters) for _ in range(64)] for letters in (160, 1000, 500))
"""Of the length they have where such an agent is used; no two alike, or a store would make them small."""


class Job(msgspec.Struct):
    """That many sessions of so many turns each, some of them at once."""

    sessions: int
    turns: int
    at_once: int


class Done(msgspec.Struct):
    """What a job came to."""

    cpu: float
    """Seconds of this process, user and system, all its threads."""
    written: int
    """Bytes that it gave to `write`."""
    ms: list[float]
    """Of each turn."""
    kept: int
    """Messages that the store has of the last session."""


class Side(Protocol):
    """An agent that holds the conversation."""

    async def turn(self, session: str) -> str:
        """One turn of that session, of a new one where it is empty; its id."""

    async def kept(self, session: str) -> int:
        """How many messages are kept of it."""


class Script:
    """What is said next: each side counts for itself, and so says the same."""

    def __init__(self) -> None:
        self.said = 0

    def next(self, texts: list[str]) -> str:
        """Another one of them."""
        self.said += 1
        return texts[self.said % len(texts)]


async def held(side: Side, job: Job) -> Done:
    """Hold the conversations."""
    ms: list[float] = []
    last = ""

    async def client(sessions: int) -> None:
        nonlocal last
        for _ in range(sessions):
            session = ""
            for _ in range(job.turns):
                began = time.perf_counter()
                session = await side.turn(session)
                ms.append(1000 * (time.perf_counter() - began))
            last = session

    gc.collect()
    cpu, written = time.process_time(), _written()
    await asyncio.gather(*(client(job.sessions // job.at_once) for _ in range(job.at_once)))
    cpu, written = time.process_time() - cpu, _written() - written
    return Done(cpu, written, ms, await side.kept(last))


def _written() -> int:
    for line in Path("/proc/self/io").read_text().splitlines():
        if line.startswith("wchar:"):
            return int(line.split()[1])
    return 0


async def _serve(opened: AbstractAsyncContextManager[Side]) -> None:
    async with opened as side:
        while line := await asyncio.to_thread(sys.stdin.readline):
            done = await held(side, msgspec.json.decode(line, type=Job))
            print(msgspec.json.encode(done).decode(), flush=True)


def main(opened: Callable[[str, str], AbstractAsyncContextManager[Side]]) -> None:
    """Be a side's process: `KIND ADDRESS`, the store's; a file's address is the folder it is in."""
    kind, address = sys.argv[1:]
    with contextlib.suppress(KeyboardInterrupt):
        uvloop.run(_serve(opened(kind, address)))
