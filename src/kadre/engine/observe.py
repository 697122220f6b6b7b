"""What can be counted: the host tells an Observer, which a door turns into metrics. Cheap, and never fails."""

from __future__ import annotations

from typing import Protocol

from kadre.engine.events import RunStatus
from kadre.engine.messages import Usage
from kadre.plan.types import AgentPlan


class Observer(Protocol):
    """Seconds are wall seconds."""

    def run_started(self, plan: AgentPlan, session: str) -> None:
        """A run was accepted."""
        ...

    def run_finished(self, plan: AgentPlan, session: str, status: RunStatus, seconds: float, reason: str) -> None:
        """A run ended; `reason` is its error's, or empty. `seconds` counts waiting for its turn and for people."""
        ...

    def model_called(self, plan: AgentPlan, seconds: float, usage: Usage, error: str) -> None:
        """One model call ended; `error` is its reason, or empty."""
        ...

    def tools_unsent(self, plan: AgentPlan, tokens: int) -> None:
        """One model call was sent without tools that are found by search, whose schemas are about that long."""
        ...

    def tool_called(self, plan: AgentPlan, name: str, seconds: float, error: bool) -> None:
        """One tool call ended."""
        ...

    def refused(self, plan: AgentPlan, reason: str) -> None:
        """A run was not accepted."""
        ...


class Unobserved:
    """Counts nothing."""

    def run_started(self, plan: AgentPlan, session: str) -> None:
        """See Observer."""

    def run_finished(self, plan: AgentPlan, session: str, status: RunStatus, seconds: float, reason: str) -> None:
        """See Observer."""

    def model_called(self, plan: AgentPlan, seconds: float, usage: Usage, error: str) -> None:
        """See Observer."""

    def tools_unsent(self, plan: AgentPlan, tokens: int) -> None:
        """See Observer."""

    def tool_called(self, plan: AgentPlan, name: str, seconds: float, error: bool) -> None:
        """See Observer."""

    def refused(self, plan: AgentPlan, reason: str) -> None:
        """See Observer."""
