"""Models behind Anthropic's Messages API."""

from __future__ import annotations

from collections.abc import AsyncGenerator

from kadre.engine import sse
from kadre.engine.models import anthropic_wire, blocks, http, keys
from kadre.engine.models.port import ModelRequest
from kadre.engine.models.retries import Piece
from kadre.engine.models.tool_cache import ToolCache
from kadre.engine.secrets import SecretReader
from kadre.plan.types import ModelPlan

VERSION = "2023-06-01"
"""Of the API: what its answers look like."""


class AnthropicModel:
    """One model of one endpoint."""

    def __init__(self, plan: ModelPlan, secrets: SecretReader, wire: http.Wire) -> None:
        self._wire = wire
        self._keyed = keys.Keyed(plan, secrets, "/messages", _headers)
        self._tools = ToolCache(anthropic_wire.encode_tools)
        self._head = anthropic_wire.encode_head(plan.model, plan.params)

    def call(self, request: ModelRequest) -> AsyncGenerator[Piece, None]:
        """See `port.Model.call`."""
        return self._wire.retrying(lambda: self._once(request))

    async def aclose(self) -> None:
        """Nothing to give back: the connections belong to the session."""

    def _once(self, request: ModelRequest) -> AsyncGenerator[Piece, None]:
        body = b"".join(
            (
                self._head,
                anthropic_wire.encode_messages(request.messages),
                self._encode_tools(request),
                b',"stream":true}' if request.stream else b"}",
            )
        )
        target = self._keyed.target()
        if request.stream:
            chunks = self._wire.stream(target, body)
            return http.pieces(chunks, sse.Parser().feed, anthropic_wire.Stream(target))
        return self._wire.whole(target, body, lambda answer: anthropic_wire.decode_reply(answer, target))

    def _encode_tools(self, request: ModelRequest) -> bytes:
        if request.tools:
            return self._tools.get(request.tools)
        used = blocks.tools_used(request.messages)
        return anthropic_wire.encode_tools(used) if used else b""


def _headers(key: str | None) -> dict[str, str]:
    return {"anthropic-version": VERSION, **({"x-api-key": key} if key else {})}
