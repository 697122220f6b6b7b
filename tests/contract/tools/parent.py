"""A process that starts a server as `kadre up` does, prints the server's process id, and waits to be killed."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

from kadre.engine.tools.mcp import McpPool
from kadre.engine.tools.port import CallContext
from kadre.local.servers import Servers
from kadre.plan.types import LaunchPlan, McpTools, SecretRef


class NoSecrets:
    """None."""

    def read(self, ref: SecretRef) -> str | None:
        """See SecretReader."""
        return None


async def main() -> None:
    """Never ends by itself."""
    source = "import os\n\ndef who() -> str:\n    return str(os.getpid())\n"
    command = (sys.executable, str(Path(__file__).parent / "server.py"), "stdio")
    launches = {
        "source": LaunchPlan(kind="source", source=source),
        "command": LaunchPlan(kind="command", command=command),
    }
    pool = McpPool(NoSecrets(), Servers(NoSecrets()).start)
    tools = pool.toolset(McpTools(name="mine", launch=launches[sys.argv[1]]))
    output = await tools.call("who", {}, CallContext(run_id="r", session_id="s", key="k"))
    print(output.content, flush=True)  # noqa: T201
    await asyncio.Event().wait()


asyncio.run(main())
