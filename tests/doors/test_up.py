"""`kadre up` as a process: starting, being killed, changing files, bad models, ending."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import socket
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.faulty import FaultyModel, faulty_model
from tests.support.upping import Upped, free_port, up

AGENT = """
apiVersion: kagent.dev/v1alpha1
kind: Agent
metadata: {{name: {name}, namespace: kagent}}
spec:
  model: {{provider: openai, name: m, endpoint: "{url}", timeout: 1s}}
  systemPrompt: {prompt}
"""


@pytest.fixture
async def model() -> AsyncIterator[FaultyModel]:
    async with faulty_model() as made:
        yield made


@pytest.fixture
def files(tmp_path: Path, model: FaultyModel) -> Path:
    folder = tmp_path / "agents"
    folder.mkdir()
    (folder / "a.yaml").write_text(AGENT.format(name="a", url=model.url, prompt="Be kind."))
    return folder


async def said_in(upped: Upped, session: str) -> list[tuple[str, str]]:
    shown = await upped.get(f"/sessions/{session}")
    return [(message["role"], message["content"]) for message in shown["messages"]]


async def test_what_was_acknowledged_survives_a_kill_in_the_middle_of_a_turn(files: Path, model: FaultyModel) -> None:
    port = free_port()
    async with up(files, port=port) as upped:
        status, _ = await upped.post("/chat", {"message": "one", "session_id": "s"})
        assert status == 200
        model.does = "hang"
        model.asked.clear()
        status, run = await upped.post("/runs", {"message": "two", "session_id": "s"})
        assert status == 202
        await asyncio.wait_for(model.asked.wait(), 10)
        await upped.stop(signal.SIGKILL)
    asked = len(model.requests)
    model.does = "answer"
    async with up(files, port=port) as upped:
        assert "1 run was cut off" in upped.said
        shown = await upped.get(f"/runs/{run['run_id']}")
        assert shown["status"] == "interrupted"
        assert shown["events"][-1]["type"] == "run_finished"
        assert await said_in(upped, "s") == [("user", "one"), ("assistant", "all well"), ("user", "two")]
        assert len(model.requests) == asked
        status, reply = await upped.post("/chat", {"message": "three", "session_id": "s"})
        assert (status, reply["response"]) == (200, "all well")
        said = [message["content"] for message in model.requests[-1]["messages"]]
        assert said == ["Be kind.", "one", "all well", "two", "three"]


MISBEHAVIOUR = {
    "hang": (504, "ModelTimeout"),
    "close": (502, "ModelStreamBroken"),
    "broken": (502, "Model"),
    "500": (502, "Model"),
    "html": (502, "Model"),
}
"""What a model does, and what whoever asked is answered."""


@pytest.mark.parametrize("stream", [False, True])
async def test_a_model_that_misbehaves_is_a_clear_error_and_leaves_nothing_behind(
    files: Path, model: FaultyModel, stream: bool
) -> None:
    async with up(files) as upped:
        await upped.post("/chat", {"message": "warm up"})
        before = upped.open_files()
        body = {"model": "a", "stream": stream, "messages": [{"role": "user", "content": "hi"}]}

        async def ask() -> tuple[int, str]:
            async with upped.http.post("/v1/chat/completions", json=body) as answer:
                return answer.status, await answer.text()

        for number, (does, (status, reason)) in enumerate(MISBEHAVIOUR.items(), 1):
            model.does = does
            for got, text in await asyncio.gather(ask(), ask(), ask()):
                if stream and does == "close":
                    assert "half an ans" in text
                else:
                    assert got == status, does
                assert f'"code":"{reason}' in text, does
            assert len((await upped.get("/runs?status=failed"))["runs"]) == 3 * number
            model.does = "answer"
            got, reply = await upped.post("/chat", {"message": "and now?"})
            assert (got, reply["response"]) == (200, "all well")
        await upped.until_no_more_files_than(before + 5)  # connections of the three, kept open on either side
        assert (await upped.get("/agents"))["agents"][0]["running"] == 0


async def test_a_changed_file_is_taken_over_without_dropping_a_running_stream(files: Path, model: FaultyModel) -> None:
    async with up(files) as upped:
        await upped.until_said("ready")
        model.does = "hang"
        headers = {"Accept": "text/event-stream"}
        async with upped.http.post("/agents/a/chat", json={"message": "hi"}, headers=headers) as stream:
            await stream.content.readuntil(b"user_message")
            (files / "a.yaml").write_text(AGENT.format(name="a", url=model.url, prompt="Be brief."))
            await upped.until_said("kagent/a reloaded", 10)
            (files / "b.yaml").write_text(AGENT.format(name="b", url=model.url, prompt="Be b."))
            await upped.until_said("kagent/b added", 10)
            rest = await stream.content.read()
            assert b"ModelTimeout" in rest
            assert b"run_finished" in rest
        model.does = "answer"
        status, _ = await upped.post("/agents/a/chat", {"message": "hi"})
        assert status == 200
        assert model.requests[-1]["messages"][0]["content"] == "Be brief."
        (files / "b.yaml").unlink()
        await upped.until_said("kagent/b is no longer served", 10)


async def test_files_that_break_keep_what_was_served_and_show_the_problem(files: Path, model: FaultyModel) -> None:
    async with up(files) as upped:
        broken = AGENT.format(name="a", url=model.url, prompt="x").replace("systemPrompt", "systemPromt")
        (files / "a.yaml").write_text(broken)
        await upped.until_said("did you mean systemPrompt?", 10)
        status, _ = await upped.post("/chat", {"message": "still there?"})
        assert status == 200
        health = await upped.get("/health")
        assert "did you mean systemPrompt?" in health["problems"][0]
        (files / "a.yaml").write_text(AGENT.format(name="a", url=model.url, prompt="mended"))
        await upped.until_said("kagent/a reloaded", 10)
        assert (await upped.get("/health"))["problems"] == []


@pytest.mark.requirement("reload-keeps-streams")
async def test_a_changed_file_of_rules_is_followed_and_a_broken_one_keeps_the_last(files: Path) -> None:
    rules = files / "rules.yaml"
    rules.write_text("- say: one\n")
    async with up(files, "--model", f"scripted:{rules}") as upped:
        assert (await upped.post("/chat", {"message": "hi"}))[1]["response"] == "one"
        rules.write_text("- say: two\n")
        await upped.until_said("kagent/a reloaded", 10)
        assert (await upped.post("/chat", {"message": "hi"}))[1]["response"] == "two"
        rules.write_text("- sey: three\n")
        await upped.until_said("cannot be used", 10)
        assert (await upped.post("/chat", {"message": "hi"}))[1]["response"] == "two"
        assert "rules.yaml" in (await upped.get("/health"))["problems"][0]


@pytest.mark.requirement("deleted-data-dir")
@pytest.mark.parametrize("again", [False, True])
async def test_nothing_is_acknowledged_into_a_data_dir_that_was_deleted(files: Path, again: bool) -> None:
    async with up(files) as upped:
        assert (await upped.post("/chat", {"message": "one"}))[0] == 200
        shutil.rmtree(files / ".kadre")
        if again:  # a folder of that name is not the one that was there
            (files / ".kadre").mkdir()
        await upped.until_said("what it held is lost", 10)  # without being asked
        for path in ("/chat", "/runs"):
            status, answer = await upped.post(path, {"message": "two"})
            assert (status, answer["error"]["reason"]) == (503, "JournalGone")
            assert "start kadre up again" in answer["error"]["message"]
        assert "what it held is lost" in (await upped.get("/health"))["problems"][0]
        assert await upped.stop(signal.SIGINT) == 0


def replace(files: Path, agent: str) -> None:
    """Put another folder in the place of this one."""
    files.rename(files.with_name("away"))
    files.mkdir()
    (files / "b.yaml").write_text(agent)


@pytest.mark.requirement("reload-keeps-streams")
async def test_a_new_folder_whose_file_is_wrong_is_followed_until_it_is_right(files: Path, model: FaultyModel) -> None:
    right = AGENT.format(name="b", url=model.url, prompt="x")
    async with up(files) as upped:
        (files / "team").mkdir()
        (files / "team" / "b.yaml").write_text(right.replace("systemPrompt", "systemPromt"))
        await upped.until_said("cannot be used", 10)
        (files / "team" / "b.yaml").write_text(right)
        await upped.until_said("kagent/b added", 10)


@pytest.mark.requirement("reload-keeps-streams")
async def test_a_new_folder_is_followed_though_there_is_nothing_in_it_yet(files: Path, model: FaultyModel) -> None:
    async with up(files) as upped:
        await upped.until_it_watches(2)
        before = upped.watched()
        (files / "team").mkdir()
        await upped.until_it_watches(before + 1)
        (files / "team" / "b.yaml").write_text(AGENT.format(name="b", url=model.url, prompt="x"))
        await upped.until_said("kagent/b added", 10)


@pytest.mark.requirement("reload-keeps-streams")
async def test_the_env_of_the_folder_we_are_in_is_followed(files: Path) -> None:
    with_key = (
        (files / "a.yaml").read_text().replace("timeout: 1s", "apiKeySecretRef: {name: any, key: OPENAI_API_KEY}")
    )
    (files.parent / ".env").write_text("OPENAI_API_KEY=one\n")
    async with up(files.name, cwd=files.parent, OPENAI_API_KEY="") as upped:
        (files / "a.yaml").write_text(with_key)
        await upped.until_said("kagent/a reloaded", 10)
        (files.parent / ".env").unlink()
        await upped.until_said("cannot be used", 10)
        (files.parent / ".env").write_text("OPENAI_API_KEY=two\n")
        await upped.until_said("the files can be used again", 10)


@pytest.mark.requirement("reload-keeps-streams")
async def test_a_folder_that_another_took_the_place_of_is_followed_again(files: Path, model: FaultyModel) -> None:
    async with up(files) as upped:
        replace(files, AGENT.format(name="b", url=model.url, prompt="Be brief."))
        await upped.until_said("kagent/b added", 10)


def move(folder: Path, where: Path) -> None:
    folder.rename(where)


@pytest.mark.requirement("reload-keeps-streams")
async def test_a_folder_that_was_away_for_a_while_is_followed_again(files: Path, tmp_path: Path) -> None:
    away = tmp_path / "away"
    async with up(files, "--data-dir", tmp_path / "data") as upped:
        move(files, away)
        await upped.until_said("no such file or folder", 25)
        assert len((await upped.get("/agents"))["agents"]) == 1
        move(away, files)
        await upped.until_said("the files can be used again", 10)
        assert (await upped.get("/health"))["problems"] == []
        (files / "a.yaml").write_text((files / "a.yaml").read_text().replace("Be kind.", "Be brief."))
        await upped.until_said("kagent/a reloaded", 10)


@pytest.mark.requirement("command-line")
async def test_a_person_who_waits_for_files_to_be_read_is_told_so(tmp_path: Path, model: FaultyModel) -> None:
    pipe = tmp_path / "files" / "slow.yaml"
    pipe.parent.mkdir()
    os.mkfifo(pipe)
    async with up(pipe, "--data-dir", tmp_path / "data", ready=False) as upped:
        await upped.until_said("reading the files …")
        await asyncio.to_thread(pipe.write_text, AGENT.format(name="a", url=model.url, prompt="Be kind."))
        await upped.until_said("ready in")


async def test_it_ends_cleanly_on_ctrl_c(files: Path, model: FaultyModel) -> None:
    async with up(files) as upped:
        await upped.post("/chat", {"message": "hi"})
        code = await upped.stop(signal.SIGINT)
    assert code == 0
    assert "Traceback" not in upped.said
    assert "stopping" in upped.said


@pytest.mark.requirement("ends-cleanly")
async def test_a_second_ctrl_c_does_not_cut_short_what_the_first_began(files: Path, model: FaultyModel) -> None:
    model.does = "hang"
    async with up(files) as upped:
        asking = asyncio.create_task(upped.post("/chat", {"message": "hi"}))
        await asyncio.wait_for(model.asked.wait(), 10)
        upped.process.send_signal(signal.SIGINT)
        await upped.until_said("stopping")
        upped.process.send_signal(signal.SIGINT)
        status, _ = await asking
        code = await upped.stop(signal.SIGINT)
    assert status in {502, 503, 504}
    assert code == 0
    assert "Traceback" not in upped.said


async def test_what_cannot_start_says_why_and_how_to_mend_it(files: Path, tmp_path: Path) -> None:
    async def refused(*words: Any, **more: Any) -> str:
        async with up(*words, ready=False, **more) as upped:
            code = await asyncio.wait_for(upped.process.wait(), 20)
            await upped.stop()
            assert code == 1
            assert "Traceback" not in upped.said
            return upped.said

    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert f"use --port {port + 1}" in await refused(files, port=port)
    assert "no such file or folder" in await refused(tmp_path / "nowhere")
    (tmp_path / "bad.yaml").write_text("apiVersion: kagent.dev/v1alpha1\nkind: Agent\nmetadata: {name: x}\nspec: {}\n")
    assert "the agent has no model" in await refused(tmp_path / "bad.yaml")
    async with up(files):
        assert "uses" in await refused(files)
