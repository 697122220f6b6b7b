"""`kadre approvals`: what waits, and deciding it."""

from __future__ import annotations

import io
import json
import sys
from pathlib import Path
from typing import Any

import pytest

from kadre.cli import client
from tests.doors.cli.conftest import Served, kadre
from tests.doors.cli.test_chat import talker

pytestmark = pytest.mark.requirement("approvals-everywhere")


@pytest.fixture(autouse=True)
def _nobody_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO())


def waiting(capsys: pytest.CaptureFixture[str], said: str, agent: str = "parrot") -> dict[str, Any]:
    """Have a run wait; what waits last."""
    assert kadre("chat", agent, said) == 1
    capsys.readouterr()
    assert kadre("approvals", "-o", "json") == 0
    found: dict[str, Any] = json.loads(capsys.readouterr().out)["approvals"][-1]
    return found


def test_what_waits_is_listed_by_agent_and_namespace(served: Served, capsys: pytest.CaptureFixture[str]) -> None:
    assert kadre("approvals") == 0
    assert capsys.readouterr().out == "No resources found\n"
    first = waiting(capsys, 'call write {"to": "bob"}')
    second = waiting(capsys, 'call ask_desk {"question": "Which room?"}', "owl")
    assert kadre("approvals", "-o", "wide") == 0
    head, *lines = capsys.readouterr().out.splitlines()
    assert head.split() == ["APPROVAL", "AGENT", "KIND", "CALL", "ASKED", "LEFT", "RUN", "SESSION", "CALLER", "REASON"]
    assert [line.split()[:3] for line in lines] == [
        [first["id"], "default/parrot", "call"],
        [second["id"], "team-a/owl", "question"],
    ]
    assert 'write(to="bob")' in lines[0]
    assert first["root_run_id"] in lines[0]
    for words in (("-n", "team-a"), ("--agent", "owl")):
        assert kadre("approvals", *words, "-o", "name") == 0
        assert capsys.readouterr().out == f"approval/{second['id']}\n"
    assert served.desk.written == []


def test_one_is_shown_whole_by_its_id_or_its_runs(served: Served, capsys: pytest.CaptureFixture[str]) -> None:
    item = waiting(capsys, 'call write {"to": "bob", "text": "' + "x" * 300 + '"}')
    for name in (item["id"], item["root_run_id"]):
        assert kadre("approvals", name) == 0
        told = capsys.readouterr().out
        assert "x" * 300 in told
        assert f"digest: {item['digest']}" in told
        assert f"kadre approvals allow {item['id']} [--arguments JSON], or: kadre approvals deny {item['id']}" in told
        assert "it is denied" in told
    assert kadre("approvals", "apr-none") == 1
    assert "nothing that waits is named 'apr-none'" in capsys.readouterr().err
    assert served.desk.written == []


def test_a_call_is_allowed_changed_and_denied(served: Served, capsys: pytest.CaptureFixture[str]) -> None:
    for words, told, written in (
        (("allow",), "allowed", {"to": "bob"}),
        (("allow", "--arguments", '{"to": "eve"}'), "allowed with other arguments", {"to": "eve"}),
        (("deny", "--note", "not on a Friday"), "denied", None),
    ):
        item = waiting(capsys, 'call write {"to": "bob"}')
        assert kadre("approvals", words[0], item["id"], *words[1:]) == 0
        assert capsys.readouterr().out == f"{item['id']} {told}\n"
        assert kadre("runs", item["root_run_id"], "--follow") == 0
        shown = capsys.readouterr().out
        assert "not on a Friday" in shown if written is None else written in served.desk.written
        if written == {"to": "eve"}:
            assert '; arguments {"to": "eve"}' in shown
    assert served.desk.written == [{"to": "bob"}, {"to": "eve"}]
    assert kadre("approvals", "-o", "name") == 0
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("arguments", ["{", "[]", '"x"'])
def test_arguments_that_are_no_object_decide_nothing(
    served: Served, capsys: pytest.CaptureFixture[str], arguments: str
) -> None:
    item = waiting(capsys, 'call write {"to": "bob"}')
    assert kadre("approvals", "allow", item["id"], "--arguments", arguments) == 1
    assert "the arguments are" in capsys.readouterr().err
    assert served.desk.written == []


def test_a_call_is_changed_in_an_editor(
    served: Served, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    editor = tmp_path / "editor.py"
    monkeypatch.setenv("VISUAL", f"{sys.executable} {editor}")
    item = waiting(capsys, 'call write {"to": "bob"}')
    editor.write_text("pass")
    assert kadre("approvals", "edit", item["id"]) == 0
    assert "the call is as it was, and waits" in capsys.readouterr().out
    assert served.desk.written == []
    change = "import sys, pathlib as p; f = p.Path(sys.argv[1]); f.write_text(f.read_text().replace('bob', 'eve'))"
    editor.write_text(change)
    assert kadre("approvals", "edit", item["id"]) == 0
    assert kadre("runs", item["root_run_id"], "--follow") == 0
    assert served.desk.written == [{"to": "eve"}]


def test_an_editor_is_opened_again_with_what_the_tool_does_not_take(
    served: Served, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    editor = tmp_path / "editor.py"
    monkeypatch.setenv("VISUAL", f"{sys.executable} {editor}")
    item = waiting(capsys, 'call ticket {"priority": "high"}')
    editor.write_text(
        "import sys, pathlib as p; f = p.Path(sys.argv[1]); t = f.read_text()\n"
        "f.write_text(t.replace('high', 'urgent') if '# error' not in t else t.replace('urgent', 'low'))"
    )
    assert kadre("approvals", "edit", item["id"]) == 0
    assert capsys.readouterr().out == f"{item['id']} allowed with other arguments\n"
    assert kadre("runs", item["root_run_id"], "--follow") == 0
    assert served.desk.written == [{"priority": "low"}]


@pytest.mark.requirement("tool-human")
def test_a_question_is_answered(served: Served, capsys: pytest.CaptureFixture[str]) -> None:
    item = waiting(capsys, 'call ask_desk {"question": "Which room?"}')
    assert kadre("approvals", item["id"]) == 0
    shown = capsys.readouterr().out
    assert "why: A guest is waiting" in shown
    assert f"kadre approvals answer {item['id']} TEXT" in shown
    assert kadre("approvals", "answer", item["id"], "Room 12") == 0
    assert capsys.readouterr().out == f"{item['id']} answered\n"
    assert client.Client().get(f"/runs/{item['root_run_id']}")["approvals"] == []
    assert kadre("runs", item["root_run_id"], "--follow") == 0
    assert "; answer Room 12" in capsys.readouterr().out


@pytest.mark.requirement("tool-human")
@pytest.mark.parametrize(("typed", "heard"), [("Room 12", "You said Room 12"), ("", "nobody answered this question")])
@pytest.mark.usefixtures("served")
def test_a_question_is_answered_in_a_conversation(typed: str, heard: str) -> None:
    prompts = []

    def read(prompt: str) -> str:
        prompts.append(prompt)
        return typed

    talk, answers, aside = talker(read)
    assert talk.say('call ask_desk {"question": "Which room?"}') == "completed"
    assert prompts == ["Your answer (nothing: none): "]
    assert '"question": "Which room?"' in aside.getvalue()
    assert "A guest is waiting" in aside.getvalue()
    assert heard in answers.getvalue()
