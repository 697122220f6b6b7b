"""KAOS: Agent, ModelAPI and MCPServer of kaos.tools/v1alpha1, under their own field names.

`agent_spec` says the parts of a KaosAgent that need no other object in the native kind's words; whom its `modelAPI`
and `mcpServers` name is for whoever follows references.
"""

from collections.abc import Iterator, Mapping
from typing import Any, ClassVar, Literal

from pydantic import Field

from kadre.api import checks
from kadre.api.dialects.kaos_parts import (
    AgenticLoop,
    Autonomous,
    Container,
    KaosAgentStatus,
    KaosMemory,
    KaosStatus,
    McpServerStatus,
    TaskLimits,
    Telemetry,
    Workload,
    check_workload,
)
from kadre.api.kinds.agent import (
    AgentMemory,
    AgentNetwork,
    AgentSpec,
    InlineMemoryConfig,
    Observability,
    Runtime,
    Tracing,
)
from kadre.api.parts import ConfigMapKeyRef, EnvVar, Positive, SecretKeyRef, UrlOrNothing, check_env
from kadre.api.resource import KAOS, LABEL, SERVICE_NAME, Column, Listing, Resource, Spec
from kadre.base.problems import Problem

READY = (Column("Ready", ".status.ready", "boolean"), Column("Phase", ".status.phase"))


class KaosAgentConfig(Spec):
    """What the agent is."""

    description: str | None = None
    """What the agent does; other agents read it when they choose whom to ask."""
    instructions: str | None = None
    """What the model is told before every conversation."""
    system_prompt: str | None = None
    """Told before the instructions."""
    env: list[EnvVar] | None = None
    """Environment variables of the agent's process. LLM_MODEL or MODEL_NAME names the model."""
    memory: KaosMemory | None = None
    """What the agent remembers."""
    reasoning_loop_max_steps: Positive | None = None
    """Model calls in one run; 10 where nothing is written."""
    agentic_loop: AgenticLoop | None = None
    """The reasoning loop, as KAOS spelled it first."""
    tool_call_mode: Literal["auto", "native", "string"] | None = None
    """How tools are offered: by the provider's API (native), in the prompt (string), or whichever works (auto)."""
    telemetry: Telemetry | None = None
    """OpenTelemetry."""
    autonomous: Autonomous | None = None
    """Work without being asked."""
    task_config: TaskLimits | None = None
    """Bounds of one task."""


class KaosAgentSpec(Workload):
    """An agent: its model's server, its tools' servers, and what it is."""

    model_api: str = Field(alias="modelAPI")
    """The name of a ModelAPI."""
    model: str | None = None
    """The model, as the ModelAPI knows it; `MODEL_NAME` or the ModelAPI's own where nothing is written."""
    mcp_servers: list[str] | None = None
    """Names of MCPServers whose tools the agent may use."""
    agent_network: AgentNetwork | None = None
    """Which agents this one may call, and whether others may call it."""
    config: KaosAgentConfig | None = None
    """What the agent is."""
    wait_for_dependencies: bool | None = None
    """Whether it starts only when its model and tools are ready; true where nothing is written."""


class KaosAgent(Resource):
    """An agent that people and other agents can talk to."""

    listing = Listing(
        "agents",
        columns=(Column("ModelAPI", ".spec.modelAPI"), Column("Model", ".spec.model"), *READY),
        defaults=False,
    )
    status_model = KaosAgentStatus
    name_rule = SERVICE_NAME

    api_version: str = KAOS
    kind: Literal["Agent"] = "Agent"
    spec: KaosAgentSpec

    def check(self) -> Iterator[Problem]:
        """Names twice, and an agent that hands work to itself."""
        spec = self.spec
        access = spec.agent_network.access if spec.agent_network else None
        for path, names in (("spec.mcpServers", spec.mcp_servers), ("spec.agentNetwork.access", access)):
            for number, name in enumerate(names or ()):
                if name in (names or [])[:number]:
                    yield Problem(
                        "DuplicateName", f"{name} is listed twice", fix="keep one of the two", path=f"{path}[{number}]"
                    )
        for number, name in enumerate(access or ()):
            if name == self.name:
                yield Problem(
                    "SelfReference",
                    f"{name} can't hand work to itself",
                    fix="remove it from the list",
                    path=f"spec.agentNetwork.access[{number}]",
                )
        if spec.config is not None:
            yield from check_env(spec.config.env, "spec.config.env")
        yield from check_workload(spec)


class ApiKeyValueFrom(Spec):
    """Where the API key is."""

    secret_key_ref: SecretKeyRef | None = None
    """A key of a Secret."""
    config_map_key_ref: ConfigMapKeyRef | None = None
    """A key of a ConfigMap."""


