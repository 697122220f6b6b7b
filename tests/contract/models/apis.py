"""What each API says when it answers `Hello there`, calls the tool `add`, or fails: by its documentation."""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from typing import Any, ClassVar

from aiohttp import web

from kadre.engine.messages import Usage
from kadre.engine.models.anthropic import AnthropicModel
from kadre.engine.models.bedrock import BedrockModel
from kadre.engine.models.http import Wire
from kadre.engine.models.openai import OpenAIModel
from kadre.engine.models.port import Model
from kadre.engine.secrets import SecretReader
from kadre.plan.types import ModelPlan, Provider
from tests.support.eventstream import event, exception

USAGE = Usage(12, 5, 17)
"""What every answer is said to have cost."""


class Api(ABC):
    """One API's wire form."""

    provider: ClassVar[Provider]
    model: ClassVar[str] = "a-model"
    base: ClassVar[str] = "/v1"
    region: ClassVar[str] = ""
    stream_type: ClassVar[str] = "text/event-stream"
    garbage: ClassVar[bytes] = b"data: {oops\n\n"
    """A piece of a stream that cannot be read."""

    @abstractmethod
    def adapter(self, plan: ModelPlan, secrets: SecretReader, wire: Wire) -> Model:
        """The adapter under test."""

    def streams(self, request: web.Request, body: Any) -> bool:
        """Whether the request asks for a stream."""
        return bool(body.get("stream"))

    @abstractmethod
    def said(self, text: str = "Hello there") -> Any:
        """An answer with that text."""

    @abstractmethod
    def called(self) -> Any:
        """An answer that calls `add` with {"a": 1}."""

    @abstractmethod
    def said_pieces(self) -> list[bytes]:
        """The same answer streamed, in pieces; the text comes in two."""

    @abstractmethod
    def called_pieces(self) -> list[bytes]:
        """The call streamed."""

    @abstractmethod
    def first_piece(self) -> bytes:
        """The start of a stream, with the text `Hello` in it."""

    def error(self, said: str) -> Any:
        """An error's body."""
        return {"error": {"message": said, "type": "some_error"}}

    @abstractmethod
    def overloaded(self) -> bytes:
        """A piece of a stream that says that the model is overloaded."""


def sse(data: Any, name: str = "") -> bytes:
    """A server-sent event."""
    head = f"event: {name}\n" if name else ""
    return f"{head}data: {data if isinstance(data, str) else json.dumps(data)}\n\n".encode()


class OpenAI(Api):
    """Chat Completions."""

    provider = "openai"
    usage: ClassVar[Any] = {"prompt_tokens": 12, "completion_tokens": 5, "total_tokens": 17}

    def adapter(self, plan: ModelPlan, secrets: SecretReader, wire: Wire) -> Model:
        return OpenAIModel(plan, secrets, wire)

    def _answer(self, message: Any, finish: str) -> Any:
        return {"choices": [{"index": 0, "message": message, "finish_reason": finish}], "usage": self.usage}

    def _chunk(self, delta: Any, finish: str | None = None) -> bytes:
        return sse({"choices": [{"index": 0, "delta": delta, "finish_reason": finish}], "usage": None})

    def said(self, text: str = "Hello there") -> Any:
        return self._answer({"role": "assistant", "content": text}, "stop")

    def called(self) -> Any:
        call = {"id": "c1", "type": "function", "function": {"name": "add", "arguments": '{"a": 1}'}}
        return self._answer({"role": "assistant", "content": None, "tool_calls": [call]}, "tool_calls")

    def _end(self, finish: str) -> list[bytes]:
        return [self._chunk({}, finish), sse({"choices": [], "usage": self.usage}), sse("[DONE]")]

    def said_pieces(self) -> list[bytes]:
        return [self.first_piece(), self._chunk({"content": " there"}), *self._end("stop")]

    def called_pieces(self) -> list[bytes]:
        begun = {"index": 0, "id": "c1", "type": "function", "function": {"name": "add", "arguments": ""}}
        rest = [{"index": 0, "function": {"arguments": text}} for text in ('{"a"', ": 1}")]
        return [*(self._chunk({"tool_calls": [call]}) for call in [begun, *rest]), *self._end("tool_calls")]

    def first_piece(self) -> bytes:
        return self._chunk({"role": "assistant", "content": "Hello"})

    def overloaded(self) -> bytes:
        return sse({"error": {"message": "overloaded", "code": 503}})


