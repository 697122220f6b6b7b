"""What it takes to recall memories: the most alike of many, in a file, in PostgreSQL and in Milvus, embedding apart.

Each store is filled with the same vectors, which lie in clusters as texts do, of users by the hundred; and is searched
for the ten nearest, of all and of one user. Beside it stands the store's own time: the same search by numpy, by a bare
asyncpg connection, by Milvus's own client. What a search found is compared with what an exact comparison finds.
The Milvus is milvus-lite, which compares all one by one in Python: a search of many takes it seconds, and it is asked
fewer of them.
Run: `python -m benchmarks.recall [--memories N] [--searches N] [--stores sqlite,pgvector,milvus] [--out FOLDER]`.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import statistics
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any, NamedTuple

import uvloop

from benchmarks.machine import describe
from kadre.engine import arrays
from kadre.engine.vectors.port import Item, VectorStore

np = arrays.numpy()
DIMENSION = 384
CLUSTERS = 2000
USERS = 100
TOP = 10
BATCH = 1000
BOUND_MS = 20.0
LONGEST = 30.0
"""Seconds that one kind of search may take; a store that is slow is searched less often."""
LEAST = 10
"""But so often."""


class Figures(NamedTuple):
    """Milliseconds of one kind of search, and the share of what an exact comparison finds."""

    store: str
    what: str
    p50: float
    p95: float
    p99: float
    cpu: float
    """Of this process, a search: it does not move with what else the machine does."""
    own_p50: float
    """The store's own time."""
    above: float
    """What ours takes beside it: the median of searches, each compared with the same one beside it."""
    margin: float
    """By how much that may be off, as far as the searches tell: 1.57 times their middle half's width, by their root."""
    recall: float
    searches: int


class Memories:
    """The same ones each time."""

    def __init__(self, count: int, searches: int) -> None:
        made = np.random.default_rng(7)
        centres = made.standard_normal((CLUSTERS, DIMENSION), dtype=np.float32)
        spread = made.standard_normal((count, DIMENSION), dtype=np.float32) * np.float32(0.6)
        self.vectors = _normal(centres[made.integers(0, CLUSTERS, count)] + spread)
        around = made.standard_normal((searches, DIMENSION), dtype=np.float32) * np.float32(0.6)
        self.questions = _normal(centres[made.integers(0, CLUSTERS, searches)] + around)
        self.users = made.integers(0, USERS, count)

    def items(self) -> Iterator[list[Item]]:
        """In batches."""
        for start in range(0, len(self.vectors), BATCH):
            rows = range(start, min(start + BATCH, len(self.vectors)))
            yield [
                Item(f"m{row}", self.vectors[row].tolist(), f"memory {row}", {"user": f"u{self.users[row]}"})
                for row in rows
            ]

    def exact(self, question: Any, user: int | None) -> set[str]:
        """Ids of the nearest."""
        rows = np.arange(len(self.vectors)) if user is None else np.flatnonzero(self.users == user)
        scores = self.vectors[rows] @ question
        return {f"m{rows[row]}" for row in np.argsort(-scores)[:TOP]}


class Subject(NamedTuple):
    """A store, and the same search by what it is made of: `own(question, user)`. It is filled within `filling`."""

    store: VectorStore
    own: Callable[[list[float], int | None], Awaitable[object]]
    filling: Callable[[], AbstractAsyncContextManager[None]] = contextlib.nullcontext


def _normal(vectors: Any) -> Any:
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


@contextlib.asynccontextmanager
async def sqlite(memories: Memories) -> AsyncIterator[Subject]:
    """A file; its floor is the product alone."""
    from kadre.engine.vectors.sqlite import SqliteVectors

    async def own(question: list[float], user: int | None) -> object:
        wanted = np.asarray(question, dtype=np.float32)
        rows = memories.vectors if user is None else memories.vectors[memories.users == user]
        scores = rows @ wanted
        return np.argpartition(scores, -TOP)[-TOP:]

    with tempfile.TemporaryDirectory(prefix="kadre-bench-") as folder:
        store = SqliteVectors(Path(folder) / "memories.db", "memories")
        yield Subject(store, own)
        await store.aclose()


