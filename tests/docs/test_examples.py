"""Every example is valid, starts, and every agent in it answers, with the scripted model in place of its own."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.architecture import code
from tests.support.upping import up

pytestmark = [pytest.mark.requirement("examples-run", "example-agents", "kaos-samples"), pytest.mark.timeout(150)]

EXAMPLES = sorted(path.name for path in (code.ROOT / "examples").iterdir() if path.is_dir())


def test_every_example_is_listed() -> None:
    page = (code.ROOT / "examples" / "README.md").read_text(encoding="utf-8")
    assert sorted(re.findall(r"^\| \[(.+?)\]", page, re.MULTILINE)) == EXAMPLES


@pytest.mark.parametrize("path", [".", *EXAMPLES])
def test_an_example_is_valid(path: str) -> None:
    words = [sys.executable, "-m", "kadre", "validate", str(code.ROOT / "examples" / path)]
    done = subprocess.run(words, capture_output=True, text=True, timeout=45, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("name", EXAMPLES)
async def test_every_agent_of_an_example_answers(name: str, tmp_path: Path) -> None:
    example = code.ROOT / "examples" / name
    async with up(example, "--model", "scripted", "--data-dir", tmp_path) as running:
        agents = [agent["name"] for agent in (await running.get("/agents"))["agents"]]
        assert agents
        answers = {agent: await running.post(f"/agents/{agent}/chat", {"message": "Hello!"}) for agent in agents}
        assert await running.stop() == 0
    assert {agent: answer for agent, answer in answers.items() if answer[0] != 200 or not answer[1]["response"]} == {}
