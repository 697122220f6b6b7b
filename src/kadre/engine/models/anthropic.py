"""Models behind Anthropic's Messages API."""

from __future__ import annotations

from collections.abc import AsyncGenerator

from kadre.engine.models import anthropic_wire, blocks, http, keys, sse
from kadre.engine.models.port import ModelRequest
from kadre.engine.models.retries import Piece
from kadre.engine.models.target import Target, address
from kadre.engine.models.tool_cache import ToolCache
from kadre.engine.secrets import SecretReader
from kadre.plan.types import ModelPlan

VERSION = "2023-06-01"
"""Of the API: what its answers look like."""


class AnthropicModel:
    """One model of one endpoint."""

    def __init__(self, plan: ModelPlan, secrets: SecretReader, wire: http.Wire) -> None:
        self._plan = plan
        self._secrets = secrets
        self._wire = wire
        self._url = address(plan.endpoint, "/messages")
        self._tools = ToolCache(anthropic_wire.encode_tools)
        self._head = anthropic_wire.encode_head(plan.model, plan.params)
        self._key: str | None = None
        self._target = self._make_target(None)

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
        target = self._current_target()
        if request.stream:
            chunks = self._wire.stream(target, body)
            return http.pieces(chunks, sse.Parser().feed, anthropic_wire.Stream(target))
        return self._wire.whole(target, body, lambda answer: anthropic_wire.decode_reply(answer, target))

    def _encode_tools(self, request: ModelRequest) -> bytes:
        if request.tools:
            return self._tools.get(request.tools)
        used = blocks.tools_used(request.messages)
        return anthropic_wire.encode_tools(used) if used else b""

    def _current_target(self) -> Target:
        key = keys.read(self._plan, self._secrets)
        if key != self._key:
            self._key = key
            self._target = self._make_target(key)
        return self._target

    def _make_target(self, key: str | None) -> Target:
        headers = http.headers()
        headers["anthropic-version"] = VERSION
        if key:
            headers["x-api-key"] = key
        headers.update(self._plan.headers)
        return Target(self._url, headers, keys.told(self._plan, key))
