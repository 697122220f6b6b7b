"""How far a run has come in this process, and how it is to end."""

from __future__ import annotations

import asyncio
from typing import Literal

Phase = Literal["accepted", "driving", "ending"]
How = Literal["cancelled", "interrupted", "left"]
"""`left`: not ended at all, the next process goes on with it."""


class Life:
    """One direction only, and the first wish counts.

    accepted    the run is committed, its task has not taken its first step; `stop`: it ends at that step
    driving     it asks the model and calls tools; `stop`: its task is cancelled
    ending      its outcome is settled and is being recorded; `stop`: too late, nothing happens
    """

    def __init__(self) -> None:
        self.phase: Phase = "accepted"
        self.task: asyncio.Task[None] | None = None
        self.process_ends = False
        """What cannot be recorded now never will be, here."""
        self._wish: How | None = None

    @property
    def how(self) -> How:
        """How it ends where it is cut short. Without a wish it is the process that ends: `interrupted`."""
        return self._wish or "interrupted"

    def stop(self, how: How) -> None:
        """Have the run end that way: now, or at its first step."""
        if how != "cancelled":
            self.process_ends = True
        if self._wish is not None or self.phase == "ending":
            return
        self._wish = how
        # a task that is cancelled before its first step never runs, and could not record the run's end
        if self.phase == "driving" and self.task is not None:
            self.task.cancel()

    def begin(self) -> None:
        """The run's task takes its first step. Raises CancelledError where the run was stopped before."""
        self.phase = "driving"
        if self._wish is not None:
            raise asyncio.CancelledError

    def end(self) -> None:
        """The outcome is settled: the task goes on, to record it, though it may have been cancelled."""
        self.phase = "ending"
        if self.task is not None:
            self.task.uncancel()
