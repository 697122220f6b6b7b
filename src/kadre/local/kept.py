"""Runs in a data folder, read while nobody or a `kadre up` has it: nothing is locked and nothing is written."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterator, Sequence
from pathlib import Path
from urllib.parse import quote

from kadre.base.errors import NotFound, ProblemError
from kadre.base.problems import Problem
from kadre.engine import events as ev
from kadre.engine.memory import sqlite_file, sqlite_reads
from kadre.engine.memory.port import RunInfo
from kadre.engine.replay.recording import Given

LOOKED_AT = 1000
"""Runs of a session among which those before a run are looked for."""


class KeptRuns:
    """The runs in a folder. Raises ProblemError where there is no journal, or one that cannot be read."""

    def __init__(self, folder: Path) -> None:
        self._file = folder / sqlite_file.FILE
        if not self._file.is_file():
            message, fix = f"there is no journal in {folder}", "name the folder that kadre up tells as its data"
            raise ProblemError([Problem("NoJournal", message, fix)])

    @contextlib.contextmanager
    def _opened(self) -> Iterator[sqlite3.Connection]:
        try:
            with contextlib.closing(sqlite3.connect(f"file:{quote(str(self._file))}?mode=ro", uri=True)) as db:
                yield db
        except sqlite3.Error as error:
            raise sqlite_file.unusable(self._file, error) from error

    async def run(self, run_id: str) -> tuple[RunInfo, Sequence[ev.Event]]:
        """See recording.Runs."""
        with self._opened() as db:
            info = sqlite_reads.run(db, run_id)
            if info is None:
                raise NotFound(f"there is no run {run_id!r} in {self._file.parent}", reason="NoSuchRun")
            return info, sqlite_reads.events(db, run_id, 0, info.last_seq)

    async def before(self, run: RunInfo, limit: int) -> Sequence[RunInfo]:
        """See recording.Runs."""
        wanted = {"s.agent =": run.agent, "s.session_id =": run.session_id, "r.status =": None, "s.caller =": None}
        with self._opened() as db:
            return earlier(sqlite_reads.runs(db, wanted, None, LOOKED_AT), run, limit)

    async def blob(self, run_id: str, digest: str) -> bytes:
        """See recording.Runs."""
        with self._opened() as db:
            data = sqlite_reads.blob(db, digest)
        if data is None:
            raise NotFound(f"a text of run {run_id} is no longer kept")
        return data

    async def given(self, agent: str) -> Given | None:  # noqa: ARG002 - it is not in the journal
        """See recording.Runs."""
        return None


def earlier(runs: Sequence[RunInfo], run: RunInfo, limit: int) -> list[RunInfo]:
    """The latest `limit` of these runs that had ended and come before that one, in their order."""
    before = [each for each in runs if each.order < run.order and each.status in ev.ENDED]
    return sorted(before, key=lambda each: each.order)[-limit:]
