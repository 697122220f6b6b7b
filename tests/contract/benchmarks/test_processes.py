"""The processes of a benchmark end with it, and none of them can keep it waiting for ever."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys

import pytest

from benchmarks import load, processes

PARENT = """
import signal, sys, tempfile
from pathlib import Path
from benchmarks import processes
from benchmarks.systems import Launch
folder = Path(tempfile.mkdtemp())
server = processes.Process(Launch([sys.executable, "-c", "import signal; signal.pause()"]), 1, folder, {0})
loader = processes.Loader({0})
print(server.pid, loader.pid, flush=True)
signal.pause()
"""


def test_when_the_bench_is_killed_what_it_started_ends() -> None:
    bench = subprocess.Popen([sys.executable, "-c", PARENT], cwd=processes.ROOT, stdout=subprocess.PIPE)
    assert bench.stdout is not None
    with bench.stdout:
        watched = [os.pidfd_open(int(pid)) for pid in bench.stdout.readline().split()]
    bench.kill()
    bench.wait()
    ended: set[int] = set()
    try:
        while len(ended) < 2:
            found, _, _ = select.select(set(watched) - ended, (), (), 10)
            assert found, "it lives on"
            ended.update(found)
    finally:
        for pid in watched:
            if pid not in ended:
                signal.pidfd_send_signal(pid, signal.SIGKILL)
            os.close(pid)


def test_a_load_generator_that_says_nothing_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processes, "PATIENCE", 0.2)
    loader = processes.Loader(os.sched_getaffinity(0))
    try:
        os.kill(loader.pid, signal.SIGSTOP)
        job = load.Job(port=1, shots=[load.Shot("x", "x")], turns=1, concurrency=1, timeout=0.1)
        with pytest.raises(RuntimeError, match=r"the load generator did not answer within 0\.4 s"):
            loader.run(job)
        # The next job has another one, whose answers cannot be those of the job that was given up.
        outcome = loader.run(load.Job(port=1, shots=[load.Shot("x", "x")], turns=1, concurrency=1, fresh=True))
        assert (outcome.lost, "Connect" in outcome.first_loss) == (1, True)
    finally:
        loader.stop()
