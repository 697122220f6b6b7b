"""Cases are tests wherever pytest runs: the plugin collects them and tells what changed."""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path

import pytest

from tests.architecture import code

pytestmark = pytest.mark.requirement("record-replay")
AGENT = """\
apiVersion: kagent.dev/v1alpha1
kind: Agent
metadata: {name: clerk}
spec:
  model: {provider: openai, name: gpt-4o}
  systemPrompt: Be brief.
"""
CASE = """\
apiVersion: kadre.dev/v1alpha1
kind: Case
metadata: {name: greeting}
manifests: [../agents]
agent: clerk
model: gpt-4o
prompt: Be brief.
message: hello
replies:
- text: Hello.
status: completed
"""


async def pytest_run(folder: Path, *words: str) -> tuple[int, str]:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "pytest", "-p", "kadre.local.pytest_plugin", "-p", "no:cacheprovider", *words),
        cwd=folder,
        env={**os.environ, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", "PYTEST_ADDOPTS": ""},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    out, _ = await asyncio.wait_for(process.communicate(), 40)
    return process.returncode or 0, out.decode()


async def test_cases_are_collected_and_their_changes_told(tmp_path: Path) -> None:
    agents, cases = tmp_path / "agents", tmp_path / "cases"
    for folder in (agents, cases):
        folder.mkdir()
    (agents / "clerk.yaml").write_text(AGENT)
    (cases / "greeting.kadre.yaml").write_text(CASE)
    (cases / "other.yaml").write_text("no: case")
    (tmp_path / "pytest.ini").write_text("[pytest]\n")
    code, out = await pytest_run(tmp_path, "-v")
    assert (code, "cases/greeting.kadre.yaml::greeting PASSED" in out) == (0, True), out
    assert "1 passed" in out
    (agents / "clerk.yaml").write_text(AGENT.replace("brief", "kind"))
    code, out = await pytest_run(tmp_path)
    assert code == 1
    assert "-prompt: Be brief.\n+prompt: Be kind." in out
    assert "Traceback" not in out
    assert "pytest_plugin.py" not in out
    assert (await pytest_run(tmp_path, "--kadre-update"))[0] == 0
    assert "prompt: Be kind." in (cases / "greeting.kadre.yaml").read_text()
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "clerk.yaml").write_text(AGENT)
    (tmp_path / "pytest.ini").write_text("[pytest]\nkadre_manifests = elsewhere\n")
    code, out = await pytest_run(tmp_path)
    assert (code, "-prompt: Be kind.\n+prompt: Be brief." in out) == (1, True)


def test_the_package_tells_pytest_of_it() -> None:
    points = code.table("pyproject.toml")["project"]["entry-points"]["pytest11"]
    assert points == {"kadre": "kadre.local.pytest_plugin"}