class ApiKeySource(Spec):
    """The API key of the server behind the proxy."""

    value: str | None = Field(default=None, repr=False)
    """The key itself: better kept in a Secret."""
    value_from: ApiKeyValueFrom | None = None
    """Where the key is."""


class ConfigYamlSource(Spec):
    """LiteLLM's own configuration."""

    from_string: str | None = None
    """The YAML, written here."""
    from_secret_key_ref: SecretKeyRef | None = None
    """The Secret key that holds the YAML."""


class ProxyConfig(Spec):
    """mode Proxy: a server elsewhere."""

    models: list[str] | None = None
    """Names of the models it serves; `*` for any. The first without a `*` is used by agents that name none."""
    provider: str | None = None
    """LiteLLM's name of the provider, put before the model's name."""
    api_base: UrlOrNothing | None = None
    """Base URL of the server."""
    api_key: ApiKeySource | None = None
    """Its API key."""
    config_yaml: ConfigYamlSource | None = None
    """LiteLLM's own configuration."""
    env: list[EnvVar] | None = None
    """Environment variables of the proxy."""

    accepts: ClassVar[Mapping[str, tuple[Any, str]]] = {
        "model": (str, "The same as models with one name."),
        "apiKey": (Any, "The API key, as `valueFrom` with a `secretKeyRef`; or the key itself."),
    }

    @classmethod
    def canonical(cls, data: Any) -> Any:
        """`model: x` is KAOS's older spelling of `models: [x]`; `apiKey: text` of `apiKey: {value: text}`."""
        if isinstance(data, dict):
            if "model" in data and "models" not in data:
                data["models"] = [data.pop("model")]
            if isinstance(data.get("apiKey"), str):
                data["apiKey"] = {"value": data["apiKey"]}
        return data


class HostedConfig(Spec):
    """mode Hosted: an Ollama server that is started."""

    model: str
    """The model it serves, as Ollama names it."""
    env: list[EnvVar] | None = None
    """Environment variables of the server."""


class ModelAPISpec(Workload):
    """A server of models."""

    spellings: ClassVar[Mapping[str, str]] = {"serverConfig": "hostedConfig"}

    mode: Literal["Hosted", "Proxy"]
    """Hosted: an Ollama server is started. Proxy: a server elsewhere is used."""
    hosted_config: HostedConfig | None = None
    """mode Hosted: which model."""
    proxy_config: ProxyConfig | None = None
    """mode Proxy: which server."""


class ModelAPI(Resource):
    """A server of models, which agents refer to by name."""

    listing = Listing("modelapis", short=("mapi",), columns=(Column("Mode", ".spec.mode"), *READY))
    status_model = KaosStatus
    name_rule = LABEL

    api_version: str = KAOS
    kind: Literal["ModelAPI"] = "ModelAPI"
    spec: ModelAPISpec

    def check(self) -> Iterator[Problem]:
        """Sections that are missing or for the other mode, and pods that no cluster takes."""
        sections = {"Hosted": "hostedConfig", "Proxy": "proxyConfig"}
        given = {"Hosted": self.spec.hosted_config, "Proxy": self.spec.proxy_config}
        mode = self.spec.mode
        other = "Proxy" if mode == "Hosted" else "Hosted"
        if given[mode] is None:
            yield Problem(
                "MissingField",
                f"mode {mode} needs the section {sections[mode]}",
                fix=f"add {sections[mode]}:",
                path="spec",
            )
        if given[other] is not None:
            yield Problem(
                "WrongSection",
                f"the section {sections[other]} has no meaning with mode {mode}",
                fix=f"remove it, or write mode: {other}",
                path=f"spec.{sections[other]}",
            )
        yield from check_workload(self.spec)


class McpToolsSource(Spec):
    """Where the tools come from; exactly one of these."""

    from_string: str | None = None
    """Python functions, written here; each becomes a tool."""
    from_package: str | None = None
    """A PyPI package that is an MCP server."""
    from_secret_key_ref: SecretKeyRef | None = None
    """The Secret key that holds the Python functions."""


class McpServerConfig(Spec):
    """What the server runs."""

    mcp: str | None = None
    """A PyPI package that is an MCP server."""
    tools: McpToolsSource | None = None
    """Where the tools come from."""
    image: str | None = None
    """type custom: a container image that is an MCP server."""
    env: list[EnvVar] | None = None
    """Environment variables of the server."""
    telemetry: Telemetry | None = None
    """OpenTelemetry."""

    accepts: ClassVar[Mapping[str, tuple[Any, str]]] = {"toolsString": (str, "The same as tools.fromString.")}

    @classmethod
    def canonical(cls, data: Any) -> Any:
        """`toolsString: text` is KAOS's older spelling of `tools: {fromString: text}`."""
        if isinstance(data, dict) and "toolsString" in data and "tools" not in data:
            data["tools"] = {"fromString": data.pop("toolsString")}
        return data


