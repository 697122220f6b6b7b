"""`kadre chat` as a person sees it, in a process and on a terminal of its own; and what a command loads."""

from __future__ import annotations

import codecs
import contextlib
import json
import os
import pty
import select
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from kadre.cli import client
from tests.doors.cli.conftest import BOUND, Served

pytestmark = pytest.mark.requirement("command-line")

# Opening a terminal makes it the controlling one, which Ctrl-C needs; and who runs tests in the background ignores it.
HEED = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)\n"
START = HEED + "import os; os.close(os.open(os.ttyname(0), os.O_RDWR)); from kadre.cli.main import main; main()"
# The hook runs after the prompt is shown and before the terminal is read, where a signal interrupts no call.
INTERRUPTED = (
    HEED
    + """
import _thread, readline
from kadre.cli.conversation import read_line
readline.set_pre_input_hook(_thread.interrupt_main)
try:
    read_line("you> ")
except KeyboardInterrupt:
    print("heeded")
"""
)
# Set by a thread while the answer is awaited, where too it interrupts no call.
INTERRUPTED_ANSWER = (
    HEED
    + """
import _thread, os, threading
from kadre.cli.main import main
def interrupt():
    with open(os.environ["GO"]):
        _thread.interrupt_main()
threading.Thread(target=interrupt, daemon=True).start()
main()
"""
)


ASKED = "Allow this call? [y]es, [n]o, [e]dit, or why not: "
# Each time it is opened it saves what the next file has, and keeps what it was shown.
EDITOR = """
import pathlib, sys
file, here = pathlib.Path(sys.argv[1]), pathlib.Path(__file__).parent
saved = sorted(here.glob("save-*"))[0]
(here / saved.name.replace("save", "shown")).write_text(file.read_text())
file.write_text(saved.read_text())
saved.unlink()
"""


class Terminal:
    """A child process on a pseudo terminal."""

    def __init__(self, *words: str, code: str = START) -> None:
        self._ours, theirs = pty.openpty()
        command = [sys.executable, "-c", code, *words]
        self.process = subprocess.Popen(command, stdin=theirs, stdout=theirs, stderr=theirs, start_new_session=True)
        os.close(theirs)
        self._unread = ""
        # What is read may end in the middle of a character.
        self._decoder = codecs.getincrementaldecoder("utf-8")()

    def until(self, text: str) -> str:
        """What was shown up to and with `text`."""
        while text not in self._unread:
            assert select.select([self._ours], [], [], BOUND)[0], self._unread
            self._unread += self._decoder.decode(os.read(self._ours, 65536))
        shown, _, self._unread = self._unread.partition(text)
        return shown + text

    def type(self, text: str) -> None:
        os.write(self._ours, text.encode())

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait(BOUND)
        os.close(self._ours)


@pytest.fixture
def terminal(served: Served, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Terminal]:
    """`kadre chat parrot` on a terminal."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("NO_COLOR", raising=False)
    terminal = Terminal("chat", "parrot")
    yield terminal
    terminal.close()


def test_a_person_talks_allows_a_call_cancels_an_answer_and_leaves(
    served: Served, terminal: Terminal, tmp_path: Path
) -> None:
    terminal.until("parrot (obedient) listens")
    terminal.until("you> ")
    terminal.type("hello\n")
    terminal.until("You said hello")
    terminal.until("you> ")
    terminal.type("call write {}\n")
    terminal.until(ASKED)
    terminal.type("y\n")
    assert "\x1b[32m✓\x1b[0m" in terminal.until("You said write {} done")
    assert served.desk.written == [{}]
    terminal.until("you> ")
    terminal.type("hang\n")
    terminal.until("You said hang")
    terminal.type("\x03")
    terminal.until("the run was cancelled")
    terminal.until("you> ")
    terminal.type("\x03")
    terminal.until("to go on: kadre chat parrot --session ses-")
    assert terminal.process.wait(BOUND) == 0
    history = tmp_path / "kadre" / "chat_history"
    assert history.read_text().splitlines()[-3:] == ["hello", "call write {}", "hang"]
    assert history.stat().st_mode & 0o077 == 0


@pytest.mark.requirement("approvals-everywhere")
def test_a_person_changes_a_call_in_an_editor_until_the_tool_takes_it(
    served: Served, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    editor = tmp_path / "editor.py"
    editor.write_text(EDITOR)
    for number, text in enumerate(['{"priority": ', '{"priority": "urgent"}', '# mine\n{"priority": "low"}'], 1):
        (tmp_path / f"save-{number}").write_text(text)
    monkeypatch.setenv("VISUAL", f"{sys.executable} {editor}")
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    with contextlib.closing(Terminal("chat", "parrot", "--no-color")) as terminal:
        terminal.until("you> ")
        terminal.type('call ticket {"priority": "high", "text": "broken \u202e kettle"}\n')
        terminal.until(ASKED)
        terminal.type('e {"priority": 3}\n')
        assert "ticket does not take these arguments" in terminal.until(ASKED)
        terminal.type("e\n")
        shown = terminal.until("You said [local allowed this call")
        assert 'allowed with {"priority": "low"} by local' in shown
        terminal.until("you> ")
    assert served.desk.written == [{"priority": "low"}]
    first, second, third = ((tmp_path / f"shown-{number}").read_text() for number in (1, 2, 3))
    assert first.startswith("# Change the arguments of ticket, save and leave")
    assert first.endswith('\n{\n  "priority": "high",\n  "text": "broken \\u202e kettle"\n}\n')
    assert "# error: the arguments are not JSON" in second
    assert second.endswith('\n{"priority":\n')
    assert "# error: ticket does not take these arguments: " in third
    assert third.endswith('\n{"priority": "urgent"}\n')


def test_ctrl_c_is_heeded_just_as_the_prompt_appears() -> None:
    with contextlib.closing(Terminal(code=INTERRUPTED)) as terminal:
        terminal.until("you> ")
        terminal.until("heeded")


@pytest.mark.parametrize(
    ("words", "shown", "code"),
    [
        (("chat", "parrot", "hang"), "You said hang", 1),
        (("runs", "run-hanging", "--follow"), "user      hang", 130),
    ],
    ids=["chat", "follow"],
)
def test_ctrl_c_is_heeded_just_as_a_silent_answer_is_awaited(
    served: Served, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...], shown: str, code: int
) -> None:
    go = tmp_path / "go"
    os.mkfifo(go)
    monkeypatch.setenv("GO", str(go))
    if words[0] == "runs":
        next(client.Client().chat("parrot", "hang", "ses-1", "run-hanging"))
    with contextlib.closing(Terminal(*words, code=INTERRUPTED_ANSWER)) as terminal:
        terminal.until(shown)
        go.open("w").close()
        assert terminal.process.wait(BOUND) == code


def test_a_command_that_asks_a_server_loads_no_server_no_model_and_no_yaml(served: Served) -> None:
    code = (
        "import atexit, json, sys; atexit.register(lambda: print(json.dumps(sorted(sys.modules)))); "
        "from kadre.cli.main import main; main(['get'])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=BOUND, check=True)
    loaded = set(json.loads(done.stdout.splitlines()[-1]))
    assert "kadre.cli.get" in loaded
    heavy = {"aiohttp", "mcp", "openai", "rich", "starlette", "uvicorn", "watchfiles", "yaml"}
    assert loaded & (heavy | {"kadre.cli.chat", "kadre.api", "kadre.engine.host"}) == set()
