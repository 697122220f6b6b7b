"""Every example is valid, starts, and every agent in it answers, with the scripted model in place of its own."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from tests.architecture import code
from tests.docs import served

pytestmark = [pytest.mark.requirement("examples-run"), pytest.mark.timeout(150)]

EXAMPLES = sorted(path.name for path in (code.ROOT / "examples").iterdir() if path.is_dir())


def test_every_example_is_listed() -> None:
    listed = re.findall(
        r"^\| \[(.+?)\]", (code.ROOT / "examples" / "README.md").read_text(encoding="utf-8"), re.MULTILINE
    )
    assert sorted(listed) == EXAMPLES


@pytest.mark.parametrize("path", [".", *EXAMPLES])
def test_an_example_is_valid(path: str) -> None:
    words = [str(served.KADRE), "validate", str(code.ROOT / "examples" / path)]
    done = subprocess.run(words, capture_output=True, text=True, timeout=served.BOUND, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("name", EXAMPLES)
def test_every_agent_of_an_example_answers(name: str, tmp_path: Path) -> None:
    example = str(code.ROOT / "examples" / name)
    with served.up(example, "--model", "scripted", "--data-dir", str(tmp_path), folder=tmp_path) as running:
        agents = [agent["name"] for agent in running.get("/agents")["agents"]]
        assert agents
        answers = {agent: running.post(f"/agents/{agent}/chat", {"message": "Hello!"}) for agent in agents}
    assert [agent for agent, answer in answers.items() if not answer["response"]] == []
