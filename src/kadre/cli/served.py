"""Runs of a server, for what makes a case of one."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from kadre.base.errors import NotFound
from kadre.cli.client import Answered, Client
from kadre.engine import events as ev
from kadre.engine.memory.port import RunInfo
from kadre.engine.replay.case import short
from kadre.engine.replay.recording import Given
from kadre.local.kept import LOOKED_AT, earlier


class ServedRuns:
    """See recording.Runs. Each call waits for its answer."""

    def __init__(self, server: str) -> None:
        self._client = Client(server)

    async def run(self, run_id: str) -> tuple[RunInfo, Sequence[ev.Event]]:
        """See recording.Runs."""
        told = self._client.get(f"/runs/{run_id}")
        return msgspec.convert(told, RunInfo), ev.known(told["events"])

    async def before(self, run: RunInfo, limit: int) -> Sequence[RunInfo]:
        """See recording.Runs."""
        told = self._client.get("/runs", agent=short(run.agent), session_id=run.session_id, limit=LOOKED_AT)
        runs = [info for info in msgspec.convert(told["runs"], list[RunInfo]) if info.agent == run.agent]
        return earlier(runs, run, limit)

    async def blob(self, run_id: str, digest: str) -> bytes:
        """See recording.Runs."""
        try:
            return b"".join(self._client.pieces(f"/runs/{run_id}/blobs/{digest}"))
        except Answered as error:
            raise NotFound(str(error)) from error

    async def given(self, agent: str) -> Given | None:
        """See recording.Runs. None where the agent is served no more, or by what does not tell."""
        try:
            return msgspec.convert(self._client.get(f"/agents/{short(agent)}/offer"), Given)
        except Answered as error:
            if error.status in {403, 404, 503}:
                return None
            raise
