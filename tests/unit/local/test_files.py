"""Which files a path means, and what is said of those that can't be read."""

from __future__ import annotations

import io
import os
from pathlib import Path

import pytest

from kadre.local import files
from kadre.local.files import read_files
from kadre.local.secrets import LocalSecrets, read_env, read_exported
from kadre.plan.types import SecretRef


def test_a_folder_means_every_manifest_below_it_but_hidden_ones(tmp_path: Path) -> None:
    for name in ("b.yaml", "a.yml", "deep/er/c.json", ".hidden/d.yaml", ".e.yaml", "notes.txt"):
        file = tmp_path / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(name)
    found = read_files([str(tmp_path)])
    assert sorted(text for text, _ in found.texts) == ["a.yml", "b.yaml", "deep/er/c.json"]
    assert set(found.folders) == {tmp_path, tmp_path / "deep", tmp_path / "deep" / "er"}
    assert found.problems == []


def test_a_file_named_outright_is_read_whatever_its_name(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("kind: Agent")
    assert read_files([str(tmp_path / "notes.txt")]).texts == [("kind: Agent", str(tmp_path / "notes.txt"))]


def test_every_path_that_cannot_be_read_is_told_with_its_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(files, "MAX_FILE", 10)
    (tmp_path / "empty").mkdir()
    (tmp_path / "large.yaml").write_text("x" * 11)
    (tmp_path / "latin.yaml").write_bytes(b"\xff\xfe")
    paths = [str(tmp_path / name) for name in ("none.yaml", "empty", "large.yaml", "latin.yaml")]
    told = {problem.reason: problem.source.file for problem in read_files(paths).problems}
    assert told == dict(zip(("NoSuchFile", "NoManifests", "FileTooLarge", "NotUTF8"), paths, strict=True))


def test_of_the_environment_only_the_providers_own_variables_are_read(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("GITHUB_TOKEN", "OPENAI_API_KEY", "OPENAI_BASE_URL", "AWS_SESSION_TOKEN"):
        monkeypatch.setenv(name, "of the shell")
    found = read_exported()
    assert {"OPENAI_API_KEY", "OPENAI_BASE_URL", "AWS_SESSION_TOKEN"} <= found.keys()
    assert "GITHUB_TOKEN" not in found


def test_env_files_are_read_without_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FROM_SHELL", "shell")
    (tmp_path / ".env").write_text("OPENAI_API_KEY='sk-file'\n# a comment\nEMPTY\n")
    env = read_env([tmp_path])
    assert env == {"OPENAI_API_KEY": "sk-file"}


def test_a_secret_is_read_from_its_document_then_from_the_file_then_from_the_providers_variable() -> None:
    secrets = LocalSecrets()
    ref = SecretRef(namespace="n", name="openai", key="key", env="OPENAI_API_KEY", exported=True)
    assert secrets.read(ref) is None
    shell = {"OPENAI_API_KEY": "from the shell"}
    secrets.replace({}, {}, shell)
    assert secrets.read(ref) == "from the shell"
    secrets.replace({}, {"OPENAI_API_KEY": "from .env"}, shell)
    assert secrets.read(ref) == "from .env"
    secrets.replace({("n", "openai"): {"key": "from document"}}, {"OPENAI_API_KEY": "from .env"}, shell)
    assert secrets.read(ref) == "from document"


def test_a_variable_of_the_shell_is_read_for_its_own_provider_only() -> None:
    secrets = LocalSecrets()
    secrets.replace({}, {}, {"OPENAI_API_KEY": "from the shell"})
    assert secrets.read(SecretRef(namespace="n", name="header", key="OPENAI_API_KEY", env="OPENAI_API_KEY")) is None


@pytest.mark.parametrize(("sent", "reason"), [(b"a: \xff", "NotUTF8"), (b"x" * 11, "FileTooLarge")])
def test_standard_input_is_held_to_what_files_are(monkeypatch: pytest.MonkeyPatch, sent: bytes, reason: str) -> None:
    monkeypatch.setattr(files, "MAX_FILE", 10)
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(sent)))
    assert [problem.reason for problem in read_files(["-"]).problems] == [reason]


def test_a_folder_that_cannot_be_read_is_named_and_the_others_are_read(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text("a")
    name, here = "x" * 250, os.open(tmp_path, os.O_RDONLY)
    for _ in range(20):  # deeper than a path may be long
        os.mkdir(name, dir_fd=here)
        here, above = os.open(name, os.O_RDONLY, dir_fd=here), here
        os.close(above)
    os.close(here)
    found = read_files([str(tmp_path)])
    assert [text for text, _ in found.texts] == ["a"]
    (problem,) = found.problems
    assert problem.reason == "Unreadable"
    assert problem.source.file.startswith(f"{tmp_path}/{name}/{name}")
    assert "the folder cannot be read: File name too long" in problem.message


def test_a_link_that_leads_nowhere_is_told_where_it_is_a_manifest(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").symlink_to("a.yaml")
    (tmp_path / "folder").symlink_to("folder")
    (problem,) = read_files([str(tmp_path)]).problems
    assert (problem.reason, problem.source.file) == ("Unreadable", str(tmp_path / "a.yaml"))


def test_what_never_ends_is_too_large() -> None:
    assert [problem.reason for problem in read_files(["/dev/zero"]).problems] == ["FileTooLarge"]
