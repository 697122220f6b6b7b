"""The real model that Kadre carries: it starts, calls tools, answers, and comes back when it dies."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path
from urllib.parse import urlsplit

import aiohttp
import pytest

from kadre.base.errors import ModelError
from kadre.engine.messages import Message, ToolSpec
from kadre.engine.models.local import Embedded, LocalModel
from kadre.engine.models.local_server import WEIGHTS
from kadre.engine.models.port import ModelRequest, Reply, TextDelta
from kadre.plan.types import ModelPlan
from tests.contract.tools.conftest import until

pytestmark = [pytest.mark.needs("local-model"), pytest.mark.timeout(180)]

ECHO = ToolSpec(
    name="echo",
    description="Give the text back.",
    parameters={"type": "object", "properties": {"text": {"type": "string"}}, "required": ["text"]},
)
SYSTEM = Message("system", "You are a helpful assistant. Use the echo tool when asked to repeat something.")


@pytest.fixture
async def embedded() -> Embedded:
    return Embedded()


@pytest.fixture
async def model(embedded: Embedded) -> AsyncIterator[LocalModel]:
    async with aiohttp.ClientSession() as http:
        made = LocalModel(ModelPlan(provider="local", model="smollm2:135m"), http, embedded)
        yield made
        await made.aclose()


async def reply(model: LocalModel, *messages: Message, stream: bool = False) -> tuple[Reply, str]:
    streamed, last = "", None
    async for piece in model.call(ModelRequest((SYSTEM, *messages), (ECHO,), stream)):
        if isinstance(piece, TextDelta):
            streamed += piece.text
        else:
            last = piece
    assert last is not None
    return last, streamed


async def echoed(model: LocalModel, said: str) -> tuple[str, str]:
    """What the tool was asked to echo, and the answer after it did."""
    user = Message("user", said)
    first, _ = await reply(model, user)
    (call,) = first.message.tool_calls
    assert call.name == "echo"
    text = json.loads(call.arguments)["text"]
    result = Message("tool", text, tool_call_id=call.id, name="echo")
    last, _ = await reply(model, user, first.message, result)
    assert not last.message.tool_calls
    return text, last.message.content


@pytest.mark.requirement("quickstart-reliable", "local-model", "tool-shim")
async def test_the_quickstart_calls_its_tool_twenty_times_of_twenty(model: LocalModel) -> None:
    for _ in range(20):
        text, answer = await echoed(model, "Please repeat: hello")
        assert text == "hello"
        assert answer.strip('".! ').lower() == "hello"


@pytest.mark.requirement("tool-shim")
@pytest.mark.parametrize(
    ("said", "text"),
    [
        ("Repeat after me: good morning", "good morning"),
        ("Please repeat: good morning, world", "good morning, world"),
        ("echo the text abc", "abc"),
    ],
)
async def test_it_repeats_what_it_is_asked_to(model: LocalModel, said: str, text: str) -> None:
    asked, answer = await echoed(model, said)
    assert asked.lower() == text  # which letters are large depends on what it computed before
    assert text in answer.lower()


@pytest.mark.requirement("local-model")
async def test_it_answers_where_no_tool_is_needed_and_counts_its_tokens(model: LocalModel) -> None:
    answer, streamed = await reply(model, Message("user", "What is the capital of France?"), stream=True)
    assert "Paris" in answer.message.content
    assert streamed == answer.message.content
    assert answer.usage.completion_tokens > 0


@pytest.mark.requirement("tool-shim")
async def test_a_greeting_calls_no_tool(model: LocalModel) -> None:
    answer, _ = await reply(model, Message("user", "Hello!"))
    assert not answer.message.tool_calls
    assert answer.message.content


@pytest.mark.requirement("local-model")
async def test_more_questions_than_it_works_on_at_once_wait_for_their_turn(model: LocalModel) -> None:
    asked = [reply(model, Message("user", "What is the capital of France?")) for _ in range(6)]
    assert all("Paris" in answer.message.content for answer, _ in await asyncio.gather(*asked))


@pytest.mark.requirement("local-model")
async def test_a_process_that_dies_while_it_answers_is_told_of(model: LocalModel, embedded: Embedded) -> None:
    async def read() -> None:
        async for piece in model.call(ModelRequest((Message("user", "Write a poem about rain."),), stream=True)):
            assert isinstance(piece, TextDelta)
            if embedded.pid is not None:
                os.kill(embedded.pid, signal.SIGKILL)
                await embedded.ended()

    with pytest.raises(ModelError, match="process ended while it answered: it was ended by SIGKILL"):
        await read()


@pytest.mark.requirement("local-model")
async def test_questions_it_died_over_before_a_word_was_out_are_asked_again(
    model: LocalModel, embedded: Embedded
) -> None:
    await model.start()
    before = embedded.pid
    assert before is not None
    asked = [asyncio.create_task(reply(model, Message("user", "What is the capital of France?"))) for _ in range(3)]
    await until(embedded.turn.locked)  # it works on all it can
    os.kill(before, signal.SIGKILL)
    assert all("Paris" in answer.message.content for answer, _ in await asyncio.gather(*asked))
    assert embedded.pid != before


def package(folder: Path, weights: bytes | None) -> str:
    """A package of the weights' name, with such weights."""
    inside = folder / WEIGHTS[0]
    inside.mkdir()
    (inside / "__init__.py").touch()
    if weights is not None:
        (inside / WEIGHTS[1]).write_bytes(weights)
    return str(folder)


