"""The columns of what is listed."""

from __future__ import annotations

from datetime import UTC, datetime

from kadre.cli import listing

NOW = datetime(2026, 1, 1, tzinfo=UTC)


def test_the_agents_that_an_agent_hands_work_to_are_among_its_tools() -> None:
    agent = {"namespace": "default", "name": "boss", "model": "m", "status": "Ready", "running": 0}
    item = {**agent, "tools": ["search"], "agents": ["default/analyst.kaos.tools", "team-a/writer"]}
    _, row = listing.AGENTS.table([item], NOW, wide=False).splitlines()
    assert row.split() == ["default", "boss", "m", "search,analyst,writer", "Ready", "0"]


def test_of_the_agents_of_a_gateway_is_said_what_it_tells_of_them() -> None:
    told = {
        "name": "a",
        "namespace": "team",
        "group": "kagent.dev",
        "display_name": "",
        "description": "",
        "model": "m",
    }
    item = {**told, "status": "Ready", "hosts": 1, "durable": False}
    for wide in (False, True):
        _, row = listing.AGENTS.table([item], NOW, wide=wide).splitlines()
        assert row.split()[:5] == ["team", "a", "m", "<unknown>", "Ready"]
