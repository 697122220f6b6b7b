"""What `kadre validate` tells of files."""

from __future__ import annotations

import io
import json
from collections import Counter
from pathlib import Path

import pytest

from kadre.base.problems import Problem, Source
from kadre.cli import findings
from kadre.local.console import Console
from tests.unit.cli.conftest import Command

GOOD = """\
apiVersion: kagent.dev/v1alpha1
kind: ModelConfig
metadata: {name: script}
spec: {provider: scripted, model: scripted}
---
apiVersion: kagent.dev/v1alpha1
kind: Agent
metadata: {name: clerk}
spec: {modelConfig: script, systemPrompt: You file things.}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: shop}
"""
WRONG = """\
apiVersion: kagent.dev/v1alpha1
kind: Agent
metadata: {name: clerk}
spec:
  modelConfig: scirpt
  systemPromt: You file things.
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder the command is called in."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_valid_files_are_summed_up_in_a_line(folder: Path, command: Command) -> None:
    (folder / "agents.yaml").write_text(GOOD)
    code, out, err = command("validate", ".")
    assert (code, err) == (0, "")
    assert out == "ignored, not Kadre's: Deployment default/shop\n\n1 ModelConfig and 1 Agent are valid\n"


def test_all_problems_of_all_files_are_told_with_place_and_fix(folder: Path, command: Command) -> None:
    (folder / "a.yaml").write_text(WRONG)
    (folder / "b.yaml").write_text("kind: Agent\n")
    code, out, err = command("validate", ".", "missing.yaml")
    assert (code, err) == (1, "")
    first, second, third = out.split("\n\n")[:3]
    assert first.startswith("missing.yaml: no such file or folder\n    fix: ")
    assert "a.yaml:6: Agent default/clerk: spec.systemPromt: " in second
    assert "did you mean systemPrompt?" in second
    assert "b.yaml:1: " in third
    assert out.splitlines()[-1].endswith(" errors")


def test_a_missing_reference_is_an_error(folder: Path, command: Command) -> None:
    (folder / "agents.yaml").write_text(GOOD.replace("modelConfig: script,", "modelConfig: scirpt,"))
    code, out, _ = command("validate", "agents.yaml")
    assert code == 1
    assert "agents.yaml:9: Agent default/clerk: spec.modelConfig: " in out
    assert out.endswith("1 error\n")


def test_programs_read_the_same_as_json(folder: Path, command: Command) -> None:
    (folder / "a.yaml").write_text(WRONG)
    code, out, _ = command("validate", "a.yaml", "-o", "json")
    told = json.loads(out)
    assert code == 1
    assert told["valid"] is False
    problem = next(problem for problem in told["problems"] if problem["path"] == "spec.systemPromt")
    assert {
        "severity": "error",
        "file": "a.yaml",
        "line": 6,
        "resource": "Agent default/clerk",
    }.items() <= problem.items()


def test_a_pipe_is_read_as_a_file(command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(GOOD.encode())))
    assert command("validate", "-")[0] == 0


def test_a_warning_is_marked_and_does_not_fail() -> None:
    warning = Problem("Odd", "is odd", "mend it", "Agent a/b", "spec.x", Source("f.yaml", 3), "warning")
    found = findings.Findings(Counter({"Agent": 2}), [], [warning])
    assert found.valid
    assert found.text(Console()) == (
        "f.yaml:3: warning: Agent a/b: spec.x: is odd\n    fix: mend it\n\n2 Agents are valid, 1 warning"
    )
