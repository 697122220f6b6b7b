"""`python -m benchmarks.gateway`: what the gateway adds to a request, beside a bare reverse proxy in the same run.

The proxies take turns within a round before one upstream that answers at once; the requests are also sent to the
upstream itself, so that what is added can be told. CPU is the proxy's. Prints medians, and ratios taken within a round.
"""

from __future__ import annotations

import argparse
import json
import socket
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from statistics import median
from typing import NamedTuple

from benchmarks import processes
from benchmarks.apps.gateway_app import API_KEY, KEY
from benchmarks.load import Job, Shot
from benchmarks.machine import describe
from benchmarks.processes import Loader, Process

PATH = f"/agents/{KEY.namespace}/{KEY.name}/chat"
STREAMS = 2000
FIRSTS = 300
"""Streams of which the first byte is timed, one after the other."""
SIDES = ("upstream", "floor", "gateway")


class Seen(NamedTuple):
    """What one side came to: requests' milliseconds at the median one at a time, CPU of each, a stream's first byte."""

    p50: float
    cpu: float
    first: float


def shot(message: str, *, stream: bool = False) -> Shot:
    """A message to the agent."""
    body = json.dumps({"message": message, "session_id": "s"})
    accept = "text/event-stream" if stream else "application/json"
    head = f"POST {PATH} HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer {API_KEY}\r\nAccept: {accept}\r\n"
    sent = f"{head}Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n{body}"
    return Shot(sent, "run_started" if stream else '"response":"hello"')


HELLO = shot("hi")


@contextmanager
def started(folder: Path) -> Iterator[dict[str, Process]]:
    """The three of them."""
    server, others = processes.cores()
    with ExitStack() as stack:
        ports = {side: processes.free_port() for side in SIDES}
        modules = {"upstream": "gateway_upstream", "floor": "proxy_floor", "gateway": "gateway_app"}
        running = {}
        for side in SIDES:
            words = [str(ports[side])] + ([str(ports["upstream"])] if side != "upstream" else [])
            launch = processes.module(f"apps.{modules[side]}", *words)
            running[side] = Process(launch, ports[side], folder, others if side == "upstream" else server)
            stack.callback(running[side].stop)
        for process in running.values():
            process.wait_for(HELLO)
        yield running


def measured(process: Process, loader: Loader, requests: int) -> Seen:
    """One side, in one round."""
    port = process.port
    loader.run(Job(port=port, shots=[HELLO], turns=200, concurrency=8))
    alone = loader.run(Job(port=port, shots=[HELLO], turns=min(1000, requests), concurrency=1))
    before = process.cpu()
    many = loader.run(Job(port=port, shots=[HELLO], turns=requests, concurrency=16))
    used = process.cpu() - before
    if alone.lost or many.lost:
        raise RuntimeError(f"{alone.lost + many.lost} requests were lost: {alone.first_loss or many.first_loss}")
    firsts = [first_byte(port) for _ in range(FIRSTS)]
    return Seen(median(alone.latencies) * 1000, used / requests * 1000, median(firsts) * 1000)


def first_byte(port: int) -> float:
    """Seconds until a stream's first event is there."""
    asked = shot("hi", stream=True)
    with socket.create_connection(("127.0.0.1", port)) as connection:
        began = time.perf_counter()
        connection.sendall(asked.data.encode())
        seen = b""
        while asked.expect.encode() not in seen:
            seen += connection.recv(65536)
        return time.perf_counter() - began


def held(process: Process) -> tuple[float, int]:
    """MiB with all streams open, and how many of them have begun."""
    asked = shot("hold", stream=True)
    with ExitStack() as stack:
        connections = [
            stack.enter_context(socket.create_connection(("127.0.0.1", process.port))) for _ in range(STREAMS)
        ]
        for connection in connections:
            connection.sendall(asked.data.encode())
        begun = 0
        for connection in connections:
            connection.settimeout(30)
            seen = b""
            while asked.expect.encode() not in seen:
                seen += connection.recv(65536)
            begun += 1
        return process.rss(), begun


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gateway", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--requests", type=int, default=6000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--out", type=Path, help="folder for the report and the raw figures (default: not kept)")
    given = parser.parse_args()
    rounds: list[dict[str, Seen]] = []
    with tempfile.TemporaryDirectory(prefix="kadre-bench-") as folder, started(Path(folder)) as running:
        machine = describe(Path(folder))
        loader = Loader(processes.cores()[1])
        for number in range(given.rounds):
            order = SIDES[number % 3 :] + SIDES[: number % 3]
            rounds.append({side: measured(running[side], loader, given.requests) for side in order})
            print(f"round {number + 1}/{given.rounds}: {rounds[-1]}", file=sys.stderr)
        resident, begun = held(running["gateway"])
        loader.stop()
    told = "\n".join(report(rounds, resident, begun))
    print(told)
    if given.out:
        name = f"gateway-{machine['date'].partition(' ')[0]}"
        heading = "\n".join(f"- {key}: {value}" for key, value in machine.items() if key != "journals on")
        (given.out / f"{name}.md").write_text(f"# What the gateway adds\n\n{heading}\n\n{told}\n")
        raw = [{side: seen._asdict() for side, seen in each.items()} for each in rounds]
        kept = {"machine": machine, "rounds": raw, "streams": {"rss": resident, "begun": begun}}
        (given.out / f"{name}.json").write_text(json.dumps(kept, indent=1) + "\n")


def report(rounds: list[dict[str, Seen]], resident: float, begun: int) -> Iterator[str]:
    """A table of medians, and what is asked of them."""
    yield "| | p50 ms, one at a time | ms CPU a request | ms to a stream's first byte |"
    yield "|---|---:|---:|---:|"
    for side in SIDES:
        of = [each[side] for each in rounds]
        figures = [median(getattr(seen, name) for seen in of) for name in Seen._fields]
        yield f"| {side} | {figures[0]:.2f} | {figures[1]:.3f} | {figures[2]:.2f} |"
    cpu = median(each["gateway"].cpu / each["floor"].cpu for each in rounds)
    added = median(each["gateway"].p50 - each["upstream"].p50 for each in rounds)
    first = median(each["gateway"].first - each["upstream"].first for each in rounds)
    yield ""
    yield f"- CPU a request x floor {cpu:.2f} (<= 1.3)"
    yield f"- added to the median {added:.2f} ms (<= 1.5), to a stream's first byte {first:.2f} ms (<= 2)"
    yield f"- {begun} streams open at once: {resident:.0f} MiB (<= 200 with {STREAMS})"


if __name__ == "__main__":
    main()
