"""The measurements: each starts what it needs, drives it with the load generator, and notes what it saw.

Systems take turns within a round, in an order that moves on with the round, so that what disturbs the machine disturbs
all of them.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

from benchmarks import processes, results
from benchmarks.load import Job, Outcome, Shot
from benchmarks.processes import Process
from benchmarks.scenarios import Scenario
from benchmarks.systems import System, World
from benchmarks.systems.kadre import Kadre

STATS = Shot("GET /stats HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n", "calls")
CHECK_TURNS = 20
MAX_TURNS = 20_000
SLICES = 12
"""Parts in which a cell is driven, at most."""
SLICE_TURNS = 8
"""Turns of each connection in a slice, at least: connecting is part of a slice."""
RATE_SECONDS = 0.25
"""How long a warm system is driven to find how many turns fit into a cell."""
Sizes = dict[tuple[str, str], float]
"""Turns a second by system and scenario."""
SESSIONS_TIMEOUT = 300.0
"""Seconds in which tens of thousands of turns are done on a busy machine, too."""


def say(text: str) -> None:
    """Tell whoever waits; the report alone goes to stdout."""
    print(text, file=sys.stderr, flush=True)


class _Driven:
    """What came of a cell's slices."""

    def __init__(self) -> None:
        self._all = Outcome([], 0, 0.0)
        self._cpu = 0.0

    @property
    def seconds(self) -> float:
        """How long it was driven."""
        return self._all.seconds

    def add(self, outcome: Outcome, cpu: float) -> None:
        """One slice more, and the seconds of CPU it took."""
        self._all.latencies += outcome.latencies
        self._all.lost += outcome.lost
        self._all.seconds += outcome.seconds
        self._all.first_loss = self._all.first_loss or outcome.first_loss
        self._cpu += cpu

    def cell(self, system: str, scenario: str, concurrency: int, turn: int) -> results.Cell:
        """All slices as one figure."""
        answered = len(self._all.latencies)
        return results.Cell(
            system=system,
            scenario=scenario,
            concurrency=concurrency,
            round=turn,
            turns=answered,
            lost=self._all.lost,
            cpu_ms=1000 * self._cpu / max(answered, 1),
            p50_ms=results.percentile(self._all, 0.5),
            p99_ms=results.percentile(self._all, 0.99),
            rate=answered / self._all.seconds,
            first_loss=self._all.first_loss,
        )