SERVER = "shared_buffers = 1GB\nmaintenance_work_mem = 1GB\ndynamic_shared_memory_type = mmap\n"
"""Of PostgreSQL: what is searched fits in its memory, and so does the index while it is built, which takes more than
containers have at /dev/shm."""


@contextlib.asynccontextmanager
async def pgvector(_: Memories) -> AsyncIterator[Subject]:
    """A PostgreSQL server of our own; its floor is the same statement on a bare connection."""
    import asyncpg

    from kadre.engine.vectors import pgvector as module
    from tests.support.postgres import Cluster, with_vectors

    with Cluster(programs_in=with_vectors(), settings=SERVER) as cluster:
        address = module.Address(dsn=cluster.dsn())
        store = module.PgVectors(lambda: address, "memories")
        bare = await asyncpg.connect(
            cluster.dsn(),
            server_settings={
                "hnsw.ef_search": str(module.FETCHED),
                "plan_cache_mode": "force_custom_plan",
                "jit": "off",
            },
        )
        await bare.execute("SET hnsw.iterative_scan = strict_order")

        async def own(question: list[float], user: int | None) -> object:
            text = f"[{','.join(map(repr, question))}]"
            user_filter = json.dumps({} if user is None else {"user": f"u{user}"})
            return await bare.fetch(
                "SELECT id, content, metadata FROM memories WHERE metadata @> $2::jsonb"
                " ORDER BY embedding <=> $1::text::vector LIMIT 10",
                text,
                user_filter,
            )

        @contextlib.asynccontextmanager
        async def filling() -> AsyncIterator[None]:
            """An index of all at once is the same as one that grows by rows, and takes minutes less."""
            name, made = await bare.fetchrow("SELECT indexname, indexdef FROM pg_indexes WHERE indexdef LIKE '%hnsw%'")
            await bare.execute(f"DROP INDEX {name}")
            yield
            await bare.execute(made)
            await bare.execute("VACUUM ANALYZE memories")

        yield Subject(store, own, filling)
        await bare.close()
        await store.aclose()


@contextlib.asynccontextmanager
async def milvus(_: Memories) -> AsyncIterator[Subject]:
    """A milvus-lite server of our own; its floor is its own client."""
    import pymilvus

    from kadre.engine.vectors import milvus as module
    from tests.support.milvus import Milvus

    with Milvus() as server:
        store = module.MilvusVectors(lambda: module.Address(uri=server.uri), "memories")
        client = pymilvus.MilvusClient(uri=server.uri)

        async def own(question: list[float], user: int | None) -> object:
            where = "" if user is None else f'metadata["user"] == "u{user}"'
            fields = ["text", "metadata"]
            return client.search("memories", [question], filter=where, limit=TOP, output_fields=fields)

        yield Subject(store, own)
        client.close()
        await store.aclose()


STORES = {"sqlite": sqlite, "pgvector": pgvector, "milvus": milvus}


async def measure(name: str, memories: Memories) -> tuple[float, list[Figures]]:
    """Seconds to fill it, and its searches."""
    async with STORES[name](memories) as subject:
        began = time.perf_counter()
        await subject.store.ensure(DIMENSION)
        async with subject.filling():
            for batch in memories.items():
                await subject.store.upsert(batch)
        filled = time.perf_counter() - began
        return filled, [await searched(name, subject, memories, of_one) for of_one in (False, True)]


