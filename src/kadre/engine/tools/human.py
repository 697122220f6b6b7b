"""A person offered as a tool: what the model asks becomes a question of the run, and the answer is the result."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from kadre.base.errors import ToolError
from kadre.engine.messages import Question, ToolSpec
from kadre.engine.tools.port import CallContext, ToolOutput
from kadre.plan.types import HumanTool

PARAMETERS = {
    "type": "object",
    "properties": {"question": {"type": "string", "description": "What the person is asked, complete in itself."}},
    "required": ["question"],
}


class HumanToolset:
    """One tool, by which the model asks a person."""

    notice = ""
    """See Toolset."""

    def __init__(self, plan: HumanTool) -> None:
        question = Question(prompt=plan.prompt, seconds=plan.timeout, default=plan.default)
        about = plan.description or "Ask a person, and wait for the answer."
        self._specs = (
            ToolSpec(
                name=plan.name,
                description=about,
                parameters=plan.parameters or PARAMETERS,
                read_only=True,
                idempotent=True,
                trusted=True,
                server=plan.name,
                question=question,
                filled=True,
            ),
        )

    @property
    def ready(self) -> bool:
        """See Toolset."""
        return True

    async def specs(self) -> Sequence[ToolSpec]:
        """See Toolset."""
        return self._specs

    async def call(self, name: str, arguments: dict[str, Any], context: CallContext) -> ToolOutput:
        """See Toolset. The run that asks gives the answer itself: nobody comes here."""
        del arguments, context
        raise ToolError(f"{name} is answered by a person, and nobody was asked")

    async def aclose(self) -> None:
        """See Toolset."""
