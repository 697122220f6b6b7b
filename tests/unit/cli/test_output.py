"""Tables, ages and documents."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from kadre.cli import listing, output
from kadre.cli.options import Format


def test_columns_are_as_wide_as_their_widest_cell_and_lines_end_at_their_last() -> None:
    assert output.table(("A", "B"), [("long", ""), ("x", "y")]) == "A      B\nlong\nx      y"


def test_an_empty_table_is_told_as_kubectl_tells_it() -> None:
    assert output.table(("A", "B"), []) == "No resources found"


@pytest.mark.parametrize(
    ("passed", "shown"),
    [
        (timedelta(seconds=-3), "0s"),
        (timedelta(seconds=119), "119s"),
        (timedelta(minutes=2), "2m"),
        (timedelta(minutes=119), "119m"),
        (timedelta(hours=2, minutes=30), "2h"),
        (timedelta(hours=47), "47h"),
        (timedelta(days=2, hours=5), "2d"),
    ],
)
def test_an_age_has_the_unit_kubectl_gives_it(passed: timedelta, shown: str) -> None:
    assert output.age(passed) == shown


def test_documents_keep_the_order_of_their_keys_and_every_script() -> None:
    value = {"b": "größer", "a": [1]}
    assert output.document(value, Format.JSON) == '{\n  "b": "größer",\n  "a": [\n    1\n  ]\n}'
    assert output.document(value, Format.YAML) == "b: größer\na:\n- 1"


def test_wide_adds_columns_and_what_is_absent_is_none() -> None:
    run = {
        "run_id": "run-1",
        "session_id": "ses-1",
        "agent": "default/parrot",
        "status": "running",
        "usage": {"total_tokens": 7},
        "created": "2026-01-01T11:59:30Z",
        "caller": "local",
        "parent_run_id": "",
    }
    now = datetime(2026, 1, 1, 12, tzinfo=UTC)
    assert listing.RUNS.table([run], now, wide=True).splitlines() == [
        "RUN     AGENT            SESSION   STATUS    TOKENS   AGE   CALLER   PARENT",
        "run-1   default/parrot   ses-1     running   7        30s   local    <none>",
    ]
    assert listing.RUNS.table([run], now, wide=False).splitlines()[0].endswith("AGE")


def test_a_session_is_shown_as_what_was_said_and_not_what_was_only_called(capsys: pytest.CaptureFixture[str]) -> None:
    said = [
        {"role": "user", "content": "hi"},
        {"role": "assistant", "tool_calls": [{}]},
        {"role": "assistant", "content": "ho"},
    ]
    listing.SESSIONS.show_one({"session_id": "s", "messages": said}, "")
    assert capsys.readouterr().out == "user: hi\nassistant: ho\n"
