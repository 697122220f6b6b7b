"""What is served here: `/agents`, and whether it is well: `/health`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from kadre.base.problems import Problem
from kadre.engine.agent import HostedAgent
from kadre.engine.host import Host
from kadre.plan.types import AgentTool, UnsupportedTool
from kadre.server import auth, errors, names


class AgentsDoor:
    """Lists agents. `problems`: what keeps the latest files from being served, where there is something."""

    def __init__(self, host: Host, directory: names.Directory, problems: Callable[[], Sequence[Problem]]) -> None:
        self._host = host
        self._directory = directory
        self._problems = problems

    async def index(self, request: Request) -> Response:
        """Every agent, by namespace and name."""
        del request
        agents = sorted(self._host.agents.values(), key=lambda agent: agent.plan.key)
        return errors.json_response({"agents": [shown(agent) for agent in agents], "problems": self._told()})

    async def get(self, request: Request) -> Response:
        """One agent."""
        params = request.path_params
        key = names.resolve(self._directory, params["name"], params.get("namespace", ""))
        return errors.json_response(shown(self._host.agents[key]))

    async def offer(self, request: Request) -> Response:
        """What the agent gives its model with every conversation; its prompt, to who may see all."""
        from kadre.engine.replay import case, recording  # only who records asks

        params = request.path_params
        key = names.resolve(self._directory, params["name"], params["namespace"])
        caller: auth.Caller = request.scope["caller"]
        auth.check(caller, key)
        agent = self._host.agents[key]
        given = recording.Given(
            prompt=agent.plan.system_prompt if "see-all" in caller.rights else None,
            tools=case.offered(await agent.offer()),
            max_history=agent.plan.memory.max_history,
        )
        return errors.json_response(given)

    async def health(self, request: Request) -> Response:
        """200 while requests are served; `problems` says what was not taken over from the files."""
        del request
        return errors.json_response({"status": "ok", "agents": len(self._host.agents), "problems": self._told()})

    def _told(self) -> list[str]:
        return [str(problem) for problem in self._problems()]


def shown(agent: HostedAgent) -> dict[str, Any]:
    """An agent as lists show it."""
    plan = agent.plan
    return {
        "name": plan.key.name,
        "namespace": plan.key.namespace,
        "group": plan.key.group,
        "display_name": plan.display_name,
        "description": plan.description,
        "model": plan.model.model,
        "provider": plan.model.provider,
        "tools": [tool.name for tool in plan.tools if not isinstance(tool, AgentTool | UnsupportedTool)],
        "agents": [str(tool.agent) for tool in plan.tools if isinstance(tool, AgentTool)],
        "notices": [msgspec.to_builtins(notice) for notice in agent.notices],
        "status": "Ready",
        "durable": agent.journal.durable,
        "running": agent.running,
    }
