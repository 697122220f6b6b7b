"""What agents have used: their hosts' metrics, added up by agent, for people and for scripts."""

from __future__ import annotations

from collections.abc import Iterable

import msgspec
from prometheus_client.parser import text_string_to_metric_families
from starlette.requests import Request
from starlette.responses import Response

from kadre.server import errors
from kadre.server.gateway import visitors
from kadre.server.gateway.fleet import Fleet
from kadre.server.gateway.many import Many
from kadre.server.gateway.upstream import LOOK_SECONDS, Call, Place, Upstream
from kadre.server.gateway.visitors import Visitor
from kadre.server.gateway.waiting import while_there

_COLUMNS = ("NAMESPACE", "AGENT", "REQUESTS", "ERRORS", "PROMPT TOKENS", "COMPLETION TOKENS")


class Used(msgspec.Struct):
    """What one agent has used since its pods began."""

    namespace: str
    name: str
    requests: int = 0
    errors: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0

    def add(self, page: str) -> None:
        """Count what a page of metrics says."""
        for family in text_string_to_metric_families(page):
            for sample in family.samples:
                if sample.labels.get("agent_name") != self.name:
                    continue
                value = int(sample.value)
                match sample.name, sample.labels.get("token_type"):
                    case "agent_request_total", _:
                        self.requests += value
                    case "agent_request_errors_total", _:
                        self.errors += value
                    case "llm_tokens_total", "prompt":
                        self.prompt_tokens += value
                    case "llm_tokens_total", "completion":
                        self.completion_tokens += value
                    case _:
                        pass


class UsageDoor:
    """`GET /usage`: a table for `Accept: text/plain`, else JSON."""

    def __init__(self, fleet: Fleet, upstream: Upstream) -> None:
        self._fleet = fleet
        self._many = Many(upstream)

    async def get(self, request: Request) -> Response:
        """Of every agent that the caller may talk to. `missing` names pods that could not be asked."""
        visitor: Visitor = request.scope["visitor"]

        def take(place: Place, content: bytes) -> None:
            used[place.agent].add(content.decode())

        async with self._many.turn():
            agents = sorted(await visitors.allowed(visitor, self._fleet.all()))
            used = {agent: Used(agent.namespace, agent.name) for agent in agents}
            places = [Place(agent, host) for agent in agents for host in self._fleet.hosts(agent)]
            call = Call("GET", "/metrics", {}, seconds=LOOK_SECONDS)
            missing = await while_there(request.receive, self._many.each(places, lambda _: call, visitor, take))
        if "text/plain" in request.headers.get("accept", ""):
            return Response(_table(used.values(), missing), media_type="text/plain; charset=utf-8")
        return errors.json_response({"usage": list(used.values())} | ({"missing": missing} if missing else {}))


def _table(rows: Iterable[Used], missing: Iterable[str]) -> str:
    lines = [_COLUMNS, *[tuple(map(str, msgspec.structs.astuple(row))) for row in rows]]
    widths = [max(len(line[column]) for line in lines) for column in range(len(_COLUMNS))]
    text = ["   ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in lines]
    return "\n".join([*text, *[f"not counted: {each}" for each in missing]]) + "\n"
