"""The quickstart as a new user runs it: a real model, a real tool server, no key, no cluster."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.support.upping import up

EXAMPLES = Path(__file__).parents[2] / "examples"
NO_OLLAMA = "http://127.0.0.1:9/v1"


pytestmark = [pytest.mark.needs("local-model"), pytest.mark.timeout(240)]


@pytest.mark.requirement("kaos-quickstart", "kaos-hosted-model", "quickstart-reliable")
async def test_the_real_model_answers_and_its_tool_was_really_called(tmp_path: Path) -> None:
    files = shutil.copytree(EXAMPLES / "quickstart", tmp_path / "quickstart")
    async with up(files, OLLAMA_BASE_URL=NO_OLLAMA) as upped:
        status, reply = await upped.post("/agents/assistant/chat", {"message": "Please repeat: hello"})
        assert status == 200
        assert "hello" in reply["response"]
        assert reply["usage"]["completion_tokens"] > 0
        run = await upped.get(f"/runs/{reply['run_id']}")
        (call,) = [event["tool_call"] for event in run["events"] if event["type"] == "tool_end"]
        assert (call["name"], call["status"], call["arguments"]) == ("echo", "complete", {"text": "hello"})
        assert "hello" in call["output"]
        assert run["status"] == "completed"


@pytest.mark.requirement("kaos-hosted-model")
async def test_another_hosted_model_is_answered_by_a_stand_in_that_is_named(tmp_path: Path) -> None:
    files = shutil.copytree(EXAMPLES / "coordinator", tmp_path / "coordinator")
    async with up(files, OLLAMA_BASE_URL=NO_OLLAMA) as upped:
        assert "StandInModel" in upped.said
        assert "is answered by smollm2:135m" in upped.said
        agents = (await upped.get("/agents"))["agents"]
        assert {agent["model"] for agent in agents} == {"smollm2:135m"}
        status, reply = await upped.post("/agents/librarian/chat", {"message": "What is the capital of France?"})
        assert status == 200
        run = await upped.get(f"/runs/{reply['run_id']}")
        notices = [event["reason"] for event in run["events"] if event["type"] == "system"]
        assert "StandInModel" in notices
