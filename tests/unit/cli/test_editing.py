"""Arguments in an editor, whatever it leaves behind."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from kadre.base.errors import KadreError
from kadre.cli import editing

pytestmark = pytest.mark.requirement("approval-decisions")


@pytest.mark.parametrize(
    ("does", "told"),
    [
        ('printf \'{"a": "\\351"}\' > "$1"', "is not UTF-8"),
        ('rm "$1"', "no text came out of the editor"),
        ("exit 1", "Editing failed; set EDITOR"),
    ],
)
def test_what_is_no_text_is_told_by_name(does: str, told: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    editor = tmp_path / "editor"
    editor.write_text(f"#!/bin/sh\n{does}\n")
    editor.chmod(0o755)
    monkeypatch.setenv("VISUAL", str(editor))
    with pytest.raises(KadreError, match=told):
        editing.in_editor("{}")


def test_an_editor_with_a_quote_that_nothing_ends_is_told_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VISUAL", "vim 'x")
    with pytest.raises(KadreError, match=r"No closing quotation.*EDITOR"):
        editing.in_editor("{}")


def test_what_cannot_be_seen_is_escaped_and_sent_as_it_was_where_something_else_is_changed() -> None:
    before = {"to": "ex\u200bample.com\u202e\U000e0041", "room": "101"}
    sent: list[Any] = []

    def change(text: str) -> str:
        assert text.isascii()
        return text.replace("101", "202")

    assert editing.edit("reserve", before, sent.append, change) == ""
    assert sent == [{**before, "room": "202"}]
