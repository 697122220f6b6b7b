"""A model that costs next to nothing: canned answers over the OpenAI protocol, written straight to the socket.

It runs in its own process, on the load generator's core, so the cheaper it is the less it disturbs what is measured.
A request that offers tools and ends with a user's message is answered with one tool call, any other with text.
`GET /stats` tells what was asked so far. Run: `python -m benchmarks.mock_model --port P`.
"""

from __future__ import annotations

import argparse
import asyncio
import json
from typing import Any, cast

import msgspec
import uvloop

from benchmarks.scenarios import ANSWER, TOOL_TEXT

USAGE = {"prompt_tokens": 24, "completion_tokens": 16, "total_tokens": 40}


class _Named(msgspec.Struct):
    name: str


class _Tool(msgspec.Struct):
    function: _Named


class _Message(msgspec.Struct):
    role: str


class _StreamOptions(msgspec.Struct):
    include_usage: bool = False


class _Chat(msgspec.Struct):
    """As much of a request as the answer depends on."""

    messages: list[_Message]
    tools: list[_Tool] | None = None
    stream: bool | None = None
    stream_options: _StreamOptions | None = None


def _head(kind: str, framing: str) -> bytes:
    return f"HTTP/1.1 200 OK\r\ncontent-type: {kind}\r\n{framing}\r\n\r\n".encode()


def _json(value: dict[str, Any]) -> bytes:
    body = json.dumps(value).encode()
    return _head("application/json", f"content-length: {len(body)}") + body


def _plain(message: dict[str, Any], finish: str) -> bytes:
    choice = {"index": 0, "message": {"role": "assistant", **message}, "finish_reason": finish}
    answer = {"id": "chatcmpl-1", "object": "chat.completion", "created": 1, "model": "mock", "choices": [choice]}
    return _json({**answer, "usage": USAGE})


def _chunk(choices: list[dict[str, Any]], **more: Any) -> bytes:
    chunk = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1, "model": "mock", "choices": choices}
    data = f"data: {json.dumps({**chunk, **more})}\n\n".encode()
    return b"%x\r\n%b\r\n" % (len(data), data)


def _delta(delta: dict[str, Any], finish: str | None = None) -> bytes:
    return _chunk([{"index": 0, "delta": delta, "finish_reason": finish}])


def _calls(name: str, **more: Any) -> list[dict[str, Any]]:
    function = {"name": name, "arguments": json.dumps({"text": TOOL_TEXT})}
    return [{**more, "id": "call_1", "type": "function", "function": function}]


STREAM_HEAD = _head("text/event-stream", "transfer-encoding: chunked")
STREAM_USAGE = _chunk([], usage=USAGE)
STREAM_DONE = b"e\r\ndata: [DONE]\n\n\r\n0\r\n\r\n"
WORDS = [ANSWER.split()[0], *(f" {word}" for word in ANSWER.split()[1:])]
TEXT = _plain({"content": ANSWER}, "stop")
TEXT_PIECES = [_delta({"role": "assistant", "content": ""}), *(_delta({"content": word}) for word in WORDS)]


class MockModel:
    """What to answer, and the count of what was asked."""

    def __init__(self) -> None:
        self.stats = {"calls": 0, "streamed": 0, "messages": 0}
        self._tool_calls: dict[str, bytes] = {}
        self._decode = msgspec.json.Decoder(_Chat).decode

    def answer(self, body: bytes) -> list[bytes]:
        """The pieces to send, each in a write of its own."""
        chat = self._decode(body)
        self.stats["calls"] += 1
        self.stats["messages"] += len(chat.messages)
        tool = chat.tools[0].function.name if chat.tools and chat.messages[-1].role == "user" else ""
        if not chat.stream:
            return [self._tool_call(tool) if tool else TEXT]
        self.stats["streamed"] += 1
        pieces = [_delta({"role": "assistant", "tool_calls": _calls(tool, index=0)})] if tool else TEXT_PIECES
        usage = [STREAM_USAGE] if chat.stream_options and chat.stream_options.include_usage else []
        return [STREAM_HEAD, *pieces, _delta({}, "tool_calls" if tool else "stop"), *usage, STREAM_DONE]

    def _tool_call(self, name: str) -> bytes:
        if name not in self._tool_calls:
            self._tool_calls[name] = _plain({"content": None, "tool_calls": _calls(name)}, "tool_calls")
        return self._tool_calls[name]


class _Connection(asyncio.Protocol):
    """HTTP/1.1 with keep-alive and content-length, as every client measured here speaks it; no pipelining."""

    def __init__(self, model: MockModel) -> None:
        self._model = model
        self._buffer = bytearray()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop's are not of that class

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        end = self._buffer.find(b"\r\n\r\n")
        if end < 0:
            return
        head = bytes(self._buffer[:end]).lower()
        at = head.find(b"content-length:")
        length = int(head[at + 15 :].split(b"\r\n", 1)[0]) if at >= 0 else 0
        if len(self._buffer) < end + 4 + length:
            return
        body = bytes(self._buffer[end + 4 : end + 4 + length])
        self._buffer.clear()
        if head.startswith(b"get"):
            self._transport.write(_json(self._model.stats))
        else:
            self._send(self._model.answer(body), 0)

    def _send(self, pieces: list[bytes], at: int) -> None:
        """One piece in each turn of the loop, so that a stream arrives in pieces, as a model's does."""
        if self._transport.is_closing():
            return
        self._transport.write(pieces[at])
        if at + 1 < len(pieces):
            asyncio.get_running_loop().call_soon(self._send, pieces, at + 1)


async def _serve(port: int) -> None:
    model = MockModel()
    server = await asyncio.get_running_loop().create_server(lambda: _Connection(model), "127.0.0.1", port, backlog=2048)
    await server.serve_forever()


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, required=True)
    uvloop.run(_serve(parser.parse_args().port))
