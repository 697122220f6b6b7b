"""Models behind OpenAI's Chat Completions API: OpenAI itself, Ollama, vLLM, GPUStack, and whatever speaks it.

Endpoints differ in what they refuse. What one refuses once is remembered for as long as the model lives: the option
that asks for usage in a stream, and `max_tokens` where a newer model wants `max_completion_tokens`.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping
from typing import Any

from kadre.base.errors import ModelError
from kadre.engine import sse
from kadre.engine.models import http, keys, openai_wire
from kadre.engine.models.port import ModelRequest
from kadre.engine.models.retries import Piece
from kadre.engine.models.tool_cache import ToolCache
from kadre.engine.secrets import SecretReader
from kadre.plan.types import ModelPlan

_STREAM = b',"stream":true}'
_STREAM_USAGE = b',"stream":true,"stream_options":{"include_usage":true}}'


class OpenAIModel:
    """One model of one endpoint."""

    def __init__(self, plan: ModelPlan, secrets: SecretReader, wire: http.Wire) -> None:
        self._plan = plan
        self._wire = wire
        self._keyed = keys.Keyed(plan, secrets, "/chat/completions", headers)
        self._tools = ToolCache(openai_wire.encode_tools)
        self._max_tokens_name = "max_tokens"
        self._head = openai_wire.encode_head(plan.model, plan.params, self._max_tokens_name)
        self._stream_tail = _STREAM_USAGE

    def call(self, request: ModelRequest) -> AsyncGenerator[Piece, None]:
        """See `port.Model.call`."""
        return self.call_with(request, {})

    def call_with(self, request: ModelRequest, extra: Mapping[str, Any]) -> AsyncGenerator[Piece, None]:
        """As `call`, with further top-level fields in the request, such as `response_format`."""
        more = openai_wire.encode_extra(extra)
        return self._wire.retrying(lambda: self._once(request, more), self._learn)

    async def aclose(self) -> None:
        """Nothing to give back: the connections belong to the session."""

    def _once(self, request: ModelRequest, extra: bytes) -> AsyncGenerator[Piece, None]:
        body = b"".join(
            (
                self._head,
                openai_wire.encode_messages(request.messages),
                self._tools.get(request.tools) if request.tools else b"",
                extra,
                self._stream_tail if request.stream else b"}",
            )
        )
        target = self._keyed.target()
        if request.stream:
            chunks = self._wire.stream(target, body)
            return http.pieces(chunks, sse.Parser().feed, openai_wire.Stream(target))
        return self._wire.whole(target, body, lambda answer: openai_wire.decode_reply(answer, target))

    def _learn(self, error: ModelError) -> bool:
        """Whether the endpoint refused something that the request can do without, or say otherwise."""
        if error.status not in (400, 422):
            return False
        said = str(error)
        if "stream_options" in said and self._stream_tail is _STREAM_USAGE:
            self._stream_tail = _STREAM
            return True
        if "max_completion_tokens" in said and self._max_tokens_name == "max_tokens":
            self._max_tokens_name = "max_completion_tokens"
            self._head = openai_wire.encode_head(self._plan.model, self._plan.params, self._max_tokens_name)
            return True
        return False


def headers(key: str | None) -> dict[str, str]:
    """Those that say who calls."""
    return {"Authorization": f"Bearer {key}"} if key else {}
