"""Tool calls for models that have none: they reply in JSON whose schema is a call of one of the tools, or an answer.

Law: a wrapper of any model. Where one takes `response_format` the schema is sent along, and what its endpoint refuses
of that is remembered for as long as the model lives; any other is asked in words only.

A model may call tools again after a result, but not make a call of the same turn a second time: it is then asked for
its answer, in text. A `weak` model (some hundred million parameters) is treated with more care:

- its JSON only decides; the answer is asked for anew, in text, which it writes far better than JSON;
- a call that repeats the examples of the prompt is no call;
- after a result no tool is offered: it is asked to repeat the result, and what its answer leaves out is put after it;
- the conversation is shortened to what its context holds, and whether to call is decided by its last message alone.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing
from typing import Any, Protocol, runtime_checkable

from kadre.base.errors import ModelError
from kadre.engine.messages import Message, ToolCall, ToolSpec, Usage
from kadre.engine.models import failures, shim_prompt
from kadre.engine.models.port import Model, ModelRequest, Reply, TextDelta
from kadre.engine.models.retries import Piece
from kadre.engine.models.shim_reading import Reading, Said

WEAK_CHARACTERS = 8000
"""Of a conversation sent to a weak model: with its tools, about 3,000 tokens."""
WEAK_RESULT = 2000
"""Characters of a tool's result that are put after a weak model's answer."""
_SCHEMA_WORDS = ("schema", "grammar", "response_format")
_STRICT, _LOOSE, _NONE = range(3)
"""How a reply's form is asked for: by the tools' schemas, by their names, in words only."""


@runtime_checkable
class Shaped(Model, Protocol):
    """A model whose request can be given further fields."""

    def call_with(self, request: ModelRequest, extra: Mapping[str, Any]) -> AsyncGenerator[Piece, None]:
        """See OpenAIModel."""
        ...


class Shim:
    """Gives tool calls to `model`."""

    def __init__(self, model: Model, *, weak: bool = False) -> None:
        self._model = model
        self._weak = weak
        self._shaped = model if isinstance(model, Shaped) else None
        self._form = _STRICT

    def call(self, request: ModelRequest) -> AsyncGenerator[Piece, None]:
        """See Model.call."""
        if self._weak:
            request = ModelRequest(
                shim_prompt.fitting(request.messages, WEAK_CHARACTERS), request.tools, request.stream
            )
        if request.tools:
            return self._weakly(request) if self._weak else self._offered(request)
        if any(message.role == "tool" for message in request.messages):
            return self._plainly(request, Usage())
        return self._model.call(request)

    async def aclose(self) -> None:
        """See Model."""
        await self._model.aclose()

    async def _offered(self, request: ModelRequest) -> AsyncGenerator[Piece, None]:
        """One reply that is a call or an answer, whichever the model wants."""
        reading = Reading()
        async with aclosing(self._in_json(request, stream=request.stream)) as pieces:
            async for piece in pieces:
                if isinstance(piece, TextDelta):
                    text = reading.feed(piece.text)
                    if text:
                        yield TextDelta(text)
                else:
                    reply = piece
        said, rest = reading.end(reply.message.content)
        if said.tool and _known(said, request.messages):
            async with aclosing(self._plainly(request, reply.usage)) as pieces:
                async for piece in pieces:
                    yield piece
        elif said.tool:
            yield _called(said, request, reply.usage)
        else:
            if request.stream and rest:
                yield TextDelta(rest)
            yield Reply(Message("assistant", said.answer), reply.usage, reply.finish_reason)

    async def _weakly(self, request: ModelRequest) -> AsyncGenerator[Piece, None]:
        """A call, if the model decides for one and no tool has answered yet; then an answer in text."""
        spent = Usage()
        if not shim_prompt.outputs(request.messages):
            deciding = ModelRequest(shim_prompt.asked(request.messages), request.tools)
            async with aclosing(self._in_json(deciding, stream=False)) as pieces:
                async for piece in pieces:
                    if isinstance(piece, Reply):
                        spent = piece.usage
                        said, _ = Reading().end(piece.message.content)
            if said.tool and not shim_prompt.is_example(said.arguments, request.messages):
                yield _called(said, request, spent)
                return
        async with aclosing(self._plainly(request, spent)) as pieces:
            async for piece in pieces:
                yield piece

    async def _plainly(self, request: ModelRequest, spent: Usage) -> AsyncGenerator[Piece, None]:
        """An answer in text. `spent`: what led here, counted with it."""
        outputs = shim_prompt.outputs(request.messages) if self._weak else []
        told = shim_prompt.repeating(request.messages) if outputs else shim_prompt.plain(request.messages)
        async with aclosing(self._model.call(ModelRequest(told, (), request.stream))) as pieces:
            async for piece in pieces:
                if isinstance(piece, TextDelta):
                    yield piece
                    continue
                text = piece.message.content
                more = _left_out(outputs, text)
                if more and request.stream:
                    yield TextDelta(more)
                yield Reply(Message("assistant", text + more), piece.usage + spent, piece.finish_reason)

    async def _in_json(self, request: ModelRequest, *, stream: bool) -> AsyncGenerator[Piece, None]:
        """A reply in the JSON of calls and answers, by the strictest form the endpoint takes."""
        asked = ModelRequest(shim_prompt.offering(request.messages, request.tools, brief=self._weak), (), stream)
        form = self._form
        while self._shaped is not None and form != _NONE:
            try:
                async with aclosing(self._shaped.call_with(asked, self._shape(form, request.tools))) as pieces:
                    async for piece in pieces:
                        yield piece
                    return
            except ModelError as error:
                if error.status not in (400, 422) or not any(word in str(error).lower() for word in _SCHEMA_WORDS):
                    raise
                form += 1
                self._form = max(self._form, form)
        async with aclosing(self._model.call(asked)) as pieces:
            async for piece in pieces:
                yield piece

    def _shape(self, form: int, tools: Sequence[ToolSpec]) -> dict[str, Any]:
        schema = shim_prompt.schema(tools, loose=form == _LOOSE, decide=self._weak)
        named = {"name": "reply", "strict": True, "schema": schema}
        return {"response_format": {"type": "json_schema", "json_schema": named}}


class Fallback:
    """Calls `native` until the endpoint says that it knows no tools, and the shim from then on."""

    def __init__(self, native: Model, shim: Shim) -> None:
        self._native = native
        self._shim = shim
        self._refused = False

    async def call(self, request: ModelRequest) -> AsyncGenerator[Piece, None]:
        """See Model.call."""
        if not self._refused:
            try:
                async with aclosing(self._native.call(request)) as pieces:
                    async for piece in pieces:
                        yield piece
                    return
            except ModelError as error:
                if error.reason != failures.TOOLS_UNSUPPORTED:
                    raise
                self._refused = True
        async with aclosing(self._shim.call(request)) as pieces:
            async for piece in pieces:
                yield piece

    async def aclose(self) -> None:
        """See Model."""
        await self._native.aclose()


def _called(said: Said, request: ModelRequest, usage: Usage) -> Reply:
    call = ToolCall(f"call-{len(request.messages)}", said.tool, said.arguments)
    return Reply(Message("assistant", "", (call,)), usage, "tool_calls")


def _known(said: Said, messages: Sequence[Message]) -> bool:
    """Whether the very same call was made in this turn."""
    return any(
        call.name == said.tool and call.arguments == said.arguments
        for message in shim_prompt.turn(messages)
        for call in message.tool_calls
    )


def _left_out(outputs: Sequence[str], answer: str) -> str:
    """The results that the answer does not contain, to be put after it."""
    told = " ".join(answer.lower().split())
    missing = [output[:WEAK_RESULT] for output in outputs if " ".join(output.lower().split()) not in told]
    return "".join(f"\n\n{output}" for output in missing)
