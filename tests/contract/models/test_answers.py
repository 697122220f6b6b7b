"""Every API's answers come out alike, streamed or not: text, calls, usage and how they ended."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator

import pytest

from kadre.engine.messages import Message, ToolCall
from kadre.engine.models.port import ModelRequest, Reply, TextDelta
from tests.contract.models.apis import USAGE
from tests.contract.models.conftest import ADD, HELLO, KEY, Site, call, dumped

both = pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])


@both
async def test_a_text_comes_with_its_usage(site: Site, stream: bool) -> None:
    site.answers = [site.well]
    texts, reply = await call(site.model(), stream=stream)
    assert texts == (["Hello", " there"] if stream else [])
    assert reply == Reply(Message("assistant", "Hello there"), USAGE, "stop")


@both
async def test_a_tool_call_comes_with_its_arguments(site: Site, stream: bool) -> None:
    site.answers = [site.well]
    _, reply = await call(site.model(), stream=stream, tools=ADD)
    (made,) = reply.message.tool_calls
    assert (made.id, made.name, json.loads(made.arguments)) == ("c1", "add", {"a": 1})
    assert (reply.usage, reply.finish_reason) == (USAGE, "tool_calls")


@pytest.mark.parametrize("mode", ["shim", "auto"])
async def test_a_model_without_tool_calls_is_asked_for_them_in_words(site: Site, mode: str) -> None:
    refused = [site.refusing(400, "a-model does not support tools")] if mode == "auto" else []
    site.answers = [*refused, site.calling_in_words]
    _, reply = await call(site.chosen(tool_calls=mode), stream=False, tools=ADD)
    (made,) = reply.message.tool_calls
    assert (made.name, json.loads(made.arguments)) == ("add", {"a": 1})
    assert not site.bodies[-1].keys() & {"tools", "toolConfig"}
    assert "- add(): Add numbers" in dumped(site.bodies[-1])


@both
async def test_a_conversation_with_calls_goes_out_whole(site: Site, stream: bool) -> None:
    site.answers = [site.well]
    asked = Message("assistant", "", (ToolCall("c1", "add", '{"a": 1}'),))
    said = (Message("system", "be brief"), *HELLO, asked, Message("tool", "the sum", tool_call_id="c1", name="add"))
    async for _ in site.model().call(ModelRequest(said, ADD, stream)):
        pass
    text = dumped(site.bodies)
    assert all(part in text for part in ("be brief", "hello", "c1", "the sum", "Add numbers"))


async def test_what_has_been_said_is_shown_before_the_rest_has_come(site: Site) -> None:
    site.answers = [site.pieces(site.api.first_piece(), then="hang")]
    pieces = site.model().call(ModelRequest(HELLO, stream=True))
    assert isinstance(pieces, AsyncGenerator)
    assert await anext(pieces) == TextDelta("Hello")
    await pieces.aclose()


@both
async def test_a_text_of_a_megabyte_goes_both_ways(site: Site, stream: bool) -> None:
    site.answers = [site.well]
    long = "word " * 250_000
    async for _ in site.model().call(ModelRequest((Message("user", long),), (), stream)):
        pass
    assert long in dumped(site.bodies)


@both
async def test_many_calls_at_once_each_get_their_answer(site: Site, stream: bool) -> None:
    site.answers = [site.well]
    model = site.model()
    answers = await asyncio.gather(*(call(model, stream=stream) for _ in range(40)))
    assert {reply.message.content for _, reply in answers} == {"Hello there"}


async def test_sampling_fields_headers_and_key_are_on_the_wire(site: Site) -> None:
    site.answers = [site.well]
    params = {"temperature": 0.25, "max_tokens": 77, "top_p": 0.875, "stop": ["END"]}
    await call(site.model(params=params, headers={"X-Team": "blue"}), stream=False)
    text = dumped(site.bodies)
    assert all(json.dumps(value) in text for value in params.values())
    headers = site.asked[0].headers
    assert headers["X-Team"] == "blue"
    assert KEY in (headers.get("Authorization", "") + headers.get("x-api-key", ""))


async def test_a_key_that_changes_is_used_from_the_next_call_on(site: Site) -> None:
    site.answers = [site.well]
    model = site.model()
    await call(model, stream=False)
    site.secrets.values["API_KEY"] = "another-key"
    await call(model, stream=False)
    sent = [dumped(dict(request.headers)) for request in site.asked]
    assert (KEY in sent[0], KEY in sent[1], "another-key" in sent[1]) == (True, False, True)


async def test_connections_are_used_again(site: Site) -> None:
    site.answers = [site.well]
    model = site.model()
    for stream in (True, False, True, False):
        await call(model, stream=stream)
    assert len({id(request.transport) for request in site.asked}) == 1
