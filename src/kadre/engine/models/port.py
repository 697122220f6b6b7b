"""The port to a model.

Above: the loop's driver, which sends a request and reads pieces until the last. Below: an HTTP API, a library, or a
script.
It knows nothing of runs, tools' effects or sessions, and it retries by itself only while nothing has been yielded.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator
from typing import Protocol, runtime_checkable

import msgspec

from kadre.engine.messages import Message, ToolSpec, Usage
from kadre.engine.messages import ToolCall as ToolCall  # re-exported: adapters build them


class ModelRequest(msgspec.Struct, frozen=True, gc=False):
    """One call. `stream`: the caller wants text as it is produced; the model then asks its provider to stream."""

    messages: tuple[Message, ...]
    tools: tuple[ToolSpec, ...] = ()
    stream: bool = False


class TextDelta(msgspec.Struct, frozen=True, gc=False):
    """A piece of text; only when `stream` was asked for."""

    text: str


class Reply(msgspec.Struct, frozen=True, gc=False):
    """The whole answer: always the last thing a call yields, exactly once.

    `finish_reason`: stop, length, tool_calls or content_filter, whatever the provider called it.
    """

    message: Message
    usage: Usage = Usage()
    finish_reason: str = "stop"


@runtime_checkable
class Startable(Protocol):
    """A model that takes a while to be there, such as one that runs in a process of ours."""

    async def start(self) -> None:
        """Be ready for calls; cheap where it is already. Raises errors.ModelError."""
        ...


class Model(Protocol):
    """A model that can be called many times at once."""

    def call(self, request: ModelRequest) -> AsyncGenerator[TextDelta | Reply, None]:
        """Yield text pieces (if asked to stream), then one Reply. Raises errors.ModelError.

        Closing it early aborts the call and frees its connection.
        """
        ...

    async def aclose(self) -> None:
        """Give back connections and processes; may be called once."""
        ...
