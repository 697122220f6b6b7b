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


CALLED = [
    ("quickstart", "assistant", "Please repeat: hello", "echo", "hello"),
    ("custom-tools", "toolsmith", 'call count_words {"text":"to be or not to be"}', "count_words", '"to":'),
    ("coordinator", "librarian", "search for the old bridge", "search", "320 metres"),
    ("coordinator", "accountant", "calculate (320 * 3.28084)", "calculate", "1049.8688"),
    ("coordinator", "coordinator", "Ask the librarian: search for the old bridge", "librarian", "320 metres"),
    ("coordinator", "coordinator", "Ask the accountant: calculate 6 * 7", "accountant", "42"),
]


@pytest.mark.parametrize(("name", "agent", "message", "tool", "answer"), CALLED)
async def test_an_example_calls_its_tool(
    name: str, agent: str, message: str, tool: str, answer: str, tmp_path: Path
) -> None:
    async with up(code.ROOT / "examples" / name, "--model", "scripted", "--data-dir", tmp_path) as running:
        _, reply = await running.post(f"/agents/{agent}/chat", {"message": message})
        run = await running.get(f"/runs/{reply['run_id']}")
    assert answer in reply["response"]
    ended = [event for event in run["events"] if event["type"] == "tool_end"]
    assert [(event["name"], event["tool_call"]["status"]) for event in ended] == [(tool, "complete")]


@pytest.mark.requirement("kaos-hierarchy")
async def test_a_question_goes_down_three_levels_and_its_answer_comes_back(tmp_path: Path) -> None:
    async with up(code.ROOT / "examples" / "hierarchy", "--model", "scripted", "--data-dir", tmp_path) as running:
        message = "Ask the engineering-lead: ask the builder: how long does a shed take?"
        _, reply = await running.post("/agents/director/chat", {"message": message})
        runs = (await running.get("/runs"))["runs"]
    assert "how long does a shed take?" in reply["response"]
    parents = {run["agent"]: run["parent_run_id"] for run in runs}
    ids = {run["agent"]: run["run_id"] for run in runs}
    director, lead, builder = (f"default/{name}.kaos.tools" for name in ("director", "engineering-lead", "builder"))
    assert parents == {director: "", lead: ids[director], builder: ids[lead]}


@pytest.mark.requirement("agent-tool-endpoint")
async def test_an_agent_whose_server_is_not_there_starts_and_says_so(tmp_path: Path) -> None:
    async with up(code.ROOT / "examples" / "k8s-operator", "--model", "scripted", "--data-dir", tmp_path) as running:
        status, reply = await running.post("/agents/k8s-operator/chat", {"message": "Hello!"})
        run = await running.get(f"/runs/{reply['run_id']}")
    assert status == 200
    assert [event["message"] for event in run["events"] if event["type"] == "system"]
