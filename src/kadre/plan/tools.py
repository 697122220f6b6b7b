"""The tools an agent may use: names followed, servers to be started, secrets checked."""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from kadre.api.dialects.kaos import MCPServer
from kadre.api.kinds.agent import ToolReference
from kadre.api.kinds.tool import A2aTool as RemoteAgent
from kadre.api.kinds.tool import HumanTool as HumanSection
from kadre.api.kinds.tool import McpTool, ServiceSelector, Tool, ToolSpec
from kadre.api.parts import SecretKeyRef
from kadre.api.services import MARK
from kadre.plan import api_tools, parameters, retrieval_tools, servers
from kadre.plan.draft import Draft, Entry, Place
from kadre.plan.lookup import find
from kadre.plan.names import tool_name
from kadre.plan.types import A2aTool, CodeTool, HumanTool, LaunchPlan, McpTools, SecretRef, ToolPlan, UnsupportedTool
from kadre.plan.work import Work

MOST_SERVERS = 50
"""Servers that one selector chooses: each is asked by every agent that names it."""
MOST_TOLD = 5
"""Services of one selector of which it is told why they are not asked: who labels them decides how many there are."""
CALL_TIMEOUT = McpTools(name="").timeout
ANSWER_TIMEOUT = A2aTool(name="", url="").timeout
Found = ToolPlan | tuple[ToolPlan, ...]
"""What a reference leads to."""


def tool_plans(work: Work, draft: Draft) -> list[Entry[ToolPlan]]:
    """Everything the agent names, in its order; what is missing is left out and a Problem."""
    plans: list[Entry[ToolPlan]] = []
    for place, reference in draft.tools:
        with work.following("tool", reference.name):
            found = _referenced(work, place, reference)
        plans += [Entry(place, plan) for plan in (found if isinstance(found, tuple) else (found,))]
    for place, name in draft.servers:
        fix = f"create an MCPServer named {name}, or take it off the list"
        with work.following("tool", name):
            server = work.reference(MCPServer, place, name, fix)
            if server is not None:
                plans.append(Entry(place, _server(work, server, ())))
    return plans


def no_two_alike(work: Work, plans: Iterable[Entry[ToolPlan]]) -> None:
    """Two tools of one name could not be told apart."""
    places: dict[str, Place] = {}
    for place, plan in plans:
        first = places.setdefault(plan.name, place)
        if first is not place:
            message = f"two tools are named {plan.name}: this one, and {first.path} of {first.resource.ref}"
            work.problem(place, "DuplicateTool", message, "rename one of the two, or remove it")


def check_server(work: Work, server: MCPServer) -> None:
    """What is wrong with an MCPServer by itself; of one with pods of its own its plan tells."""
    if not work.served(server, servers.port_of(server)):
        _server(work, server, ())


def own_plan(work: Work, tool: Tool) -> ToolPlan | None:
    """A Tool by itself, and what is wrong with it; None for one that is several."""
    found = _tool(work, Place(tool, "spec"), tool.name, tool.spec, ())
    return None if isinstance(found, tuple) else found


def _check_parts(work: Work, place: Place, tool: ToolSpec) -> None:
    """References of a type that isn't built yet stop nothing: warnings."""
    retrieval_tools.check_secrets(work, place, tool)


def _referenced(work: Work, place: Place, reference: ToolReference) -> Found:
    """A tool written in place, an endpoint, or a name: of a Tool, else of an MCPServer, else of a Service.

    One Tool may be several, the operations of an API; what is not there is none.
    """
    name, listed = reference.name, tuple(reference.capabilities or ())
    namespace = place.resource.namespace
    if reference.inline is not None:
        return _vouched(_tool(work, place, name, reference.inline, listed), reference, reference.inline)
    if reference.endpoint is not None:
        return _endpoint(work, place, reference, reference.endpoint)
    tool = find(work.lookup, Tool, namespace, name)
    if tool is not None:
        return _vouched(_tool(work, Place(tool, "spec"), name, tool.spec, listed), reference, tool.spec)
    server = find(work.lookup, MCPServer, namespace, name)
    if server is not None:
        return _vouched(_server(work, server, listed), reference)
    service = work.lookup.service(namespace, name)
    if service:
        return _endpoint(work, place, reference, service)
    kind = MCPServer if work.lookup.broken("MCPServer", namespace, name) else Tool
    fix = f"create a Tool or an MCPServer named {name}, or add endpoint: with the URL of an MCP server"
    work.missing(kind, place.below("name"), name, fix)
    return ()


