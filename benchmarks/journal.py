"""What keeping a hello turn costs, in memory, in SQLite, in PostgreSQL and in Redis, side by side in one process.

A turn is what the host does: create with two events, read the history, append three. Both stores run the same turns at
concurrency 1 and 32; the figure is CPU of the whole process per turn, less that of the same turns with no journal.
Run: `python -m benchmarks.journal [--turns N] [--rounds N] [--postgres ADDRESS] [--redis ADDRESS]`.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import gc
import random
import resource
import statistics
import tempfile
import time
from collections.abc import AsyncIterator
from datetime import UTC, datetime

import uvloop

from kadre.base.ids import new_id
from kadre.engine import events as ev
from kadre.engine.memory.inmemory import InMemoryJournal
from kadre.engine.memory.port import Journal, NewRun
from kadre.engine.memory.sqlite import SqliteJournal
from kadre.engine.messages import Usage

AGENT = "default/assistant"
WORK_SECONDS = 0.00035
"""CPU a turn has beside its journal, about the floor's: what the writer thread competes with."""

MODEL_SECONDS = (0.001, 0.004)
"""How long the model takes to answer: what makes turns come to the journal one by one and not in step."""


def work(seconds: float = WORK_SECONDS) -> None:
    """Keep the interpreter busy for that long, as a turn's parsing and encoding does."""
    end = time.thread_time() + seconds
    while time.thread_time() < end:
        sum(range(200))


async def turn(journal: Journal | None, session_id: str) -> None:
    """One hello turn; without a journal, all but it."""
    run_id = new_id("run")
    now = datetime.now(UTC)
    first = (
        ev.RunStarted(run_id=run_id, session_id=session_id, seq=1, time=now, agent=AGENT, caller="local"),
        ev.UserMessage(run_id=run_id, session_id=session_id, seq=2, time=now, content="Please repeat: hello"),
    )
    last = (
        ev.AssistantMessage(run_id=run_id, session_id=session_id, seq=3, time=now, content="Hello to you too!"),
        ev.UsageEvent(run_id=run_id, session_id=session_id, seq=4, time=now, model="m", usage=Usage(12, 5, 17)),
        ev.RunFinished(run_id=run_id, session_id=session_id, seq=5, time=now, status="completed"),
    )
    new = NewRun(run_id=run_id, session_id=session_id, agent=AGENT, caller="local", fresh=True)
    if journal is None:
        work(WORK_SECONDS / 2)
        await asyncio.sleep(random.uniform(*MODEL_SECONDS))
        return work(WORK_SECONDS / 2)
    created = await journal.create(new, first)
    await journal.history(AGENT, session_id, created.run.order, 100)
    work(WORK_SECONDS / 2)
    await asyncio.sleep(random.uniform(*MODEL_SECONDS))
    work(WORK_SECONDS / 2)
    return await journal.append(run_id, 2, last, created.run.epoch)


async def measure(
    journal: Journal | None, turns: int, concurrency: int, per_session: int
) -> tuple[float, float, float]:
    """CPU microseconds per turn, median latency in milliseconds, turns per second."""
    latencies: list[float] = []

    async def client(count: int) -> None:
        for index in range(count):
            if index % per_session == 0:
                session_id = new_id("ses")
            start = time.perf_counter()
            await turn(journal, session_id)
            latencies.append(time.perf_counter() - start)

    gc.collect()
    cpu, wall = time.process_time(), time.perf_counter()
    await asyncio.gather(*(client(turns // concurrency) for _ in range(concurrency)))
    cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
    return cpu / turns * 1e6, statistics.median(latencies) * 1e3, turns / wall


@contextlib.asynccontextmanager
async def stores(dsn: str, redis: str) -> AsyncIterator[dict[str, Journal | None]]:
    """Each store by name, and none; a server where its address is given."""
    with tempfile.TemporaryDirectory(dir=".") as folder:
        sqlite = await SqliteJournal.open(folder)
        kept: dict[str, Journal | None] = {"none": None, "in memory": InMemoryJournal(), "sqlite": sqlite}
        if dsn:
            from kadre.engine.memory.postgres import PostgresJournal

            kept["postgres"] = await PostgresJournal.open(dsn, schema="kadre_bench")
        if redis:
            from kadre.engine.memory.redis import RedisJournal

            kept["redis"] = await RedisJournal.open(redis, prefix="kadre_bench:")
        yield kept
        for journal in kept.values():
            if journal is not None:
                await journal.aclose()


async def main(turns: int, rounds: int, dsn: str, redis: str) -> None:
    """Print the medians of all rounds; rounds take turns, so that a busy machine is busy for all."""
    async with stores(dsn, redis) as journals:
        for concurrency in (1, 32):
            for per_session in (1, 20):
                results: dict[str, list[tuple[float, float, float]]] = {name: [] for name in journals}
                for _ in range(rounds):
                    for name, journal in journals.items():
                        results[name].append(await measure(journal, turns, concurrency, per_session))
                floor = statistics.median(cpu for cpu, _, _ in results["none"])
                print(f"concurrency {concurrency}, {per_session} turns a session")
                for name, rows in results.items():
                    cpu, latency, rate = (statistics.median(column) for column in zip(*rows, strict=True))
                    print(
                        f"  {name:10} {cpu - floor:7.1f} us/turn more CPU   x {cpu / floor:4.2f}"
                        f"   p50 {latency:6.2f} ms   {rate:6.0f} turns/s"
                    )
    print(f"RSS {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:.0f} MB at most")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--turns", type=int, default=3200)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--postgres", default="", help="the address of a database to measure too")
    parser.add_argument("--redis", default="", help="the address of a Redis server to measure too")
    options = parser.parse_args()
    uvloop.run(main(options.turns, options.rounds, options.postgres, options.redis))
