"""The `kadre` command with a function of this process as a tool of every agent, which no YAML can name.

All else is as the command has it. Run: `python -m benchmarks.apps.kadre_tool up FILE …`.
"""

from __future__ import annotations

import sys

from benchmarks.scenarios import echo
from kadre.cli.main import main
from kadre.engine.agent import HostedAgent
from kadre.engine.tools.functions import Functions
from kadre.local import hosting, serve, up
from kadre.plan.types import AgentPlan


class Assembly(hosting.Assembly):
    """Gives each agent the function."""

    async def _agent(self, plan: AgentPlan) -> HostedAgent:
        agent = await super()._agent(plan)
        agent.toolsets += (Functions(echo, read_only=True),)
        return agent


if __name__ == "__main__":
    up.Assembly = Assembly  # type: ignore[attr-defined]  # it is no part of its interface
    serve.become = lambda settings: sys.exit(up.run(settings))  # here, where the function is
    main()