def _vouched(found: Found, reference: ToolReference, tool: ToolSpec | None = None) -> Found:
    """The tools as ones that are trusted, where the agent's author says so, or says nothing and the Tool's does."""
    own = tool is not None and tool.trusted
    if not (own if reference.trusted is None else reference.trusted):
        return found
    if isinstance(found, tuple):
        return tuple(map(_trusted, found))
    return _trusted(found)


def _trusted(plan: ToolPlan) -> ToolPlan:
    return msgspec.structs.replace(plan, trusted=True) if hasattr(plan, "trusted") else plan


def _tool(work: Work, place: Place, name: str, tool: ToolSpec, listed: tuple[str, ...]) -> Found:
    if tool.type == "mcp" and tool.mcp is not None:
        capabilities = listed or tuple(tool.capabilities or ())
        plain = McpTools(name=name, capabilities=capabilities, granted=True, idempotent=tool.idempotent)
        if tool.mcp.selector is not None:
            return _selected(work, place.below("mcp"), tool.mcp, tool.mcp.selector, plain)
        return _mcp(work, place.below("mcp"), tool.mcp, plain)
    if tool.type == "a2a" and tool.a2a is not None:
        return _remote(work, place.below("a2a"), name, tool.a2a, tool.description or "")
    if tool.type == "api" and tool.api is not None:
        return api_tools.plans(work, place, name, tool, tool.api, listed)
    if tool.type == "code":
        timeout = tool.code.timeout if tool.code is not None else CodeTool(name="").timeout
        return CodeTool(name=tool_name(name), description=(tool.description or "").strip(), timeout=timeout)
    if tool.type == "human":
        return _human(name, tool)
    lacking = retrieval_tools.unbuilt(tool) if tool.type == "retrieval" else f"tools of type {tool.type}"
    if not lacking:
        return retrieval_tools.retrieval_tool(work, place, name, tool) or ()
    _check_parts(work, place, tool)
    return _not_built(work, name, tool.type, f"{lacking} are")


def _human(name: str, tool: ToolSpec) -> HumanTool:
    human = tool.human or HumanSection()
    return HumanTool(
        name=tool_name(name),
        description=(tool.description or "").strip(),
        prompt=(human.prompt or "").strip(),
        timeout=human.timeout or 0.0,
        default=human.default,
        parameters=parameters.schema(tool.parameters) if tool.parameters else {},
    )


def _remote(work: Work, place: Place, name: str, remote: RemoteAgent, description: str) -> A2aTool:
    return A2aTool(
        name=tool_name(name),
        url=remote.endpoint,
        description=description.strip(),
        headers=remote.headers or {},
        secret_headers=_secrets(work, place, remote.secret_headers),
        timeout=remote.timeout or ANSWER_TIMEOUT,
    )


def _endpoint(work: Work, place: Place, reference: ToolReference, url: str) -> McpTools:
    """A bare address: nobody vouched for what is behind it, so nothing but its name is granted."""
    return McpTools(
        name=reference.name,
        url=url,
        transport=reference.transport or "auto",
        headers=reference.headers or {},
        secret_headers=_secrets(work, place, reference.secret_headers),
        capabilities=tuple(reference.capabilities or ()),
        trusted=bool(reference.trusted),
        timeout=reference.timeout or CALL_TIMEOUT,
    )


