"""`kadre chat` against a running server: what is said, shown, asked, cancelled."""

from __future__ import annotations

import io
import os
import signal
import threading
from collections.abc import Callable, Iterator

import pytest

from kadre.cli import client, conversation, editing, render
from kadre.local.console import Console
from tests.doors.cli.conftest import Served, kadre

pytestmark = pytest.mark.requirement("command-line")


def no_editor(text: str) -> str | None:
    raise AssertionError("no editor is wanted")


def talker(
    read: Callable[[str], str] | None, edit: editing.Edit = no_editor
) -> tuple[conversation.Conversation, io.StringIO, io.StringIO]:
    """A conversation with the parrot, its answers, and what is told beside them."""
    answers, aside = io.StringIO(), io.StringIO()
    screen = render.Screen(Console(stream=aside), answers)
    return conversation.Conversation(client.Client(), "parrot", "", screen, read, edit), answers, aside


def test_one_message_prints_the_answer_alone_on_standard_output(
    served: Served, capsys: pytest.CaptureFixture[str]
) -> None:
    assert kadre("chat", "parrot", "hello") == 0
    told = capsys.readouterr()
    assert told.out == "You said hello\n"
    assert "note: the telephone is not connected (NotSupportedYet)" in told.err
    assert "to go on: kadre chat parrot --session ses-" in told.err


def test_a_message_comes_from_a_pipe(
    served: Served, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO("from a file"))
    assert kadre("chat", "team-a/owl") == 0
    assert capsys.readouterr().out == "You said from a file\n"


def test_an_empty_pipe_is_a_wrong_command_line(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO(""))
    assert kadre("chat", "parrot") == 2


def test_a_session_goes_on(served: Served, capsys: pytest.CaptureFixture[str]) -> None:
    assert kadre("chat", "parrot", "one", "--session", "ses-mine") == 0
    assert kadre("chat", "parrot", "two", "--session", "ses-mine") == 0
    assert kadre("get", "session", "ses-mine") == 0
    assert capsys.readouterr().out.endswith("user: one\nassistant: You said one\nuser: two\nassistant: You said two\n")


def test_a_failed_run_ends_with_1_and_says_why(served: Served, capsys: pytest.CaptureFixture[str]) -> None:
    assert kadre("chat", "parrot", "fail") == 1
    assert "error: the model is on strike (ModelOnStrike)" in capsys.readouterr().err


def test_an_agent_that_is_not_there_is_named_with_the_nearest(
    served: Served, capsys: pytest.CaptureFixture[str]
) -> None:
    assert kadre("chat", "parot", "hello") == 1
    assert capsys.readouterr().err == "error: there is no agent 'parot'; did you mean parrot?\n"


def test_a_tool_call_shows_its_arguments_and_its_outcome(served: Served, capsys: pytest.CaptureFixture[str]) -> None:
    assert kadre("chat", "parrot", 'call look {"at": "the door"}') == 0
    told = capsys.readouterr()
    assert '→ look(at="the door")\n✓ look (0.0 s): look {"at":"the door"} done\n' in told.err
    assert told.out == 'You said look {"at":"the door"} done\n'


def test_an_allowed_call_is_made_while_the_stream_goes_on(served: Served) -> None:
    talk, answers, aside = talker(lambda _: " Yes ")
    assert talk.say('call write {"to": "bob"}') == "completed"
    assert served.desk.written == [{"to": "bob"}]
    assert '? write\n    {\n      "to": "bob"\n    }\n' in aside.getvalue()
    assert answers.getvalue() == 'You said write {"to":"bob"} done\n'


def test_a_denied_call_is_not_made_and_the_model_reads_why(served: Served) -> None:
    said = iter(["", "bob is away"])
    talk, answers, aside = talker(lambda _: next(said))
    assert talk.say('call write {"to": "bob"}') == "completed"
    assert served.desk.written == []
    assert "denied by local" in aside.getvalue()
    assert "bob is away" in answers.getvalue()


@pytest.mark.requirement("approvals-everywhere")
def test_a_call_is_changed_as_it_is_typed_and_asked_about_again_until_it_is_right(served: Served) -> None:
    said = iter(["e {", 'e {"priority": 1}', 'E {"priority": "low"}'])
    talk, _, aside = talker(lambda _: next(said))
    assert talk.say('call ticket {"priority": "high"}') == "completed"
    assert served.desk.written == [{"priority": "low"}]
    told = aside.getvalue()
    assert "the arguments are not JSON" in told
    assert "ticket does not take these arguments" in told
    assert 'allowed with {"priority": "low"} by local' in told


@pytest.mark.requirement("approvals-everywhere")
@pytest.mark.parametrize("saved", [None, "", "# all deleted", '{"priority": "high"}', '{ "priority":"high" }'])
def test_where_nothing_is_changed_nothing_is_decided_and_it_is_asked_again(served: Served, saved: str | None) -> None:
    said = iter(["e", "n"])
    talk, _, aside = talker(lambda _: next(said), lambda _: saved)
    assert talk.say('call ticket {"priority": "high"}') == "completed"
    assert served.desk.written == []
    assert "the call is as it was, and waits" in aside.getvalue()
    assert "denied by local" in aside.getvalue()