class Bench:
    """One run: the mock model, the MCP server and the load generator, and the servers that are up now."""

    def __init__(self, stack: ExitStack, effort: results.Effort, found: results.Results) -> None:
        """Start what every measurement needs; `stack` ends it."""
        self._stack = stack
        self._effort = effort
        self._found = found
        self._server_cpus, self._other_cpus = processes.cores()
        self._folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="bench-")))
        self._folders = 0
        self._loader = processes.Loader(self._other_cpus)
        stack.callback(self._loader.stop)
        self._model_port = self._helper("mock_model")
        self._mcp_port = self._helper("echo_mcp")
        self._servers: dict[tuple[str, str], Process | RuntimeError] = {}

    def _helper(self, name: str) -> int:
        port = processes.free_port()
        launch = processes.module(name, "--port", str(port))
        helper = Process(launch, port, self._new_folder(), self._other_cpus)
        self._stack.callback(helper.stop)
        helper.wait_until_open()
        return port

    def _new_folder(self) -> Path:
        self._folders += 1
        folder = self._folder / str(self._folders)
        folder.mkdir()
        return folder

    def _start(self, system: System, process: str, cpus: set[int] | None = None) -> Process:
        folder, port = self._new_folder(), processes.free_port()
        model, mcp = (f"http://127.0.0.1:{port}" for port in (self._model_port, self._mcp_port))
        launch = system.launch(process, port, World(f"{model}/v1", f"{mcp}/mcp", folder))
        return Process(launch, port, folder, cpus or self._server_cpus)

    @contextmanager
    def _noting(self, what: str) -> Iterator[None]:
        """A server that does not start is a note in the report, not the end of the run."""
        try:
            yield
        except RuntimeError as error:
            say(f"{what}: {error}")
            note = f"{what}: not measured, {str(error).splitlines()[0]}"
            if note not in self._found.notes:
                self._found.notes.append(note)

    @contextmanager
    def _started(self, system: System, process: str, first: Shot) -> Iterator[tuple[Process, float]]:
        """A server that has given its first answer, and the seconds from start to that."""
        server = self._start(system, process, os.sched_getaffinity(0))  # nobody starts a server on one core of several
        try:
            yield server, server.wait_for(first)
        finally:
            server.stop()

    def starts(self, systems: Sequence[System]) -> None:
        """Start to first answer, and memory at rest after it: of hello processes, and of Kadre with an MCP server."""
        wanted = [(system, "hello") for system in systems]
        wanted += [(system, "mcp") for system in systems if isinstance(system, Kadre)]
        for turn in range(self._effort.smoke, self._effort.starts + 1):
            for system, scenario in wanted:
                with self._noting(f"{system.name}, start"):
                    start = self._timed_start(system, scenario)
                    if turn:
                        self._found.starts.append(start)
            say(f"start {turn}/{self._effort.starts}")

    def _timed_start(self, system: System, scenario: str) -> results.Start:
        process = system.process(scenario)
        with self._started(system, process, system.shot(scenario)) as (server, seconds):
            time.sleep(self._effort.settle)
            return results.Start(system=system.name, process=process, seconds=seconds, rss_mib=server.rss())

    def turns(self, systems: Sequence[System], scenarios: Sequence[Scenario]) -> None:
        """Every system, scenario and concurrency, in rounds."""
        sizes: Sizes = {}
        for system in systems:
            for scenario in scenarios:
                if scenario.name not in system.cannot:
                    with self._noting(f"{system.name}, {scenario.name}"):
                        sizes[system.name, scenario.name] = self._prepare(system, scenario)
            say(f"{system.name} is ready")
        for turn in range(1, self._effort.rounds + 1):
            order = [*systems[turn % len(systems) :], *systems[: turn % len(systems)]]
            for scenario in scenarios:
                ready = [system for system in order if (system.name, scenario.name) in sizes]
                for concurrency in self._effort.concurrency:
                    self._found.cells += self._line(ready, scenario, concurrency, turn, sizes)
            say(f"round {turn}/{self._effort.rounds}")

    def _server(self, system: System, scenario: str) -> Process:
        """The server for a scenario, started when it is first needed and kept to the end of the run."""
        key = (system.name, system.process(scenario))
        if key not in self._servers:
            server = self._start(system, key[1])
            self._stack.callback(server.stop)
            try:
                server.wait_for(system.shot(scenario, "first"))
            except RuntimeError as error:
                self._servers[key] = error  # not tried again: that may take as long each time
            else:
                self._servers[key] = server
        found = self._servers[key]
        if isinstance(found, RuntimeError):
            raise found
        return found

    def _prepare(self, system: System, scenario: Scenario) -> float:
        """Fill sessions, warm up, check that the work upstream is the scenario's, and find the turns a second."""
        server, most = self._server(system, scenario.name), max(self._effort.concurrency)
        if scenario.name == "history" and system.earlier_turns:
            self._drive(server, system, scenario, most, most * system.earlier_turns)
        warm = self._drive(server, system, scenario, min(32, most), 64)
        before = self._stats()
        checked = self._drive(server, system, scenario, 1, CHECK_TURNS)
        after = self._stats()
        asked = {key: (after[key] - before[key]) / CHECK_TURNS for key in after}
        streamed = scenario.model_calls if scenario.streamed else 0
        expected = {"calls": scenario.model_calls, "streamed": streamed, "messages": scenario.messages}
        where = f"{system.name}, {scenario.name}"
        if asked != expected:
            self._found.notes.append(f"{where}: asks the model for {asked} a turn, where the scenario is {expected}.")
        if checked.lost:
            self._found.notes.append(f"{where}: lost {checked.lost} of {CHECK_TURNS} turns: {checked.first_loss}")
        rate = len(warm.latencies) / warm.seconds
        again = self._drive(server, system, scenario, min(32, most), max(64, int(rate * RATE_SECONDS)))
        return len(again.latencies) / again.seconds

    def _stats(self) -> dict[str, int]:
        _, body = processes.ask(self._model_port, STATS)
        stats: dict[str, int] = json.loads(body)
        return stats

    def _drive(self, server: Process, system: System, scenario: Scenario, concurrency: int, turns: int) -> Outcome:
        sessions = [f"s{index}" for index in range(concurrency)] if scenario.name == "history" else [""]
        shots = [system.shot(scenario.name, session) for session in sessions]
        own = len(shots) > 1
        return self._loader.run(Job(port=server.port, shots=shots, turns=turns, concurrency=concurrency, own=own))

    def _line(
        self, systems: Sequence[System], scenario: Scenario, concurrency: int, turn: int, sizes: Sizes
    ) -> Iterator[results.Cell]:
        """The cells of one line, driven in slices, by turns: a slow moment of the machine meets all of them."""
        driven = {system.name: _Driven() for system in systems}
        turns = {system.name: self._turns_of(concurrency, sizes[system.name, scenario.name]) for system in systems}
        for slice_ in range(SLICES):
            for system in systems:
                slices = max(1, min(SLICES, turns[system.name] // (SLICE_TURNS * concurrency)))
                if slice_ < slices:
                    count = turns[system.name] // slices
                    with self._noting(f"{system.name}, {scenario.name}"):
                        server = self._server(system, scenario.name)
                        before = server.cpu()
                        outcome = self._drive(server, system, scenario, concurrency, count - count % concurrency)
                        driven[system.name].add(outcome, server.cpu() - before)
        for name, all_ in driven.items():
            if all_.seconds:
                yield all_.cell(name, scenario.name, concurrency, turn)

    def _turns_of(self, concurrency: int, rate: float) -> int:
        return min(
            MAX_TURNS, max(int(rate * self._effort.seconds_at(concurrency)), self._effort.least, 2 * concurrency)
        )

    def bursts(self, systems: Sequence[System]) -> None:
        """Many strangers at once, one hello each."""
        for _ in range(self._effort.bursts):
            for system in systems:
                with self._noting(f"{system.name}, burst"):
                    self._found.bursts.append(self._burst(system, self._effort.burst_turns))
        say("bursts")

    def _burst(self, system: System, size: int) -> results.Burst:
        server, shots = self._server(system, "hello"), [system.shot("hello")]
        outcome = self._loader.run(Job(port=server.port, shots=shots, turns=size, concurrency=size, fresh=True))
        return results.Burst(
            system=system.name,
            turns=size,
            lost=outcome.lost,
            p50_ms=results.percentile(outcome, 0.5),
            p99_ms=results.percentile(outcome, 0.99),
            first_loss=outcome.first_loss,
        )

    def sessions(self, system: Kadre) -> None:
        """Memory after the warm-up's sessions and twice after many more, each with one turn, all kept by the journal.

        Of the serving process alone: a planner that looks at the files once more after a start is soon gone again.
        """
        effort, shot = self._effort, system.shot("hello")
        with self._noting(f"{system.name}, sessions"), self._started(system, "main", shot) as (server, _):
            seen = []
            for count in (effort.warm_sessions, effort.sessions, effort.later_sessions):
                outcome = self._loader.run(
                    Job(port=server.port, shots=[shot], turns=count, concurrency=32, timeout=SESSIONS_TIMEOUT)
                )
                if outcome.lost:
                    self._found.notes.append(f"{system.name}, sessions: lost {outcome.lost}: {outcome.first_loss}")
                time.sleep(self._effort.settle)
                seen.append(server.rss(children=False))
            kept = results.Sessions(
                system=system.name,
                warm=effort.warm_sessions,
                sessions=effort.sessions,
                later=effort.later_sessions,
                warm_mib=seen[0],
                rss_mib=seen[1],
                later_mib=seen[2],
            )
            self._found.sessions.append(kept)
        say(f"{system.name}: sessions")

    def fleet(self, system: Kadre) -> None:
        """Memory of one process with many agents, after the first answer and after one from each."""
        shots = system.fleet(self._effort.agents)
        started = self._started(system, f"fleet-{len(shots)}", shots[0])
        with self._noting(f"{system.name}, fleet"), started as (server, seconds):
            time.sleep(self._effort.settle)
            first = server.rss(children=False)
            outcome = self._loader.run(Job(port=server.port, shots=shots, turns=len(shots), concurrency=8))
            if outcome.lost:
                self._found.notes.append(f"{system.name}, fleet: lost {outcome.lost}: {outcome.first_loss}")
            time.sleep(self._effort.settle)
            last = server.rss(children=False)
            fleet = results.Fleet(system=system.name, agents=len(shots), seconds=seconds, first_mib=first, rss_mib=last)
            self._found.fleets.append(fleet)
        say(f"{system.name}: fleet")
