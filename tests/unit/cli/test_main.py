"""The command line itself: what it loads, what it refuses, how it ends."""

from __future__ import annotations

import re
import signal
import subprocess
import sys

import pytest
import yaml

import kadre
from kadre.api import crd
from kadre.cli import main
from tests.unit.cli.conftest import Command


def test_the_version_is_told_both_ways(command: Command) -> None:
    for words in (["version"], ["--version"]):
        code, out, _ = command(*words)
        assert code == 0
        assert re.fullmatch(rf"kadre {re.escape(kadre.__version__)} \(Python 3\.\S+, \w+\)\n", out)


def test_every_command_has_a_help_with_a_sentence(command: Command) -> None:
    for name in main.COMMANDS:
        code, out, _ = command(name, "--help")
        assert code == 0
        assert re.search(r"\n\n  [A-Z][^\n]+", out), name


def test_a_mistyped_command_is_a_wrong_command_line_and_names_the_nearest(command: Command) -> None:
    code, _, err = command("valdate")
    assert code == 2
    assert "No such command 'valdate'. Did you mean 'validate'?" in err


@pytest.mark.parametrize("words", [[], ["up", "--port", "0"], ["chat"], ["get", "-o", "xml"], ["runs", "show"]])
def test_a_wrong_command_line_ends_with_2(command: Command, words: list[str]) -> None:
    assert command(*words)[0] == 2


def test_a_problem_is_told_with_its_fix_and_ends_with_1(command: Command) -> None:
    code, out, err = command("up", "--map", "redis=localhost")
    assert (code, out) == (1, "")
    assert err.startswith("error: --map 'redis=localhost' is not understood\n    fix: write host:port=host:port")


def test_crds_of_all_kinds_are_what_the_models_make(command: Command) -> None:
    assert command("crds") == (0, crd.crd_yaml(crd.crds()), "")


@pytest.mark.parametrize(
    ("words", "names"),
    [
        (["Agent"], ["agents.kagent.dev", "agents.kaos.tools"]),
        (["agents.kaos.tools", "modelconfig"], ["agents.kaos.tools", "modelconfigs.kagent.dev"]),
        (["workflows", "Workflow"], ["workflows.kagent.dev"]),
    ],
)
def test_crds_are_chosen_by_any_name_kubectl_takes(command: Command, words: list[str], names: list[str]) -> None:
    _, out, _ = command("crds", *words)
    assert [document["metadata"]["name"] for document in yaml.safe_load_all(out)] == names


def test_a_kind_that_is_none_is_told_with_the_nearest(command: Command) -> None:
    code, out, err = command("crds", "Agnet")
    assert (code, out) == (1, "")
    assert "there is no kind 'Agnet'; did you mean Agent?" in err


def test_a_model_that_cannot_be_put_in_is_told(command: Command) -> None:
    code, _, err = command("up", "--model", "gpt-9")
    assert code == 1
    assert "--model 'gpt-9'" in err


def test_a_pod_that_is_told_to_end_while_it_loads_ends() -> None:
    # As the image's entry point does; the signal waits from before Python is there.
    told = f"kill -TERM $$; exec {sys.executable} -m kadre version"
    done = subprocess.run(
        ["env", "--block-signal=TERM", "sh", "-c", told], check=False, capture_output=True, timeout=45
    )
    assert (done.returncode, done.stdout) == (128 + signal.SIGTERM, b"")