@pytest.mark.requirement("local-model")
async def test_weights_that_are_spoilt_are_named_with_what_to_do(
    model: LocalModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", package(tmp_path, b"not a model"))
    with pytest.raises(ModelError, match=rf"{WEIGHTS[1]}.*--force-reinstall 'kadre\[local\]'"):
        await model.start()


@pytest.mark.requirement("local-model")
async def test_weights_that_are_missing_are_named_with_what_to_do(
    model: LocalModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(package(tmp_path, None))
    with pytest.raises(ModelError, match=rf"{WEIGHTS[1]}.*--force-reinstall 'kadre\[local\]'"):
        await model.start()


PARENT = """
import asyncio
from kadre.engine.models.local import Embedded

async def main():
    embedded = Embedded()
    print((await embedded.serving()).address, flush=True)
    await asyncio.Event().wait()

asyncio.run(main())
"""


@pytest.mark.requirement("local-model")
def test_its_process_ends_when_ours_is_killed() -> None:
    with subprocess.Popen([sys.executable, "-c", PARENT], stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        url = urlsplit(parent.stdout.readline().strip())
        assert url.hostname is not None
        assert url.port is not None
        address = (url.hostname, url.port)
        with socket.create_connection(address, timeout=10) as connection:
            parent.kill()
            await_end(connection)
    with suppress(ConnectionRefusedError):
        for _ in range(100):  # its sockets are closed one after the other
            with socket.create_connection(address, timeout=10) as connection:
                await_end(connection)
        pytest.fail("it still serves")


def await_end(connection: socket.socket) -> None:
    """Wait until the other side has closed the connection."""
    with suppress(ConnectionResetError):
        assert connection.recv(1) == b""


@pytest.mark.requirement("local-model")
async def test_a_process_that_was_killed_is_started_again(model: LocalModel, embedded: Embedded) -> None:
    await model.start()
    before = embedded.pid
    assert before is not None
    os.kill(before, signal.SIGKILL)
    await embedded.ended()
    answer, _ = await reply(model, Message("user", "What is the capital of France?"))
    assert "Paris" in answer.message.content
    assert embedded.pid != before


@pytest.mark.requirement("local-model")
async def test_its_process_ends_with_the_last_model_that_uses_it(embedded: Embedded) -> None:
    async with aiohttp.ClientSession() as http:
        plan = ModelPlan(provider="local", model="smollm2:135m")
        one, two = LocalModel(plan, http, embedded), LocalModel(plan, http, embedded)
        await one.start()
        pid = embedded.pid
        assert pid is not None
        await one.aclose()
        os.kill(pid, 0)
        await two.aclose()
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)
