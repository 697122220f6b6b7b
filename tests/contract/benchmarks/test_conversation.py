"""A side of the bench of stores is a process that holds conversations, keeps them, and says what that took."""

from __future__ import annotations

import sys
from pathlib import Path

import msgspec
import pytest

from benchmarks import processes
from benchmarks.checkpoints import ask
from benchmarks.conversation import Done, Job


@pytest.fixture
def program(tmp_path: Path) -> list[str]:
    return [sys.executable, "-m", "benchmarks.apps.kadre_turns", "sqlite", str(tmp_path)]


def test_a_side_holds_as_many_turns_as_it_is_told_and_keeps_them(program: list[str], tmp_path: Path) -> None:
    worker = processes.Worker(program)
    try:
        for at_once in (1, 2):
            done = ask(worker, Job(sessions=2, turns=3, at_once=at_once))
            assert (len(done.ms), done.kept) == (6, 12)
            assert done.cpu > 0
            assert done.written > 0
        assert list(tmp_path.iterdir())
    finally:
        worker.stop()


def test_a_side_that_keeps_less_than_was_said_is_not_measured() -> None:
    answer = msgspec.json.encode(Done(cpu=1.0, written=1, ms=[1.0], kept=3)).decode()
    worker = processes.Worker([sys.executable, "-c", f"input(); print({answer!r})"])
    try:
        with pytest.raises(RuntimeError, match="has kept 3 messages of 1 turns, not 4 of each"):
            ask(worker, Job(sessions=1, turns=1, at_once=1))
    finally:
        worker.stop()