class Anthropic(Api):
    """Messages."""

    provider = "anthropic"

    def adapter(self, plan: ModelPlan, secrets: SecretReader, wire: Wire) -> Model:
        return AnthropicModel(plan, secrets, wire)

    def _answer(self, block: Any, reason: str) -> Any:
        usage = {"input_tokens": 12, "output_tokens": 5}
        return {"type": "message", "role": "assistant", "content": [block], "stop_reason": reason, "usage": usage}

    def _event(self, name: str, **fields: Any) -> bytes:
        return sse({"type": name, **fields}, name)

    def _start(self) -> bytes:
        usage = {"input_tokens": 12, "output_tokens": 1}
        return self._event("message_start", message={"role": "assistant", "content": [], "usage": usage})

    def _end(self, reason: str) -> list[bytes]:
        return [
            self._event("content_block_stop", index=0),
            self._event("message_delta", delta={"stop_reason": reason}, usage={"output_tokens": 5}),
            self._event("message_stop"),
        ]

    def said(self, text: str = "Hello there") -> Any:
        return self._answer({"type": "text", "text": text}, "end_turn")

    def called(self) -> Any:
        return self._answer({"type": "tool_use", "id": "c1", "name": "add", "input": {"a": 1}}, "tool_use")

    def said_pieces(self) -> list[bytes]:
        more = self._event("content_block_delta", index=0, delta={"type": "text_delta", "text": " there"})
        return [self.first_piece(), self._event("ping"), more, *self._end("end_turn")]

    def called_pieces(self) -> list[bytes]:
        block = {"type": "tool_use", "id": "c1", "name": "add", "input": {}}
        parts = [{"type": "input_json_delta", "partial_json": text} for text in ('{"a"', ": 1}")]
        return [
            self._start(),
            self._event("content_block_start", index=0, content_block=block),
            *(self._event("content_block_delta", index=0, delta=part) for part in parts),
            *self._end("tool_use"),
        ]

    def first_piece(self) -> bytes:
        block = self._event("content_block_start", index=0, content_block={"type": "text", "text": ""})
        text = self._event("content_block_delta", index=0, delta={"type": "text_delta", "text": "Hello"})
        return self._start() + block + text

    def overloaded(self) -> bytes:
        return self._event("error", error={"type": "overloaded_error", "message": "Overloaded"})


class Bedrock(Api):
    """Converse."""

    provider = "bedrock"
    model = "anthropic.a-model-v1:0"
    base = ""
    region = "eu-west-1"
    stream_type = "application/vnd.amazon.eventstream"
    garbage = b"\0" * 64
    usage: ClassVar[Any] = {"inputTokens": 12, "outputTokens": 5, "totalTokens": 17}

    def adapter(self, plan: ModelPlan, secrets: SecretReader, wire: Wire) -> Model:
        return BedrockModel(plan, secrets, wire)

    def streams(self, request: web.Request, body: Any) -> bool:
        return request.path.endswith("/converse-stream")

    def _answer(self, block: Any, reason: str) -> Any:
        message = {"role": "assistant", "content": [block]}
        return {"output": {"message": message}, "stopReason": reason, "usage": self.usage, "metrics": {"latencyMs": 1}}

    def _end(self, reason: str) -> list[bytes]:
        return [
            event("contentBlockStop", contentBlockIndex=0),
            event("messageStop", stopReason=reason),
            event("metadata", usage=self.usage, metrics={"latencyMs": 1}),
        ]

    def said(self, text: str = "Hello there") -> Any:
        return self._answer({"text": text}, "end_turn")

    def called(self) -> Any:
        return self._answer({"toolUse": {"toolUseId": "c1", "name": "add", "input": {"a": 1}}}, "tool_use")

    def said_pieces(self) -> list[bytes]:
        more = event("contentBlockDelta", contentBlockIndex=0, delta={"text": " there"})
        return [self.first_piece(), more, *self._end("end_turn")]

    def called_pieces(self) -> list[bytes]:
        start = {"toolUse": {"toolUseId": "c1", "name": "add"}}
        parts = ('{"a"', ": 1}")
        return [
            event("messageStart", role="assistant"),
            event("contentBlockStart", contentBlockIndex=0, start=start),
            *(event("contentBlockDelta", contentBlockIndex=0, delta={"toolUse": {"input": part}}) for part in parts),
            *self._end("tool_use"),
        ]

    def first_piece(self) -> bytes:
        text = event("contentBlockDelta", contentBlockIndex=0, delta={"text": "Hello"})
        return event("messageStart", role="assistant") + text

    def error(self, said: str) -> Any:
        return {"message": said}

    def overloaded(self) -> bytes:
        return exception("throttlingException", "slow down")
