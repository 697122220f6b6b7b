"""A remote agent that speaks A2A, offered as a tool.

Each call is a task of its own, in a context of its own: the agent sees nothing else of the conversation. What knows the
SDK is loaded when the first tool of this kind is offered.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from kadre.base.errors import ToolError, shorten
from kadre.base.tasks import Tasks
from kadre.engine.messages import ToolSpec
from kadre.engine.secrets import SecretReader, describe
from kadre.engine.tools.agent import PARAMETERS
from kadre.engine.tools.port import CallContext, ToolOutput
from kadre.plan.types import A2aTool

if TYPE_CHECKING:
    from kadre.engine.tools.a2a_client import Remote

CARD_SECONDS = 10.0
"""For the agent's card, where its description is wanted: an agent is offered without it rather than late."""
ABOUT = 1000
"""Characters of a card's description that reach the model: it is somebody else's text."""


class A2aToolset:
    """One remote agent as one tool."""

    notice = ""
    """See Toolset."""

    def __init__(self, plan: A2aTool, secrets: SecretReader) -> None:
        self._plan = plan
        self._secrets = secrets
        self._tasks = Tasks(f"a2a/{plan.name}")
        self._about = plan.description
        self._remote: Remote | None = None
        self._specs = self._offered()

    @property
    def ready(self) -> bool:
        """See Toolset."""
        return bool(self._about)

    async def specs(self) -> Sequence[ToolSpec]:
        """See Toolset. Where its author says nothing of it, the agent is described by its card."""
        if not self._about:
            try:
                async with asyncio.timeout(CARD_SECONDS):
                    self._about = shorten(await self._reached().about(self._headers()), ABOUT) or "no description given"
            except (ToolError, TimeoutError):
                return self._specs  # it may be there when it is asked
            self._specs = self._offered()
        return self._specs

    async def call(self, name: str, arguments: dict[str, Any], context: CallContext) -> ToolOutput:
        """See Toolset."""
        message = arguments.get("message")
        if not isinstance(message, str) or not message.strip():
            raise ToolError(f"{name} needs an argument `message`: what the agent is asked, as text")
        return await self._reached().ask(message, context.key, self._headers(), self._plan.timeout)

    async def aclose(self) -> None:
        """See Toolset."""
        await self._tasks.aclose()

    def _offered(self) -> tuple[ToolSpec, ...]:
        about = f"Ask the agent {self._plan.name}: {self._about or 'no description given'}"
        plan = self._plan
        return (
            ToolSpec(
                name=plan.name,
                description=about,
                parameters=PARAMETERS,
                server=plan.name,
                trusted=plan.trusted,
                read_by_model=True,
                listed=True,
            ),
        )

    def _reached(self) -> Remote:
        if self._remote is None:
            from kadre.engine.tools.a2a_client import Remote

            self._remote = Remote(self._plan.name, self._plan.url, self._tasks)
        return self._remote

    def _headers(self) -> Mapping[str, str]:
        """What is sent with every request: secrets as they are now. Raises ToolError where one is missing."""
        headers = dict(self._plan.headers)
        for name, ref in self._plan.secret_headers.items():
            value = self._secrets.read(ref)
            if value is None:
                raise ToolError(f"{self._plan.name}: there is no {describe(ref)}, which its header {name} is to have")
            headers[name] = value.strip()
        return headers
