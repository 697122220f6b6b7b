"""The OpenAI door, judged by OpenAI's own client."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import openai
import pytest

from kadre.base.errors import ModelError
from kadre.engine.memory.sqlite import SqliteJournal
from kadre.engine.messages import Message
from kadre.plan.types import Limits
from tests.support.scene import Asking, Scene
from tests.support.serving import serving


@pytest.fixture
async def client(url: str) -> AsyncIterator[openai.AsyncOpenAI]:
    async with openai.AsyncOpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0) as made:
        yield made


async def test_a_completion_is_a_turn_of_the_agent(scene: Scene, client: openai.AsyncOpenAI) -> None:
    await scene.says("hello")
    reply = await client.chat.completions.create(model="a", messages=[{"role": "user", "content": "hi"}])
    assert reply.choices[0].message.content == "hello"
    assert reply.choices[0].finish_reason == "stop"
    assert reply.usage is not None
    assert reply.usage.total_tokens == 12


async def test_without_a_session_the_clients_messages_are_the_history(scene: Scene, client: openai.AsyncOpenAI) -> None:
    model = await scene.says("hello", system_prompt="be kind")
    await client.chat.completions.create(
        model="a",
        messages=[
            {"role": "user", "content": "one"},
            {"role": "assistant", "content": "two"},
            {"role": "user", "content": [{"type": "text", "text": "three"}]},
        ],
    )
    assert model.requests[0].messages == (
        Message("system", "be kind"),
        Message("user", "one"),
        Message("assistant", "two"),
        Message("user", "three"),
    )


async def test_with_a_session_only_the_last_message_is_taken(scene: Scene, client: openai.AsyncOpenAI) -> None:
    model = await scene.says("hello", "again")
    for text in ("one", "two"):
        await client.chat.completions.create(
            model="a",
            messages=[{"role": "user", "content": "made up"}, {"role": "user", "content": text}],
            extra_headers={"X-Session-ID": "s1"},
        )
    assert [message.content for message in model.requests[1].messages] == ["one", "hello", "two"]


async def test_a_stream_has_the_words_the_end_and_the_usage(scene: Scene, client: openai.AsyncOpenAI) -> None:
    await scene.says("one two three")
    stream = await client.chat.completions.create(
        model="a",
        messages=[{"role": "user", "content": "hi"}],
        stream=True,
        stream_options={"include_usage": True},
    )
    chunks = [chunk async for chunk in stream]
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices) == "one two three"
    assert [chunk.choices[0].finish_reason for chunk in chunks if chunk.choices][-1] == "stop"
    assert chunks[-1].usage is not None
    assert chunks[-1].usage.total_tokens == 12


async def test_models_are_the_agents(scene: Scene, client: openai.AsyncOpenAI) -> None:
    await scene.says("x", name="a")
    await scene.says("y", name="b")
    assert [model.id async for model in await client.models.list()] == ["a", "b"]


async def test_an_agent_has_its_own_address_too(scene: Scene, url: str) -> None:
    await scene.says("x", name="a")
    await scene.says("y", name="b")
    for base in (f"{url}/b/v1", f"{url}/default/b/v1"):
        scene.models["b"].turns = ["y"]
        async with openai.AsyncOpenAI(base_url=base, api_key="none") as client:
            reply = await client.chat.completions.create(model="any", messages=[{"role": "user", "content": "hi"}])
        assert reply.choices[0].message.content == "y"


async def test_refusals_are_the_clients_own_exceptions(scene: Scene, client: openai.AsyncOpenAI) -> None:
    await scene.says("x", "y", limits=Limits(requests_per_minute=1))
    with pytest.raises(openai.NotFoundError, match="there is no agent 'nope'"):
        await client.chat.completions.create(model="nope", messages=[{"role": "user", "content": "hi"}])
    with pytest.raises(openai.BadRequestError, match="last message"):
        await client.chat.completions.create(model="a", messages=[{"role": "assistant", "content": "hi"}])
    await client.chat.completions.create(model="a", messages=[{"role": "user", "content": "hi"}])
    with pytest.raises(openai.RateLimitError):
        await client.chat.completions.create(model="a", messages=[{"role": "user", "content": "hi"}])


@pytest.mark.parametrize("own", [True, False])
@pytest.mark.parametrize(
    ("headers", "kind", "code"),
    [
        ({"Origin": "https://evil.example"}, openai.PermissionDeniedError, "ForeignOrigin"),
        ({"Host": "rebound.example"}, openai.PermissionDeniedError, "ForeignHost"),
        ({"X-Forwarded-For": "10.0.0.1"}, openai.AuthenticationError, "NotLocal"),
    ],
)
async def test_who_may_not_come_in_reads_it_in_openais_shape(
    scene: Scene, url: str, headers: dict[str, str], kind: type[openai.APIStatusError], code: str, own: bool
) -> None:
    await scene.says("never")
    base = f"{url}/default/a/v1" if own else f"{url}/v1"
    async with openai.AsyncOpenAI(base_url=base, api_key="none", max_retries=0, default_headers=headers) as client:
        with pytest.raises(kind) as completing:
            await client.chat.completions.create(model="a", messages=[{"role": "user", "content": "hi"}])
        with pytest.raises(kind) as listing:
            await client.models.list()
    for refused in (completing.value, listing.value):
        assert (refused.code, refused.type) == (code, "invalid_request_error")


async def test_what_is_too_large_or_not_served_reads_in_openais_shape(
    scene: Scene, client: openai.AsyncOpenAI, url: str
) -> None:
    await scene.says("never")
    with pytest.raises(openai.APIStatusError, match="larger than 10 MiB") as large:
        await client.chat.completions.create(model="a", messages=[{"role": "user", "content": "x" * 11 * 1024 * 1024}])
    assert (large.value.status_code, large.value.code) == (413, "BodyTooLarge")
    for base in (f"{url}/v1", f"{url}/a/v1"):
        async with openai.AsyncOpenAI(base_url=base, api_key="none", max_retries=0) as other:
            with pytest.raises(openai.NotFoundError, match="nothing is served at") as nowhere:
                await other.embeddings.create(model="a", input="x")
            with pytest.raises(openai.APIStatusError) as method:
                await other.get("/chat/completions", cast_to=object)
        assert nowhere.value.code == "NoSuchPath"
        assert (method.value.status_code, method.value.code) == (405, "MethodNotAllowed")


async def test_kadres_own_addresses_keep_their_shape_whatever_an_agent_is_called(scene: Scene, url: str) -> None:
    await scene.says("never")
    async with aiohttp.ClientSession(url) as http:
        for path in ("/agents/v1/chat", "/agents/v1/x/chat", "/runs/v1/events", "/sessions/v1", "/nope"):
            async with http.get(path, headers={"X-Forwarded-For": "10.0.0.1"}) as answer:
                assert (answer.status, (await answer.json())["error"]["reason"]) == (401, "NotLocal")


@pytest.mark.parametrize("stream", [True, False])
async def test_a_rate_limited_model_is_the_clients_own_exception_with_retry_after(
    scene: Scene, client: openai.AsyncOpenAI, stream: bool
) -> None:
    await scene.says(ModelError("slow down", reason="ModelRateLimited", retry_after=7))
    with pytest.raises(openai.RateLimitError, match="slow down") as limited:
        await client.chat.completions.create(model="a", messages=[{"role": "user", "content": "hi"}], stream=stream)
    assert limited.value.response.headers["Retry-After"] == "7"


@pytest.mark.parametrize("stream", [True, False])
async def test_a_run_that_fails_is_an_error_status_streamed_or_not(
    scene: Scene, client: openai.AsyncOpenAI, stream: bool
) -> None:
    await scene.says(ModelError("the model is away", reason="ModelUnavailable"))
    with pytest.raises(openai.InternalServerError, match="the model is away"):
        await client.chat.completions.create(model="a", messages=[{"role": "user", "content": "hi"}], stream=stream)


@pytest.mark.parametrize("stream", [True, False])
async def test_a_run_that_cannot_be_recorded_is_503_with_the_time_to_come_back(tmp_path: Path, stream: bool) -> None:
    journal = await SqliteJournal.open(tmp_path)
    scene, go = Scene(journal), asyncio.Event()
    model = await scene.says(go, [("nothing", {"text": "x" * 200_000})])  # large, and no text to stream
    async with (
        serving(scene) as url,
        openai.AsyncOpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0) as client,
    ):
        request = asyncio.create_task(
            client.chat.completions.create(model="a", messages=[{"role": "user", "content": "hi"}], stream=stream)
        )
        await asyncio.wait_for(model.called.wait(), 5)
        pages = journal._db.execute("PRAGMA page_count").fetchone()[0]
        journal._db.execute(f"PRAGMA max_page_count = {pages}")  # a full disk
        go.set()
        with pytest.raises(openai.InternalServerError, match="make room") as refused:
            await asyncio.wait_for(request, 20)
        journal._db.execute("PRAGMA max_page_count = 1000000")
    assert (refused.value.status_code, refused.value.response.headers["Retry-After"]) == (503, "5")


@pytest.mark.parametrize("stream", [True, False])
async def test_a_waiting_run_says_what_it_waits_for_and_stops(
    scene: Scene, client: openai.AsyncOpenAI, url: str, stream: bool
) -> None:
    def write(text: str) -> str:
        """Write it down."""
        return text

    await scene.says([("write", {"text": "x"})], "done", tools=[Asking(write)])
    if stream:
        chunks = await client.chat.completions.create(
            model="a", messages=[{"role": "user", "content": "hi"}], stream=True
        )
        text = "".join([chunk.choices[0].delta.content or "" async for chunk in chunks])
    else:
        reply = await client.chat.completions.create(model="a", messages=[{"role": "user", "content": "hi"}])
        text = reply.choices[0].message.content or ""
    assert 'write({"text":"x"})' in text
    assert f"POST {url}/runs/run-" in text


@pytest.mark.parametrize("stream", [True, False])
async def test_a_client_that_leaves_stops_the_generation(
    scene: Scene, client: openai.AsyncOpenAI, stream: bool
) -> None:
    model = await scene.says(asyncio.Event())
    request = asyncio.create_task(
        client.chat.completions.create(model="a", messages=[{"role": "user", "content": "hi"}], stream=stream)
    )
    await asyncio.wait_for(model.called.wait(), 5)
    (run,) = await scene.journal.runs()
    live = await scene.host.open(run.run_id)
    request.cancel()
    finished = await asyncio.wait_for(live.wait(), 5)
    assert finished.status == "cancelled"


async def test_a_client_that_leaves_in_the_middle_of_a_stream_stops_it(scene: Scene, url: str) -> None:
    await scene.says([("nothing", {})], asyncio.Event(), name="a")
    model = scene.models["a"]
    model.words = ["once", "upon"]
    body = {"model": "a", "stream": True, "messages": [{"role": "user", "content": "hi"}]}
    async with aiohttp.ClientSession() as http, http.post(f"{url}/v1/chat/completions", json=body) as answer:
        await answer.content.readuntil(b"upon")
        live = await scene.host.open(answer.headers["X-Run-ID"])
        assert not live.ended
    finished = await asyncio.wait_for(live.wait(), 5)
    assert finished.status == "cancelled"


async def test_an_agent_named_like_a_route_has_no_short_address(scene: Scene, url: str) -> None:
    await scene.says("x", name="runs")
    body = {"messages": [{"role": "user", "content": "hi"}]}
    async with aiohttp.ClientSession(url) as http:
        async with http.post("/runs/v1/chat/completions", json=body) as answer:
            assert answer.status == 404
            assert (await answer.json())["error"]["code"] == "ReservedName"
        async with http.post("/default/runs/v1/chat/completions", json=body) as answer:
            assert answer.status == 200
