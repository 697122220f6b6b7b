"""What to type next: where the agents answer, and which of them to begin with."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from kadre.local.settings import UpSettings
from kadre.plan.types import AgentPlan, AgentTool

EVERYWHERE = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - what is listened on, not listening
"""Addresses that only listen, and one that reaches them from here."""


def base_url(host: str, port: int) -> str:
    """Where something that listens on that address is reached from this machine."""
    near = EVERYWHERE.get(host, host)
    return f"http://[{near}]:{port}" if ":" in near else f"http://{near}:{port}"


def entrance(plans: Iterable[AgentPlan]) -> str:
    """The first agent that no other hands work to: the one a team is asked through. `NAME` where there is no agent.

    By its name alone, where no other has it.
    """
    known = sorted(plans, key=lambda plan: plan.key)
    helpers = {tool.agent for plan in known for tool in plan.tools if isinstance(tool, AgentTool)}
    first = next((plan.key for plan in known if plan.key not in helpers), None)
    if first is None:
        return "NAME"
    names, places = Counter(plan.key.name for plan in known), Counter(plan.key.short for plan in known)
    if names[first.name] == 1:
        return first.name
    return first.short if places[first.short] == 1 else f"{first.short}.{first.group}"


def chat_command(agent: str, base: str) -> str:
    """The command that talks to an agent served there."""
    usual = UpSettings()
    elsewhere = base != base_url(usual.host, usual.port)
    return f"kadre chat {agent}" + (f" --server {base}" if elsewhere else "")
