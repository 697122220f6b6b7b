"""Python functions of this process as tools: for programs that embed an agent, for benchmarks and for tests."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from typing import Any, get_type_hints

import msgspec

from kadre.base.errors import ToolError
from kadre.engine.messages import ToolSpec
from kadre.engine.tools.port import CallContext, ToolOutput


class Functions:
    """Each function is a tool: its name, its docstring, its parameters' type hints.

    A coroutine function is awaited, any other is called in the event loop and should be quick. What a function returns
    is given to the model as text, or as JSON where it is none; what it raises, as an error. `read_only` holds for all.
    """

    def __init__(self, *functions: Callable[..., Any], read_only: bool | None = None, server: str = "") -> None:
        self._tools = {function.__name__: _Function(function, read_only, server) for function in functions}
        self._specs = tuple(tool.spec for tool in self._tools.values())

    notice = ""
    """See Toolset."""

    @property
    def ready(self) -> bool:
        """See Toolset."""
        return True

    async def specs(self) -> Sequence[ToolSpec]:
        """See Toolset."""
        return self._specs

    async def call(self, name: str, arguments: dict[str, Any], context: CallContext) -> ToolOutput:  # noqa: ARG002
        """See Toolset."""
        tool = self._tools.get(name)
        if tool is None:
            raise ToolError(f"there is no tool {name}")
        return await tool.call(arguments)

    async def aclose(self) -> None:
        """See Toolset."""


class _Function:
    def __init__(self, function: Callable[..., Any], read_only: bool | None, server: str) -> None:
        hints = get_type_hints(function, include_extras=True)
        fields: list[Any] = []
        for name, parameter in inspect.signature(function).parameters.items():
            if parameter.kind not in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY):
                raise TypeError(f"{function.__name__}: a tool has no {parameter.kind.description} parameters: {name}")
            kind = hints.get(name, Any)
            required = parameter.default is parameter.empty
            fields.append((name, kind) if required else (name, kind, msgspec.field(default=parameter.default)))
        self._function = function
        self._arguments = msgspec.defstruct(function.__name__, fields, kw_only=True, forbid_unknown_fields=True)
        (_,), components = msgspec.json.schema_components([self._arguments], ref_template="#/$defs/{name}")
        parameters = components.pop(function.__name__)
        if components:
            parameters["$defs"] = components
        self.spec = ToolSpec(
            name=function.__name__,
            description=inspect.getdoc(function) or "",
            parameters=parameters,
            read_only=read_only,
            # Where there is a default that rules may be about: the check takes time, and a call is checked anyway.
            filled=any(inner.get("default") is not None for inner in parameters["properties"].values()),
            server=server,
        )

    async def call(self, arguments: dict[str, Any]) -> ToolOutput:
        try:
            known = msgspec.convert(arguments, self._arguments)
        except msgspec.ValidationError as error:
            raise ToolError(f"{self.spec.name}: {error}") from error
        values = {name: getattr(known, name) for name in self._arguments.__struct_fields__}
        try:
            result = self._function(**values)
            if inspect.isawaitable(result):
                result = await result
        except Exception as error:  # noqa: BLE001 - whatever the function raises is its answer
            return ToolOutput(f"{type(error).__name__}: {error}", is_error=True)
        if isinstance(result, ToolOutput):
            return result
        return ToolOutput(result if isinstance(result, str) else msgspec.json.encode(result).decode())
