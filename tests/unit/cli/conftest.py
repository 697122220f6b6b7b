"""Runs the command in the test's own process."""

from __future__ import annotations

from typing import Protocol

import pytest

from kadre.cli import main


class Command(Protocol):
    """`command("get", "agents")`: exit code, standard output, standard error."""

    def __call__(self, *words: str) -> tuple[int, str, str]: ...


@pytest.fixture
def command(capsys: pytest.CaptureFixture[str]) -> Command:
    def run(*words: str) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as ended:
            main.main(words)
        told = capsys.readouterr()
        return int(ended.value.code or 0), told.out, told.err

    return run