@pytest.mark.requirement("approvals-everywhere")
def test_an_editor_that_is_left_with_what_is_wrong_decides_nothing(served: Served) -> None:
    said = iter(["edit", "y"])
    talk, _, aside = talker(lambda _: next(said), lambda _: '{"priority": 7}')
    assert talk.say('call ticket {"priority": "high"}') == "completed"
    assert "the call is as it was, and waits (ticket does not take these arguments" in aside.getvalue()
    assert served.desk.written == [{"priority": "high"}]


@pytest.mark.requirement("approvals-everywhere")
def test_a_call_as_large_as_anybody_is_asked_about_is_changed_whole(served: Served) -> None:
    text = "x" * 60_000
    said = iter(["e"])
    talk, _, _ = talker(lambda _: next(said), lambda page: page.replace("high", "low"))
    assert talk.say(f'call ticket {{"priority": "high", "text": "{text}"}}') == "completed"
    assert served.desk.written == [{"priority": "low", "text": text}]


@pytest.mark.requirement("approvals-everywhere")
def test_an_editor_that_is_not_there_is_told_and_it_is_asked_again(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VISUAL", "no-such-editor")
    said = iter(["e", "n"])
    talk, _, aside = talker(lambda _: next(said), editing.in_editor)
    assert talk.say("call write {}") == "completed"
    assert "no-such-editor: Editing failed" in aside.getvalue()
    assert "set EDITOR to an editor that is there" in aside.getvalue()
    assert served.desk.written == []


def test_where_nobody_can_be_asked_the_run_waits_and_the_command_to_decide_is_told(
    served: Served, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO())
    assert kadre("chat", "parrot", "call write {}", "--session", "ses-1") == 1
    told = capsys.readouterr().err
    run = told.split("kadre runs approve ")[1].split()[0]
    assert kadre("chat", "parrot", "anything", "--session", "ses-1") == 1
    assert "waits for an approval" in capsys.readouterr().err
    assert kadre("runs", "approve", run) == 0
    assert kadre("runs", run, "--follow") == 0
    assert served.desk.written == [{}]


def test_a_call_that_somebody_else_decided_first_is_told(served: Served) -> None:
    def late(prompt: str) -> str:
        run = client.Client().get("/runs")["runs"][0]["run_id"]
        client.Client().post(f"/runs/{run}/approve", {"decision": "deny"})
        return "y"

    talk, _, aside = talker(late)
    assert talk.say("call write {}") == "completed"
    assert served.desk.written == []
    assert "no open approval" in aside.getvalue() or "has ended" in aside.getvalue()


class Interrupting(io.StringIO):
    """Answers that press Ctrl-C when they have been read."""

    def write(self, text: str) -> int:
        written = super().write(text)
        if self.getvalue().endswith("You said hang"):
            threading.Timer(0, os.kill, [os.getpid(), signal.SIGINT]).start()
        return written


@pytest.fixture
def _restored_signal() -> Iterator[None]:
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("_restored_signal")
def test_ctrl_c_cancels_the_run_and_the_conversation_goes_on(served: Served) -> None:
    aside = io.StringIO()
    screen = render.Screen(Console(stream=aside), Interrupting())
    talk = conversation.Conversation(client.Client(), "parrot", "", screen, None)
    assert talk.say("hang") == "cancelled"
    assert "cancelling; Ctrl-C again leaves" in aside.getvalue()
    assert "the run was cancelled" in aside.getvalue()
    assert talk.say("hello") == "completed"


def test_a_conversation_ends_at_exit_and_remembers_what_was_typed(served: Served) -> None:
    typed = iter(["", "hello", "/exit"])
    remembered: list[str] = []
    talk, answers, _ = talker(None)
    conversation.talk(talk, lambda _: next(typed), Console(stream=io.StringIO()), remembered.append)
    assert answers.getvalue() == "You said hello\n"
    assert remembered == ["hello"]


def test_a_conversation_ends_at_the_second_ctrl_c_in_a_row(served: Served) -> None:
    typed = iter(["^C", "hello", "^C", "^C"])

    def read(prompt: str) -> str:
        text = next(typed)
        if text == "^C":
            raise KeyboardInterrupt
        return text

    talk, answers, _ = talker(None)
    conversation.talk(talk, read, Console(stream=io.StringIO()), lambda _: None)
    assert answers.getvalue() == "You said hello\n"
    assert next(typed, None) is None


def test_a_conversation_outlives_a_message_that_is_refused(served: Served) -> None:
    typed = iter(["x" * (11 * 1024 * 1024), "hello", "/exit"])
    aside = io.StringIO()
    talk, answers, _ = talker(None)
    conversation.talk(talk, lambda _: next(typed), Console(stream=aside), lambda _: None)
    assert aside.getvalue() == "error: the body is larger than 10 MiB\n"
    assert answers.getvalue() == "You said hello\n"
