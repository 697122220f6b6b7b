"""What an agent remembers of whoever calls, across sessions: to be looked at, and forgotten on request."""

from __future__ import annotations

from typing import TYPE_CHECKING

from starlette.requests import Request
from starlette.responses import Response

from kadre.base.errors import Forbidden, NotFound
from kadre.engine.host import Host
from kadre.server import auth, errors, names

if TYPE_CHECKING:
    from kadre.engine.memory.longterm import LongTermMemory


class MemoriesDoor:
    """`/agents/{name}/memories…`, of the caller's own alone."""

    PATHS = ("/agents/{name}/memories", "/agents/{namespace}/{name}/memories")

    def __init__(self, host: Host, directory: names.Directory) -> None:
        self._host = host
        self._directory = directory

    async def index(self, request: Request) -> Response:
        """What the agent remembers of the caller, the latest first."""
        memories, caller = self._asked(request)
        return errors.json_response({"memories": await memories.listed(caller)})

    async def forget(self, request: Request) -> Response:
        """Forget one, or all that is remembered of the caller."""
        memories, caller = self._asked(request)
        await memories.forget(caller, request.path_params.get("id", ""))
        return Response(status_code=204)

    def _asked(self, request: Request) -> tuple[LongTermMemory, str]:
        params = request.path_params
        key = names.resolve(self._directory, params["name"], params.get("namespace", ""))
        caller: auth.Caller = request.scope["caller"]
        auth.check(caller, key)
        if caller.via:
            raise Forbidden("what is remembered of people is theirs to look at, and not an agent's", reason="ViaAgent")
        memories = self._host.agents[key].memories
        if memories is None:
            message = f"agent {key.short} remembers nothing across sessions; memory.config.longTermMemory has it do so"
            raise NotFound(message, reason="NoMemories")
        return memories, caller.name
