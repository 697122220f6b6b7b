"""The tools an agent may use: names followed, servers to be started, secrets checked."""

from __future__ import annotations

from collections.abc import Iterable

from kadre.api.dialects.kaos import MCPServer
from kadre.api.kinds.agent import ToolReference
from kadre.api.kinds.tool import McpTool, Tool, ToolSpec
from kadre.api.parts import SecretKeyRef
from kadre.plan import keys
from kadre.plan.draft import Draft, Entry, Place
from kadre.plan.lookup import find
from kadre.plan.types import LaunchPlan, McpTools, SecretRef, ToolPlan, UnsupportedTool
from kadre.plan.work import Work

CALL_TIMEOUT = McpTools(name="").timeout


def tool_plans(work: Work, draft: Draft) -> list[Entry[ToolPlan]]:
    """Everything the agent names, in its order; what is missing is left out and a Problem."""
    plans: list[Entry[ToolPlan]] = []
    for place, reference in draft.tools:
        with work.following("tool", reference.name):
            plan = _referenced(work, place, reference)
        if plan is not None:
            plans.append(Entry(place, plan))
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
    """What is wrong with an MCPServer by itself."""
    _server(work, server, ())


def check_tool(work: Work, tool: Tool) -> None:
    """What is wrong with a Tool by itself."""
    _tool(work, Place(tool, "spec"), tool.name, tool.spec, ())


def _check_parts(work: Work, place: Place, tool: ToolSpec) -> None:
    """References of a type that isn't built yet stop nothing: warnings."""
    login = tool.api.authentication if tool.api else None
    if login is not None and login.secret_ref is not None:
        where = place.below("api.authentication.secretRef")
        work.secret(where, login.secret_ref, severity="warning")
    if tool.retrieval is None:
        return
    here = place.below("retrieval")
    store, embedding = tool.retrieval.vector_store, tool.retrieval.embedding
    if store.secret_ref is not None:
        work.secret(here.below("vectorStore.secretRef"), store.secret_ref, severity="warning")
    if embedding is not None and embedding.api_key_secret_ref is not None:
        where, key = here.below("embedding.apiKeySecretRef"), embedding.api_key_secret_ref
        keys.named_key(work, where, key, embedding.provider, embedding.endpoint, "warning")


def _referenced(work: Work, place: Place, reference: ToolReference) -> ToolPlan | None:
    """A tool written in place, an endpoint, or a name: of a Tool, else of an MCPServer, else of a Service."""
    name, listed = reference.name, tuple(reference.capabilities or ())
    namespace = place.resource.namespace
    if reference.inline is not None:
        return _tool(work, place, name, reference.inline, listed)
    if reference.endpoint is not None:
        return _endpoint(work, place, reference, reference.endpoint)
    tool = find(work.lookup, Tool, namespace, name)
    if tool is not None:
        return _tool(work, Place(tool, "spec"), name, tool.spec, listed)
    server = find(work.lookup, MCPServer, namespace, name)
    if server is not None:
        return _server(work, server, listed)
    service = work.lookup.service(namespace, name)
    if service:
        return _endpoint(work, place, reference, service)
    kind = MCPServer if work.lookup.broken("MCPServer", namespace, name) else Tool
    fix = f"create a Tool or an MCPServer named {name}, or add endpoint: with the URL of an MCP server"
    work.missing(kind, place.below("name"), name, fix)
    return None


def _tool(work: Work, place: Place, name: str, tool: ToolSpec, listed: tuple[str, ...]) -> ToolPlan:
    if tool.type == "mcp" and tool.mcp is not None:
        capabilities = listed or tuple(tool.capabilities or ())
        plain = McpTools(name=name, capabilities=capabilities, granted=True)
        return _mcp(work, place.below("mcp"), tool.mcp, plain)
    _check_parts(work, place, tool)
    return _not_built(work, name, tool.type, f"tools of type {tool.type} are")


def _endpoint(work: Work, place: Place, reference: ToolReference, url: str) -> McpTools:
    """A bare address: nobody vouched for what is behind it, so nothing but its name is granted."""
    return McpTools(
        name=reference.name,
        url=url,
        transport=reference.transport or "auto",
        headers=reference.headers or {},
        secret_headers=_secrets(work, place, reference.secret_headers),
        capabilities=tuple(reference.capabilities or ()),
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
    )


def _server(work: Work, server: MCPServer, capabilities: tuple[str, ...]) -> ToolPlan:
    config, place = server.spec.config, Place(server, "spec.config.env")
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
