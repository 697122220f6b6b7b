"""Which tools an agent may use, and whom it may hand work to."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from kadre.api.dialects.kaos import KaosAgent, MCPServer
from kadre.api.kinds.agent import Agent, AgentSpec, ToolReference
from kadre.api.kinds.tool import McpTool, Tool, ToolSpec
from kadre.api.parts import EnvVar, SecretKeyRef
from kadre.plan.findings import Findings
from kadre.plan.lookup import AnyAgent, Lookup
from kadre.plan.names import secret_variable, tool_name
from kadre.plan.types import (
    KAOS_GROUP,
    NATIVE_GROUP,
    AgentKey,
    AgentTool,
    LaunchPlan,
    McpTools,
    SecretRef,
    ToolPlan,
    UnsupportedTool,
)

CALL_TIMEOUT = McpTools(name="").timeout


def referenced(references: Sequence[ToolReference], findings: Findings) -> list[ToolPlan]:
    """A plan for each reference that leads somewhere."""
    plans = []
    for number, reference in enumerate(references):
        path = f"spec.tools[{number}]"
        if reference.inline is not None:
            plans.append(_of_type(reference.name, reference.inline, reference, findings))
        elif reference.endpoint is not None:
            plans.append(_endpoint(reference, findings))
        elif (plan := _named(reference, path, findings)) is not None:
            plans.append(plan)
    return plans


def _endpoint(reference: ToolReference, findings: Findings) -> McpTools:
    """A bare MCP endpoint: nobody vouched for what it offers."""
    return McpTools(
        name=reference.name,
        url=reference.endpoint or "",
        transport=reference.transport or "auto",
        headers=reference.headers or {},
        secret_headers=_secrets(reference.secret_headers, findings),
        capabilities=tuple(reference.capabilities or ()),
        timeout=reference.timeout or CALL_TIMEOUT,
    )


def _named(reference: ToolReference, path: str, findings: Findings) -> ToolPlan | None:
    name = reference.name
    tool = findings.find("Tool", name)
    if isinstance(tool, Tool):
        return _of_type(name, tool.spec, reference, findings)
    server = findings.find("MCPServer", name, KAOS_GROUP)
    if isinstance(server, MCPServer):
        return server_tools(server, tuple(reference.capabilities or ()), findings)
    also = findings.lookup.names("MCPServer", findings.resource.namespace, KAOS_GROUP)
    findings.missing("Tool", name, path, also)
    return None


def _of_type(name: str, spec: ToolSpec, reference: ToolReference, findings: Findings) -> ToolPlan:
    capabilities = tuple(reference.capabilities or spec.capabilities or ())
    if spec.type == "mcp" and spec.mcp is not None:
        return _mcp(name, spec.mcp, capabilities, findings)
    message = f"tools of type {spec.type} are not supported yet; the agent runs without {name}"
    findings.not_yet(message)
    return UnsupportedTool(name=name, type=spec.type, message=message)


def _mcp(name: str, mcp: McpTool, capabilities: tuple[str, ...], findings: Findings) -> McpTools:
    env, secret_env = _env(mcp.env, findings)
    launch = None
    if mcp.command:
        launch = LaunchPlan(kind="command", command=tuple(mcp.command), env=env, secret_env=secret_env)
    return McpTools(
        name=name,
        url=mcp.endpoint or "",
        launch=launch,
        transport=mcp.transport,
        headers=mcp.headers or {},
        secret_headers=_secrets(mcp.secret_headers, findings),
        capabilities=capabilities,
        granted=True,
        timeout=mcp.timeout or CALL_TIMEOUT,
    )


def of_servers(names: Iterable[str], findings: Findings) -> list[ToolPlan]:
    """KAOS `mcpServers`: naming one is an allow rule for what it offers."""
    plans = []
    for number, name in enumerate(names):
        server = findings.find("MCPServer", name, KAOS_GROUP)
        if isinstance(server, MCPServer):
            plans.append(server_tools(server, (), findings))
        else:
            also = findings.lookup.names("MCPServer", findings.resource.namespace, KAOS_GROUP)
            findings.missing("MCPServer", name, f"spec.mcpServers[{number}]", also)
    return plans


def server_tools(server: MCPServer, capabilities: tuple[str, ...], findings: Findings) -> ToolPlan:
    """The tools of an MCPServer, which has to be started."""
    config = server.spec.config
    env, secret_env = _env(config.env, findings)
    source = config.tools.from_string if config.tools else None
    package = config.mcp or (config.tools.from_package if config.tools else None)
    if source:
        launch = LaunchPlan(kind="source", source=source, env=env, secret_env=secret_env)
    elif package and server.spec.type != "node-runtime":
        launch = LaunchPlan(kind="package", package=package, env=env, secret_env=secret_env)
    else:
        message = (
            f"MCPServer {server.name} of type {server.spec.type} runs in a cluster only; the agent runs without it"
        )
        findings.not_yet(message)
        return UnsupportedTool(name=server.name, type=server.spec.type, message=message)
    return McpTools(name=server.name, launch=launch, capabilities=capabilities, granted=True)


def _env(variables: Iterable[EnvVar] | None, findings: Findings) -> tuple[dict[str, str], dict[str, SecretRef]]:
    plain, secret = {}, {}
    for variable in variables or ():
        if variable.value is not None:
            plain[variable.name] = variable.value
        elif variable.value_from is not None and variable.value_from.secret_key_ref is not None:
            secret[variable.name] = _secret(variable.value_from.secret_key_ref, findings)
    return plain, secret


def _secrets(refs: dict[str, SecretKeyRef] | None, findings: Findings) -> dict[str, SecretRef]:
    return {name: _secret(ref, findings) for name, ref in (refs or {}).items()}


def _secret(ref: SecretKeyRef, findings: Findings) -> SecretRef:
    env = secret_variable(ref.name, ref.key)
    secret = SecretRef(namespace=findings.resource.namespace, name=ref.name, key=ref.key, env=env)
    if not ref.optional:
        findings.secret(secret, "spec", "a tool")
    return secret


def delegates(names: Sequence[tuple[str, str]], findings: Findings) -> list[ToolPlan]:
    """Agents as tools; `names` are (name, path of the field)."""
    plans: list[ToolPlan] = []
    for name, path in names:
        agent = find_agent(findings.lookup, findings.resource.namespace, name, _group(findings.resource.api_version))
        if agent is None:
            also = findings.lookup.names("Agent", findings.resource.namespace, KAOS_GROUP)
            findings.missing("Agent", name, path, also)
            continue
        network = agent.spec.agent_network
        if network is not None and network.expose is False:
            fix = f"write expose: true in {name}, or remove it here"
            findings.add("AgentNotExposed", f"agent {name} does not let others call it", fix, path)
            continue
        plans.append(AgentTool(name=tool_name(name), agent=key_of(agent), description=_about(agent)))
    return plans


def find_agent(lookup: Lookup, namespace: str, name: str, group: str) -> AnyAgent | None:
    """The agent of that name: of the same API group first."""
    for wanted in dict.fromkeys((group, NATIVE_GROUP, KAOS_GROUP)):
        agent = lookup.get("Agent", namespace, name, wanted)
        if isinstance(agent, Agent | KaosAgent):
            return agent
    return None


def delegate_names(spec: AgentSpec) -> list[tuple[str, str]]:
    """Whom the agent may call, once each, with the field that says so."""
    found = {name: f"spec.agents[{number}]" for number, name in enumerate(spec.agents or ())}
    access = spec.agent_network.access if spec.agent_network else None
    for number, name in enumerate(access or ()):
        found.setdefault(name, f"spec.agentNetwork.access[{number}]")
    return list(found.items())


def key_of(agent: AnyAgent) -> AgentKey:
    """The agent's key."""
    return AgentKey(agent.namespace, agent.name, _group(agent.api_version))


def _group(api_version: str) -> str:
    return api_version.partition("/")[0]


def _about(agent: AnyAgent) -> str:
    if isinstance(agent, KaosAgent):
        return (agent.spec.config.description if agent.spec.config else None) or ""
    return agent.spec.description or agent.spec.display_name or ""
