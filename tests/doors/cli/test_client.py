"""What the command makes of servers that are not there, are none of ours, or end in the middle."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator

import pytest

from kadre.cli import client
from kadre.engine import events as ev
from tests.doors.cli.conftest import kadre

pytestmark = pytest.mark.requirement("command-line")

HEAD = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
TIMED = '"run_id":"run-1","session_id":"ses-1","time":"2026-01-01T00:00:00Z"'


class Saying:
    """Answers every connection with the same bytes and closes it."""

    def __init__(self) -> None:
        self.answer = b""
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.url = "http://127.0.0.1:{1}".format(*self._socket.getsockname())
        self._thread = threading.Thread(target=self._serve, name="saying")
        self._thread.start()

    def _serve(self) -> None:
        while True:
            connection, _ = self._socket.accept()
            with connection:
                if not connection.recv(65536):
                    return
                connection.sendall(self.answer)

    def stream(self, text: str) -> None:
        """Answer with these events, and end without the last chunk."""
        self.answer = (HEAD + f"{len(text.encode()):x}\r\n{text}\r\n").encode()

    def close(self) -> None:
        with socket.create_connection(self._socket.getsockname()):
            pass
        self._thread.join(10)
        self._socket.close()


@pytest.fixture
def saying(monkeypatch: pytest.MonkeyPatch) -> Iterator[Saying]:
    saying = Saying()
    monkeypatch.setenv("KADRE_SERVER", saying.url)
    yield saying
    saying.close()


def test_where_nobody_answers_the_command_says_how_to_start_one(capsys: pytest.CaptureFixture[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        free = taken.getsockname()[1]
    assert kadre("get", "--server", f"127.0.0.1:{free}") == 1
    assert capsys.readouterr().err == (
        f"error: no kadre up answers at http://127.0.0.1:{free}; "
        "start one with `kadre up`, or say where it is with --server\n"
    )


@pytest.mark.parametrize(
    "answer",
    [
        b"220 mail.example ESMTP\r\n",
        b"",
        b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\n<html>",
        b"HTTP/1.1 200 OK\r\nContent-Length: 60\r\n\r\n{",
        b"HTTP/1.1 404 Not Found\r\nContent-Length: 6\r\n\r\n<html>",
    ],
)
def test_a_server_that_is_not_ours_is_told_in_a_line(
    saying: Saying, answer: bytes, capsys: pytest.CaptureFixture[str]
) -> None:
    saying.answer = answer
    assert kadre("runs") == 1
    told = capsys.readouterr().err
    assert told.startswith(f"error: {saying.url} does not answer as kadre up does")
    assert told.count("\n") == 1


@pytest.mark.parametrize("server", ["ftp://somewhere", "http://", "http://host:port"])
def test_an_address_that_is_none_is_told(server: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert kadre("get", "--server", server) == 1
    assert "is no address of a server; write it as http://127.0.0.1:8080" in capsys.readouterr().err


def test_a_stream_that_ends_before_its_run_is_told_with_how_to_go_on(
    saying: Saying, capsys: pytest.CaptureFixture[str]
) -> None:
    saying.stream(f'data: {{"type":"token","seq":1,"offset":0,"content":"Once",{TIMED}}}\n\n')
    assert kadre("chat", "parrot", "tell me a story") == 1
    told = capsys.readouterr()
    assert told.out == "Once\n"
    assert "; if the run goes on, see it with: kadre runs run-" in told.err


def test_a_run_that_the_server_lost_is_told_in_its_words(saying: Saying) -> None:
    saying.stream('event: error\ndata: {"type":"error","run_id":"run-1","message":"the disk is full"}\n\n')
    with pytest.raises(client.Lost, match="the disk is full"):
        list(client.Client().follow("run-1"))


def test_events_of_a_newer_server_are_passed_over(saying: Saying) -> None:
    saying.stream(
        f'data: {{"type":"moon_phase","seq":1,{TIMED}}}\n\n'
        f'data: {{"type":"run_finished","seq":2,"status":"completed","mood":"good",{TIMED}}}\n\n'
    )
    assert [type(event) for event in client.Client().follow("run-1")] == [ev.RunFinished]


def test_what_is_no_event_ends_the_stream(saying: Saying) -> None:
    saying.stream("data: no json\n\n")
    with pytest.raises(client.Lost, match="no event"):
        list(client.Client().follow("run-1"))


@pytest.mark.requirement("session-keeping")
def test_an_export_that_breaks_off_is_an_error(saying: Saying, capsys: pytest.CaptureFixture[str]) -> None:
    saying.stream('{"session_id":"s","messages":[\n')
    assert kadre("sessions", "export", "s") == 1
    assert "the connection was lost before the end" in capsys.readouterr().err


@pytest.mark.requirement("session-keeping")
def test_a_session_of_which_a_part_is_told_says_where_the_rest_is(
    saying: Saying, capsys: pytest.CaptureFixture[str]
) -> None:
    told = b'{"messages":[{"role":"user","content":"hi"}],"complete":false}\n'
    saying.answer = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(told), told)
    assert kadre("sessions", "s") == 0
    shown = capsys.readouterr()
    assert shown.out == "user: hi\n"
    assert "this is the latest of it; all of it: kadre sessions export s" in shown.err
    assert kadre("sessions", "export", "s") == 0
    shown = capsys.readouterr()
    assert shown.out.encode() == told
    assert "does not keep what was said in its first runs" in shown.err
