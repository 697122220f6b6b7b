"""Runs code that a model wrote, in a sandbox: it reads nothing, reaches nothing and leaves nothing behind."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, Protocol

import msgspec

from kadre.base.errors import ToolError
from kadre.engine.messages import ToolSpec
from kadre.engine.tools.port import CallContext, ToolOutput
from kadre.plan.types import CodeTool

MOST_CODE = 256 * 1024
"""Characters of one piece of code."""
USUAL = (
    "Runs Python 3 with its standard library and returns what it prints, and the value of a last expression. Each call"
    " begins anew. There is no network, no other program, and no file but what the code writes itself into the folder"
    " it runs in."
)
BUSY = "too much other code runs just now: it was not run; try again"
PARAMETERS: dict[str, Any] = {
    "type": "object",
    "properties": {"code": {"type": "string", "description": "The Python code.", "maxLength": MOST_CODE}},
    "required": ["code"],
    "additionalProperties": False,
}


class Ran(msgspec.Struct, frozen=True):
    """What came of a piece of code. `output`: what it printed, on both streams, up to the sandbox's bound."""

    output: str
    ended: Literal["done", "failed", "time", "output", "files", "killed"]


class Asked(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What is asked of a sandbox in another process. `seconds`: after which the code ends, whatever it does."""

    code: str
    seconds: float


class Sandbox(Protocol):
    """Where code is run."""

    async def check(self) -> None:
        """Raises ToolError where there is none, with what to do about it. Cheap after the first time."""
        ...

    async def run(self, code: str, seconds: float) -> Ran:
        """Run it; it ends after `seconds` whatever it does. Raises ToolError where it was not run."""
        ...


class CodeToolset:
    """The one tool."""

    ready = False
    notice = ""

    def __init__(self, plan: CodeTool, sandbox: Sandbox) -> None:
        self._plan = plan
        self._sandbox = sandbox
        # Nothing that it does outlives it or is seen elsewhere: to run it again is to run it for the first time.
        spec = ToolSpec(
            name=plan.name,
            description=f"{plan.description}\n\n{USUAL}".strip(),
            parameters=PARAMETERS,
            read_only=True,
            idempotent=True,
            trusted=True,  # it has nothing to tell but what the model gave it
            read_by_model=True,  # it could do nothing with a secret but print it, perhaps spelt otherwise
            runs_code=True,
            server=plan.name,
        )
        self._specs = (spec,)

    async def specs(self) -> Sequence[ToolSpec]:
        """See Toolset."""
        await self._sandbox.check()
        self.ready = True
        return self._specs

    async def call(self, name: str, arguments: dict[str, Any], context: CallContext) -> ToolOutput:
        """See Toolset."""
        del name, context
        code = arguments.get("code")
        if not isinstance(code, str) or not code.strip() or len(arguments) > 1:
            raise ToolError("give the code to run as the text `code`, and nothing else")
        if len(code) > MOST_CODE:
            raise ToolError(f"the code has {len(code)} characters, and may have {MOST_CODE}")
        ran = await self._sandbox.run(code, self._plan.timeout)
        if ran.ended == "done":
            return ToolOutput(ran.output or "(it printed nothing)")
        told = (ran.output.rstrip("\n"), self._why(ran))
        return ToolOutput("\n".join(part for part in told if part), is_error=True)

    def _why(self, ran: Ran) -> str:
        match ran.ended:
            case "time":
                return f"it was ended: it took longer than {self._plan.timeout:g} s"
            case "output":
                return "it was ended: it printed too much; print less, or only what matters"
            case "files":
                return "it was ended: it wrote more to files than it may"
            case "killed":
                return "it was ended: it used more memory or time than it may"
            case "failed" if not ran.output.strip():
                return "it failed, and printed nothing"
        return ""

    async def aclose(self) -> None:
        """See Toolset."""
