"""The process that resolves the files: whatever becomes of it, who asked is told, and nothing is left behind."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from kadre.base.errors import ProblemError
from kadre.local import planner
from kadre.local.settings import UpSettings

pytestmark = pytest.mark.requirement("yaml-hostile")


def _refused(settings: UpSettings) -> ProblemError:
    started = planner.start(settings)
    with pytest.raises(ProblemError) as refused:
        planner.finish(started)
    with pytest.raises(ChildProcessError):  # it was waited for
        os.waitpid(started.pid, 0)
    return refused.value


def test_files_that_take_for_ever_are_told_and_their_planner_is_ended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(planner, "SECONDS", 0.1)
    os.mkfifo(tmp_path / "endless")
    [problem] = _refused(UpSettings(paths=(str(tmp_path / "endless"),))).problems
    assert problem.reason == "PlanTimeout"


def test_a_fault_of_the_planner_is_told_with_what_it_said(tmp_path: Path) -> None:
    [problem] = _refused(UpSettings(paths=(str(tmp_path),), model="none-of-ours")).problems
    assert problem.reason == "PlanFailed"
    assert "--model 'none-of-ours'" in problem.message
