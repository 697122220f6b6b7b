"""`kadre sessions` and `kadre fork` against a running server."""

from __future__ import annotations

import json

import pytest

from tests.doors.cli.conftest import Served, kadre

pytestmark = pytest.mark.requirement("session-keeping")


@pytest.fixture
def talked(served: Served, capsys: pytest.CaptureFixture[str]) -> Served:
    """A server with two sessions."""
    for agent, session, message in (("parrot", "s1", "the kettle"), ("parrot", "s1", "again"), ("owl", "s2", "a pot")):
        assert kadre("chat", agent, message, "--session", session) == 0
    capsys.readouterr()
    return served


def test_sessions_are_found_named_and_forgotten(talked: Served, capsys: pytest.CaptureFixture[str]) -> None:
    assert kadre("sessions", "rename", "s1", "The broken kettle") == 0
    assert kadre("sessions", "--agent", "parrot") == 0
    told, header, row = capsys.readouterr().out.splitlines()
    assert told == "s1 The broken kettle"
    assert header.split() == ["SESSION", "AGENT", "RUNS", "LAST", "USED", "TITLE"]
    assert row.startswith("s1        default/parrot   2      ")
    assert row.endswith("The broken kettle")
    assert kadre("sessions", "--search", "POT") == 0
    assert [line.split()[0] for line in capsys.readouterr().out.splitlines()] == ["SESSION", "s2"]
    assert kadre("sessions", "s1") == 0
    assert capsys.readouterr().out.splitlines()[:2] == ["user: the kettle", "assistant: You said the kettle"]
    assert kadre("sessions", "delete", "s1") == 0
    assert kadre("sessions", "-o", "json") == 0
    deleted, rest = capsys.readouterr().out.split("\n", 1)
    assert deleted == "s1 deleted"
    assert [each["session_id"] for each in json.loads(rest)["sessions"]] == ["s2"]
    assert kadre("sessions", "delete", "s1") == 1
    assert "there is no session 's1'" in capsys.readouterr().err


def test_a_session_is_exported_as_json_and_for_people(talked: Served, capsys: pytest.CaptureFixture[str]) -> None:
    assert kadre("sessions", "export", "s2") == 0
    assert [each["content"] for each in json.loads(capsys.readouterr().out)["messages"]] == ["a pot", "You said a pot"]
    assert kadre("sessions", "export", "s2", "--format", "markdown") == 0
    expected = "# Session s2 of team-a/owl\n\n## User\n\na pot\n\n## Assistant\n\nYou said a pot\n"
    assert capsys.readouterr().out == expected


@pytest.mark.requirement("session-fork")
def test_a_conversation_is_forked(talked: Served, capsys: pytest.CaptureFixture[str]) -> None:
    assert kadre("runs", "--session", "s1", "-o", "json") == 0
    second, first = (each["run_id"] for each in json.loads(capsys.readouterr().out)["runs"])
    assert kadre("fork", first, "--session", "f1") == 0
    assert kadre("sessions", "fork", "s1", "--session", "f2") == 0
    assert kadre("fork", second, "--at", "2") == 0
    f1, f2, made = capsys.readouterr().out.splitlines()
    assert (f1, f2) == ("f1", "f2")
    said = {}
    for session in (f1, f2, made):
        assert kadre("sessions", session, "-o", "json") == 0
        said[session] = [each["content"] for each in json.loads(capsys.readouterr().out)["messages"]]
    everything = ["the kettle", "You said the kettle", "again", "You said again"]
    # Of the parrot its second event is a notice: nothing had been said in that run yet.
    assert said == {f1: everything[:2], f2: everything, made: everything[:2]}
    assert kadre("fork", first, "--at", "99") == 1
    assert "and no event 99" in capsys.readouterr().err
