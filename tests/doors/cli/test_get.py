"""`kadre get` and `kadre runs` against a running server."""

from __future__ import annotations

import json
import re

import pytest
import yaml

from tests.doors.cli.conftest import Served, kadre

pytestmark = pytest.mark.requirement("command-line")


def test_agents_are_listed_in_aligned_columns(served: Served, capsys: pytest.CaptureFixture[str]) -> None:
    assert kadre("get") == 0
    assert capsys.readouterr().out.splitlines() == [
        "NAMESPACE   NAME     MODEL      TOOLS    STATUS   RUNNING",
        "default     parrot   obedient   <none>   Ready    0",
        "team-a      owl      obedient   <none>   Ready    0",
    ]


@pytest.mark.parametrize("words", [["agents", "-n", "team-a"], ["agent", "owl"], ["ag", "owl", "-n", "team-a"]])
def test_agents_are_chosen_by_name_and_namespace(
    served: Served, words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert kadre("get", *words, "-o", "name") == 0
    assert capsys.readouterr().out == "agent/owl\n"


def test_no_match_is_told_as_kubectl_does(served: Served, capsys: pytest.CaptureFixture[str]) -> None:
    assert kadre("get", "agents", "-n", "nowhere") == 0
    assert kadre("get", "agents.kaos.tools") == 0
    assert kadre("get", "sessions") == 0
    assert kadre("get", "runs") == 0
    assert capsys.readouterr().out == "No resources found\n" * 4


def test_an_agent_by_name_is_one_object(served: Served, capsys: pytest.CaptureFixture[str]) -> None:
    assert kadre("get", "agent", "parrot", "-o", "yaml") == 0
    assert yaml.safe_load(capsys.readouterr().out)["description"] == "Says things back"
    assert kadre("get", "agents", "-o", "json") == 0
    assert [agent["name"] for agent in json.loads(capsys.readouterr().out)["agents"]] == ["parrot", "owl"]


def test_wide_shows_what_an_agent_does_without(served: Served, capsys: pytest.CaptureFixture[str]) -> None:
    assert kadre("get", "agent", "parrot", "-o", "wide") == 0
    header, row = capsys.readouterr().out.splitlines()
    assert header.split()[-2:] == ["NOTICES", "DESCRIPTION"]
    assert "NotSupportedYet   Says things back" in row


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["agnts"], "kadre up does not list 'agnts'; did you mean agents?; it lists agents, runs, sessions"),
        (["agent", "parot"], "there is no agent 'parot'; did you mean parrot?"),
        (["runs", "-n", "team-a"], "runs have no namespace and no API group"),
        (["run", "run-0"], "there is no run 'run-0'"),
    ],
)
def test_what_is_not_there_is_told(
    served: Served, words: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert kadre("get", *words) == 1
    assert capsys.readouterr().err == f"error: {said}\n"


def test_runs_are_listed_the_latest_first(served: Served, capsys: pytest.CaptureFixture[str]) -> None:
    assert kadre("chat", "parrot", "hello", "--session", "ses-1") == 0
    assert kadre("chat", "owl", "fail", "--session", "ses-2") == 1
    capsys.readouterr()
    assert kadre("runs") == 0
    header, latest, first = capsys.readouterr().out.splitlines()
    assert header.split() == ["RUN", "AGENT", "SESSION", "STATUS", "TOKENS", "AGE"]
    assert latest.split()[1:5] == ["team-a/owl", "ses-2", "failed", "0"]
    assert first.split()[1:5] == ["default/parrot", "ses-1", "completed", "5"]
    assert kadre("runs", "--agent", "parrot", "-o", "json") == 0
    assert [run["session_id"] for run in json.loads(capsys.readouterr().out)["runs"]] == ["ses-1"]


@pytest.mark.parametrize("follow", [[], ["--follow"]])
def test_a_run_is_shown_event_by_event(served: Served, follow: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert kadre("chat", "parrot", 'call look {"at": "me"}') == 0
    assert kadre("get", "runs", "-o", "name") == 0
    run = capsys.readouterr().out.split("run/")[-1].strip()
    assert kadre("runs", run, *follow) == 0
    head, *lines = capsys.readouterr().out.splitlines()
    assert re.fullmatch(rf"{run} of default/parrot, session ses-\w+: completed", head)
    assert [re.sub(r"^\d\d:\d\d:\d\d  ", "", line) for line in lines] == [
        "started   default/parrot, asked by local",
        "note      the telephone is not connected (NotSupportedYet)",
        'user      call look {"at": "me"}',
        "usage     obedient: 3 in, 2 out",
        "answer    calls look",
        'call      look(at="me")',
        'result    look complete: look {"at":"me"} done',
        "usage     obedient: 3 in, 2 out",
        'answer    You said look {"at":"me"} done',
        "finished  completed, 10 tokens",
    ]


def test_options_before_a_runs_id_count_as_those_after_it(served: Served, capsys: pytest.CaptureFixture[str]) -> None:
    assert kadre("chat", "parrot", "hello") == 0
    assert kadre("get", "runs", "-o", "name") == 0
    run = capsys.readouterr().out.split("run/")[-1].strip()
    assert kadre("runs", "-o", "json", run) == 0
    assert json.loads(capsys.readouterr().out)["run_id"] == run
    assert kadre("runs", run, "--follow", "-o", "json") == 0
    events = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [event["type"] for event in events][-1] == "run_finished"
    assert kadre("runs", run, "--follow", "-o", "yaml") == 2


def test_a_run_that_waits_shows_what_for_and_is_cancelled(served: Served, capsys: pytest.CaptureFixture[str]) -> None:
    assert kadre("chat", "parrot", 'call write {"to": "bob"}') == 1
    run = capsys.readouterr().err.split("kadre runs approve ")[1].split()[0]
    assert kadre("runs", run) == 0
    told = capsys.readouterr().out
    assert f"waits for you: kadre runs approve {run} [--deny]\n" in told
    assert told.endswith('  write(to="bob")\n')
    assert kadre("runs", "cancel", run) == 0
    assert capsys.readouterr().out == f"{run} cancelled\n"
    assert kadre("runs", "approve", run) == 1
    assert capsys.readouterr().err == f"error: {run} waits for no decision; it is cancelled\n"
    assert served.desk.written == []


def test_a_denied_call_reaches_the_model_with_the_note(served: Served, capsys: pytest.CaptureFixture[str]) -> None:
    assert kadre("chat", "parrot", "call write {}") == 1
    run = capsys.readouterr().err.split("kadre runs approve ")[1].split()[0]
    assert kadre("runs", "approve", run, "--deny", "--note", "not on a Friday") == 0
    assert re.fullmatch(rf"{run} \S+ denied\n", capsys.readouterr().out)
    assert kadre("runs", run, "--follow") == 0
    assert "not on a Friday" in capsys.readouterr().out
    assert served.desk.written == []