async def searched(name: str, subject: Subject, memories: Memories, of_one: bool) -> Figures:
    """Ours and the store's own take turns in being first, so that both meet the same machine and the same caches."""
    ours, own, found, cpu = [], [], [], []
    until = time.perf_counter() + LONGEST
    for number, question in enumerate(memories.questions):
        if number > LEAST and time.perf_counter() > until:
            break
        user = number % USERS if of_one else None
        equal = {} if user is None else {"user": f"u{user}"}
        plain = question.tolist()
        if number % 2:
            own.append(await _timed(subject.own(plain, user)))
        spent, began = time.process_time(), time.perf_counter()
        hits = await subject.store.search(plain, TOP, equal)
        ours.append(1000 * (time.perf_counter() - began))
        cpu.append(1000 * (time.process_time() - spent))
        if not number % 2:
            own.append(await _timed(subject.own(plain, user)))
        found.append(len({hit.id for hit in hits} & memories.exact(question, user)) / TOP)
    del ours[0], own[0], cpu[0]  # the first loads what is searched
    cuts = statistics.quantiles(ours, n=100, method="inclusive")
    what = "of one user" if of_one else "of all"
    differences = [one - other for one, other in zip(ours, own, strict=True)]
    above = statistics.median(differences)
    lower, _, upper = statistics.quantiles(differences, n=4, method="inclusive")
    margin = 1.57 * (upper - lower) / len(differences) ** 0.5
    recall = statistics.fmean(found)
    middle = statistics.median
    return Figures(
        name, what, middle(ours), cuts[94], cuts[98], middle(cpu), middle(own), above, margin, recall, len(ours)
    )


async def _timed(search: Awaitable[object]) -> float:
    began = time.perf_counter()
    await search
    return 1000 * (time.perf_counter() - began)


def report(filled: dict[str, float], figures: list[Figures]) -> Iterator[str]:
    """A table, and what is asked of it."""
    header = "| store | search | searches | p50 ms | p95 ms | p99 ms | CPU ms here | the store's own p50 ms | recall"
    yield f"{header} | s to fill |"
    yield "|---|---|---:|---:|---:|---:|---:|---:|---:|---:|"
    for each in figures:
        times = f"{each.p50:.1f} | {each.p95:.1f} | {each.p99:.1f} | {each.cpu:.1f} | {each.own_p50:.1f}"
        what = f"{each.store} | {each.what} | {each.searches}"
        yield f"| {what} | {times} | {each.recall:.3f} | {filled[each.store]:.0f} |"
    yield ""
    for each in figures:
        if each.above <= BOUND_MS:
            kept = "kept"
        else:
            kept = "NOT KEPT" if each.above - each.margin > BOUND_MS else "not told: its own time moves more"
        beside = f"{each.above:+.1f} ms beside the store's own time, give or take {each.margin:.1f}"
        yield f"- {each.store}, {each.what}: {beside} (<= {BOUND_MS:g}: {kept})"


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.recall", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--memories", type=int, default=100_000)
    parser.add_argument("--searches", type=int, default=200)
    parser.add_argument("--stores", default="sqlite", help="of sqlite, pgvector and milvus (default: sqlite)")
    parser.add_argument("--out", type=Path, help="folder for the report and the raw figures (default: not kept)")
    given = parser.parse_args()
    machine = describe(Path(tempfile.gettempdir()))
    memories = Memories(given.memories, given.searches)
    filled: dict[str, float] = {}
    figures: list[Figures] = []
    for name in given.stores.split(","):
        filled[name], found = asyncio.Runner(loop_factory=uvloop.new_event_loop).run(measure(name, memories))
        figures += found
        print(*found, sep="\n", flush=True)
    told = "\n".join(report(filled, figures))
    print(told)
    if given.out:
        name = f"recall-{given.memories}-{machine['date'].partition(' ')[0]}"
        heading = "\n".join(
            f"- {key}: {value}" for key, value in machine.items() if key not in ("journals on", "cores")
        )
        (given.out / f"{name}.md").write_text(f"# Recall over {given.memories} memories\n\n{heading}\n\n{told}\n")
        raw = {"machine": machine, "seconds to fill": filled, "figures": [each._asdict() for each in figures]}
        (given.out / f"{name}.json").write_text(json.dumps(raw, indent=1) + "\n")


if __name__ == "__main__":
    main()