class MCPServerSpec(Workload):
    """A server of tools."""

    type: Literal["python-runtime", "node-runtime", "custom"]
    """python-runtime: a PyPI package or functions written here; node-runtime: an npm package; custom: an image."""
    config: McpServerConfig
    """What the server runs."""

    accepts: ClassVar[Mapping[str, tuple[Any, str]]] = {
        "runtime": (str, "The same as type; python-string takes the functions from params."),
        "params": (Any, "What the runtime runs."),
    }

    @classmethod
    def canonical(cls, data: Any) -> Any:
        """KAOS's newer `runtime` and `params` are `type` and `config`."""
        if isinstance(data, dict) and "runtime" in data and "type" not in data:
            runtime, params = data.pop("runtime"), data.pop("params", None)
            config = data["config"] if isinstance(data.get("config"), dict) else {}
            if runtime == "python-string":
                return {**data, "type": "python-runtime", "config": {**config, "tools": {"fromString": params}}}
            return {**data, "type": runtime, "config": config}
        return data


class MCPServer(Resource):
    """A server of tools, which agents refer to by name."""

    listing = Listing(
        "mcpservers",
        short=("mcp", "mcps"),
        columns=(Column("Type", ".spec.type"), Column("MCP", ".spec.config.mcp"), *READY),
    )
    status_model = McpServerStatus
    name_rule = LABEL

    api_version: str = KAOS
    kind: Literal["MCPServer"] = "MCPServer"
    spec: MCPServerSpec

    def check(self) -> Iterator[Problem]:
        """Exactly one place the tools come from, code that is code, and pods that a cluster takes."""
        config = self.spec.config
        tools = config.tools
        image = config.image or (self.spec.container.image if self.spec.container else None)
        places = [
            config.mcp,
            tools and tools.from_string,
            tools and tools.from_package,
            tools and tools.from_secret_key_ref,
        ]
        given = sum(place is not None for place in places)
        if given + (image is not None) != 1:
            yield Problem(
                "ConflictingFields" if given else "MissingField",
                "an MCPServer's tools come from exactly one place",
                fix="write one of config.mcp, config.tools.fromString, .fromPackage, .fromSecretKeyRef"
                " or, with type: custom, config.image",
                path="spec.config",
            )
        if tools and tools.from_string is not None:
            yield from checks.check_python(tools.from_string, "spec.config.tools.fromString")
        yield from check_env(config.env, "spec.config.env")
        yield from check_workload(self.spec)


def agent_spec(spec: KaosAgentSpec) -> AgentSpec:
    """A KAOS agent's own words in the native kind's; `modelAPI`, `model` and `mcpServers` are left to the caller."""
    config = spec.config or KaosAgentConfig()
    container = spec.container or Container()
    loop = config.agentic_loop or AgenticLoop()
    task = config.task_config or TaskLimits()
    prompt = "\n\n".join(text for text in (config.system_prompt, config.instructions) if text)
    network = spec.agent_network
    if network is not None and loop.enable_delegation is False:
        network = AgentNetwork(expose=network.expose)
    telemetry = config.telemetry
    return AgentSpec(
        description=config.description,
        system_prompt=prompt or None,
        agent_network=network,
        memory=_memory(config.memory),
        max_steps=config.reasoning_loop_max_steps or loop.max_steps or task.max_iterations or None,
        max_tool_calls=task.max_tool_calls or None,
        timeout=_timeout(spec, task),
        env=list({each.name: each for each in (*(config.env or ()), *(container.env or ()))}.values()) or None,
        observability=Observability(
            tracing=Tracing(enabled=telemetry.enabled, provider="otlp", endpoint=telemetry.endpoint)
        )
        if telemetry is not None
        else None,
        replicas=spec.replicas,
        resources=container.resources or spec.resources,
        runtime=Runtime(image=container.image) if container.image else None,
    )


def _timeout(spec: KaosAgentSpec, task: TaskLimits) -> float | None:
    if task.max_runtime_seconds:
        return float(task.max_runtime_seconds)
    return (spec.gateway_route.timeout if spec.gateway_route else None) or None


def _memory(memory: KaosMemory | None) -> AgentMemory | None:
    if memory is None:
        return None
    if memory.enabled is False:
        return AgentMemory(type="in-memory", config=InlineMemoryConfig(max_conversation_history=0))
    if memory.memory_store:
        return AgentMemory(store_ref=memory.memory_store)
    return None