def _mcp(work: Work, place: Place, mcp: McpTool, plain: McpTools) -> McpTools:
    launch = None
    if mcp.command:
        values, secrets = work.env(Entry(place.below("env").item(n), item) for n, item in enumerate(mcp.env or ()))
        launch = LaunchPlan(kind="command", command=tuple(mcp.command), env=values, secret_env=secrets)
    return McpTools(
        name=plain.name,
        url=mcp.endpoint or "",
        launch=launch,
        transport=mcp.transport,
        headers=mcp.headers or {},
        secret_headers=_secrets(work, place, mcp.secret_headers),
        capabilities=plain.capabilities,
        granted=plain.granted,
        timeout=mcp.timeout or CALL_TIMEOUT,
        retries=plain.retries if mcp.retries is None else mcp.retries,
        idempotent=plain.idempotent,
    )


def _selected(
    work: Work, place: Place, mcp: McpTool, selector: ServiceSelector, plain: McpTools
) -> tuple[McpTools, ...]:
    """The servers that Services are which it chooses, by name. That there is none stops nothing: one may come."""
    here = place.below("selector")
    namespace = place.resource.namespace
    found = sorted(each for each in work.lookup.tool_services(namespace) if each.has(selector.match_labels))
    usable, unusable = [each for each in found if not each.fault], [each for each in found if each.fault]
    for each in unusable[:MOST_TOLD]:
        message = f"the Service {namespace}/{each.name} is not asked: {each.fault}"
        work.problem(here, "UnusableService", message, "mend it, or take its label off", "warning")
    if len(unusable) > MOST_TOLD:
        message = f"{len(unusable) - MOST_TOLD} more Services that are chosen are not asked"
        work.problem(here, "UnusableService", message, "choose fewer by matchLabels:", "warning")
    if not found:
        labels = {MARK: "true", **selector.match_labels}
        said = ",".join(f"{key}={value}" for key, value in labels.items())
        message = f"no Service in namespace {namespace} has the labels {said}: there are no tools"
        work.problem(here, "NoServices", message, f"kubectl label service NAME -n {namespace} {said}", "warning")
    if len(usable) > MOST_SERVERS:
        message = f"{len(usable)} Services are chosen: the first {MOST_SERVERS} by name are asked"
        work.problem(here, "TooManyServices", message, "choose fewer by matchLabels:", "warning")
    whole = _mcp(work, place, mcp, msgspec.structs.replace(plain, granted=False))
    return tuple(
        msgspec.structs.replace(whole, name=f"{plain.name}/{each.name}", url=each.url) for each in usable[:MOST_SERVERS]
    )


def _server(work: Work, server: MCPServer, capabilities: tuple[str, ...]) -> ToolPlan:
    config, place = server.spec.config, Place(server, "spec.config.env")
    lacking = servers.unbuilt(server)
    if pods := "" if lacking else work.served(server, servers.port_of(server)):
        return McpTools(name=server.name, url=f"{pods}/mcp", transport="http", capabilities=capabilities, granted=True)
    values, secrets = work.env(Entry(place.item(number), item) for number, item in enumerate(config.env or ()))
    source = config.tools.from_string if config.tools else None
    package = config.mcp or (config.tools.from_package if config.tools else None)
    if source is not None:
        launch = LaunchPlan(kind="source", source=source, env=values, secret_env=secrets)
    elif package and server.spec.type == "node-runtime":
        launch = LaunchPlan(kind="command", command=("npx", "--yes", package), env=values, secret_env=secrets)
    elif package:
        launch = LaunchPlan(kind="package", package=package, env=values, secret_env=secrets)
    else:
        what = "of an image are" if server.spec.type == "custom" else "whose functions are in a Secret are"
        return _not_built(work, server.name, server.spec.type, f"MCP servers {what}")
    return McpTools(name=server.name, launch=launch, capabilities=capabilities, granted=True)


def _not_built(work: Work, name: str, kind: str, what: str) -> UnsupportedTool:
    message = f"{what} not supported yet: the agent runs without {name}"
    work.not_yet(message)
    return UnsupportedTool(name=name, type=kind, message=message)


def _secrets(work: Work, place: Place, refs: dict[str, SecretKeyRef] | None) -> dict[str, SecretRef]:
    here = place.below("secretHeaders")
    return {name: work.secret(here.below(name), ref) for name, ref in (refs or {}).items()}
