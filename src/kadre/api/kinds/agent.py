"""Agent: a model, a prompt, tools, and what it needs to run. AgentTemplate has the same fields.

No field has a default: `None` means that the author did not write it, so that a template's value can stand. What
holds where nobody wrote anything is said in the description and applied when the plan is made.
"""

from collections.abc import Iterator, Mapping
from typing import Annotated, Any, ClassVar, Literal, get_args

from pydantic import Field

from kadre.api.checks import check_pattern
from kadre.api.kinds.memory_store import MemoryPolicy, MemoryType, Tls
from kadre.api.kinds.model_config import InlineModel, check_model
from kadre.api.kinds.scaling import Scaling, check_scaling
from kadre.api.kinds.tool import ToolSpec, ToolType, check_tool
from kadre.api.parts import (
    AgentReference,
    Count,
    Duration,
    EnvVar,
    Host,
    IntOrText,
    NameRef,
    Parameter,
    Port,
    Positive,
    ResourceRequirements,
    SecretKeyRef,
    Url,
    UrlOrNothing,
    check_env,
    check_resources,
)
from kadre.api.resource import NATIVE, POOL_NAME, SERVICE_NAME, SUBDOMAIN, Column, Listing, Resource, Spec, Status
from kadre.base.errors import shorten
from kadre.base.problems import Problem


class ToolReference(Spec):
    """A tool the agent may use: a name, an MCP endpoint, or the whole tool written here."""

    name: str
    """The name of a Tool, else of an MCPServer, else of a Service; with `endpoint` or `type`, any name."""
    endpoint: Url | None = None
    """URL of an MCP server. Without a path it is tried at /mcp, then /sse."""
    capabilities: list[str] | None = None
    """What may be used: read, write, exec, admin, query (read-only tools), tool names, globs. Empty: everything."""
    transport: Literal["auto", "http", "sse"] | None = None
    """With `endpoint`: streamable HTTP, server-sent events, or whichever answers."""
    headers: dict[str, str] | None = None
    """With `endpoint`: HTTP headers sent with every call; no secrets here."""
    secret_headers: dict[str, SecretKeyRef] | None = None
    """With `endpoint`: HTTP headers whose whole value is in a Secret."""
    timeout: Duration | None = None
    """How long one call may take."""
    trusted: bool | None = None
    """Whether you vouch for it, whatever the Tool says: what it answers is then no text from outside, after which
    writes that only a class of capabilities allows are asked for; nor does such text end what a class allows of it."""
    inline: ToolSpec | None = None
    """The whole tool, written here as `type` and `config`."""

    union = True
    accepts: ClassVar[Mapping[str, tuple[Any, str]]] = {
        "type": (ToolType, "Makes this a whole tool instead of a reference."),
        "config": (dict[str, Any], "The section of the tool's type."),
        "description": (str, "What the tool does and when to use it, as the model reads it."),
        "displayName": (str, "A name for people."),
        "parameters": (list[Parameter], "What the model must give."),
        "output": (dict[str, Any], "The JSON Schema of the answer."),
        "idempotent": (bool, "Whether a call may be repeated when it isn't known whether it happened."),
    }

    @classmethod
    def canonical(cls, data: Any) -> Any:
        """A bare name is a reference; `type` makes it a tool written in place."""
        if isinstance(data, str):
            return {"name": data}
        if not isinstance(data, dict) or "type" not in data:
            return data
        tool = {key: data.pop(key) for key in cls.accepts if key in data}
        config = tool.pop("config", None)
        if config is not None and tool["type"] in get_args(ToolType):
            tool[tool["type"]] = config
        return {**data, "inline": tool}


Class = Literal["read", "write", "exec", "admin", "query"]


class ApprovalRule(Spec):
    """What becomes of calls: of those that all its conditions hold for, of all where it has none."""

    action: Literal["allow", "ask", "deny"]
    """allow: the call is made; ask: a person decides; deny: it is refused, and the tool isn't offered where no argument
    decides."""
    tools: list[str] | None = None
    """Names and globs: of a tool, of an entry of `tools` (all of that server's), or of both as `github/create_*`."""
    capabilities: list[Class] | None = None
    """Classes of tools: read, write, exec, admin, query. To deny and to ask, write is every tool not known to only
    read."""
    arguments: dict[str, str] | None = None
    """Regular expressions (RE2), each to be found in the argument of that name; `a.b` is the field b of the argument a.
    Values that are no text are searched as JSON."""
    message: Annotated[str, Field(max_length=1024)] | None = None
    """Why, for the person who is asked or the model that is refused."""


class Approvals(Spec):
    """Which calls are made, which a person decides about, which are refused."""

    policy: list[ApprovalRule] | None = None
    """Rules; the first that holds decides, an agent's before its template's. Where none does: what a tool's name or a
    capability allows is made, the rest is asked for."""
    expires: Duration | None = None
    """How long a person has to decide; 1h where nothing is written."""
    on_expiry: Literal["deny", "allow"] | None = None
    """What becomes of a call that nobody decides in time; deny where nothing is written. What is asked for because text
    from outside has entered the run is denied in any case."""


class AgentNetwork(Spec):
    """Which agents this one may call, and whether others may call it."""

    access: list[str] | None = None
    """Names of agents this one may hand work to; the same as `agents`."""
    expose: bool | None = None
    """Whether other agents may find and call this one; true where nothing is written."""


class InlineMemoryConfig(MemoryPolicy):
    """Where the store is, and how much is kept."""

    host: Host | None = None
    """The server's address."""
    port: Port | None = None
    """The server's port, where it isn't the usual one."""
    database: IntOrText | None = None
    """redis: the number of the database; postgres: its name."""
    username: str | None = None
    """The user who logs in; where none is given, postgres: `postgres`, redis: the server's default user."""
    tls: Tls | None = None
    """Whether the connection is encrypted."""


class AgentMemory(Spec):
    """Where conversations are kept: a MemoryStore, or a store written here."""

    store_ref: NameRef | None = None
    """The name of a MemoryStore."""
    type: MemoryType | None = None
    """redis, postgres, sqlite or in-memory, instead of `storeRef`."""
    config: InlineMemoryConfig | None = None
    """Where the store is, and how much is kept."""
    secret_ref: SecretKeyRef | None = None
    """The Secret key that holds the store's password; where config names no host, its whole address
    (`postgresql://USER:PASSWORD@HOST:PORT/DATABASE`, `redis://USER:PASSWORD@HOST:PORT/DATABASE`)."""


class Tracing(Spec):
    """Traces of runs."""

    enabled: bool | None = None
    """Whether traces are sent."""
    provider: Literal["langfuse", "langsmith", "cloudwatch", "otlp"] | None = None
    """Where they are sent."""
    sample_rate: Annotated[float, Field(ge=0, le=1)] | None = None
    """The share of runs that are traced, from 0 to 1."""
    endpoint: UrlOrNothing | None = None
    """URL of the collector."""
    secret_ref: SecretKeyRef | None = None
    """The Secret key that holds the collector's API key."""


class AgentMetrics(Spec):
    """Prometheus metrics."""

    enabled: bool | None = None
    """Whether they are served; true where nothing is written."""
    port: Port | None = None
    """The port they are served at; 9090 where nothing is written."""


class Observability(Spec):
    """What is told about runs."""

    tracing: Tracing | None = None
    """Traces of runs."""
    metrics: AgentMetrics | None = None
    """Prometheus metrics."""


class HealthCheck(Spec):
    """Probes of the agent's pod."""

    enabled: bool | None = None
    """Whether the pod is probed; true where nothing is written."""
    path: str | None = None
    """The path that is asked."""
    port: Port | None = None
    """The port that is asked."""
    initial_delay_seconds: Count | None = None
    """Seconds before the first probe."""
    period_seconds: Positive | None = None
    """Seconds between probes."""
    timeout_seconds: Positive | None = None
    """Seconds a probe may take."""
    failure_threshold: Positive | None = None
    """Failed probes in a row after which the pod is restarted."""


class RateLimits(Spec):
    """How much the agent may do in a minute; beyond it callers get 429 with Retry-After."""

    requests_per_minute: Positive | None = None
    """Runs begun in a minute."""
    tokens_per_minute: Positive | None = None
    """Tokens used in a minute."""


class NetworkPolicy(Spec):
    """Who may reach the agent's pods in a cluster, and what they may reach, where the cluster's network heeds it."""

    enabled: bool | None = None
    """Whether the agent has a NetworkPolicy; as the installation says where nothing is written."""
    allow_from: list[dict[str, Any]] | None = None
    """Who may talk to the agent, as peers of a NetworkPolicy; everybody where nothing is written. The
    gateway always may, and its metrics may be read by everybody."""
    egress: list[dict[str, Any]] | None = None
    """What the agent may reach, as egress rules of a NetworkPolicy; everything where nothing is written. Names are
    looked up whatever is written."""


class Runtime(Spec):
    """What runs the agent in a cluster."""

    mode: Literal["Dedicated", "Pooled"] | None = None
    """Dedicated: a Deployment of its own (where nothing is written). Pooled: one process for many agents."""
    pool: str | None = None
    """Pooled: the name of the pool, one of the agent's namespace; `default` where nothing is written."""
    image: str | None = None
    """A container image to run instead of Kadre's, which speaks OpenAI's API or A2A."""


class AgentSpec(Spec):
    """A model, a prompt, tools, and what it needs to run."""

    spellings: ClassVar[Mapping[str, str]] = {"systemMessage": "systemPrompt"}

    display_name: str | None = None
    """A name for people."""
    description: str | None = None
    """What the agent does; other agents read it when they choose whom to ask."""
    template_ref: NameRef | None = None
    """The name of an AgentTemplate. What is written here wins, lists are joined."""
    model_config_ref: str | None = Field(default=None, alias="modelConfig")
    """The name of a ModelConfig; or write `model`."""
    model: InlineModel | None = None
    """The model, written here instead of in a ModelConfig; with `modelConfig`, what is written here wins."""
    system_prompt: str | None = None
    """What the model is told before every conversation."""
    tools: list[ToolReference] | None = None
    """The tools the agent may use."""
    approvals: Approvals | None = None
    """Which calls are made, which a person decides about, which are refused."""
    agents: list[str] | None = None
    """Names of agents this one may hand work to."""
    agent_network: AgentNetwork | None = None
    """Which agents this one may call, and whether others may call it."""
    memory: AgentMemory | None = None
    """Where conversations are kept; beside the agent where nothing is written."""
    max_steps: Positive | None = None
    """Model calls in one run; 10 where nothing is written."""
    max_tool_calls: Count | None = None
    """Tool calls in one run; 50 where nothing is written."""
    timeout: Duration | None = None
    """How long a run may take, waiting for approval not counted; 300s where nothing is written."""
    max_output_bytes: Positive | None = None
    """Bytes of one tool's answer that reach the model; 65536 where nothing is written."""
    tool_budget: Annotated[float, Field(ge=0, le=1)] | None = None
    """The share of the model's context that descriptions and schemas of tools may take, from 0 to 1; 0.1 where nothing
    is written. Where they would take more, those of the largest servers are not sent with every request: the model gets
    `find_tools`, which finds them by words, and what it found is sent from then on."""
    on_busy: Literal["queue", "reject", "interrupt"] | None = None
    """What happens to a message to a session that is busy: it waits (queue, where nothing is written), is refused with
    409 (reject), or ends the run before it (interrupt)."""
    queue_limit: Positive | None = None
    """Messages that may wait in one session; 8 where nothing is written."""
    max_concurrent_runs: Positive | None = None
    """Runs under way at once in one process; 256 where nothing is written. Beyond it callers get 429 with
    Retry-After."""
    rate_limits: RateLimits | None = None
    """How much the agent may do in a minute."""
    env: list[EnvVar] | None = None
    """Environment variables of the agent's process. LLM_MODEL or MODEL_NAME names the model."""
    observability: Observability | None = None
    """What is told about runs."""
    health_check: HealthCheck | None = None
    """Probes of the agent's pod."""
    scaling: Scaling | None = None
    """How many pods run."""
    replicas: Count | None = None
    """Pods that run where `scaling` doesn't say; 1 where nothing is written."""
    resources: ResourceRequirements | None = None
    """CPU and memory of the agent's container."""
    runtime: Runtime | None = None
    """What runs the agent in a cluster."""
    service_account_name: str | None = None
    """The ServiceAccount of the agent's pod; one of its own where nothing is written."""
    service_account_annotations: dict[str, str] | None = None
    """Annotations of the agent's own ServiceAccount: who it is to a cloud, e.g. `eks.amazonaws.com/role-arn`."""
    network_policy: NetworkPolicy | None = None
    """Who may reach the agent's pods, and what they may reach."""


class AgentStatus(Status):
    """What the controller reports of an Agent."""

    phase: str | None = None
    """Pending, Ready, Degraded, Failed or Terminating: the conditions in one word."""
    model: str | None = None
    """The model in use, as provider/model."""
    replicas: int | None = None
    """Pods that exist."""
    ready_replicas: int | None = None
    """Pods that are ready."""
    url: str | None = None
    """The address of the agent inside the cluster."""
    pool: str | None = None
    """The pool whose pods answer for the agent; none: its own do."""
    plan_hash: str | None = None
    """The plan that was applied last."""
    revision: int | None = None
    """The Deployment revision that runs."""
    delegates: list[AgentReference] | None = None
    """The agents that its pods may ask, by which the gateway knows: those its plan hands work to."""


class Agent(Resource):
    """An agent that people and other agents can talk to."""

    listing = Listing(
        "agents",
        short=("ag",),
        columns=(
            Column("Ready", '.status.conditions[?(@.type=="Ready")].status'),
            Column("Reason", '.status.conditions[?(@.type=="Ready")].reason'),
            Column("Model", ".status.model"),
            Column("Replicas", ".status.readyReplicas", "integer"),
            Column("URL", ".status.url", priority=1),
            Column("Message", '.status.conditions[?(@.type=="Ready")].message', priority=1),
        ),
        defaults=False,
    )
    status_model = AgentStatus
    name_rule = SERVICE_NAME

    api_version: str = NATIVE
    kind: Literal["Agent"] = "Agent"
    spec: AgentSpec

    def check(self) -> Iterator[Problem]:
        """See `check_agent`; an agent can't hand work to itself."""
        yield from check_agent(self.spec)
        network = self.spec.agent_network
        for path, names in (
            ("spec.agents", self.spec.agents),
            ("spec.agentNetwork.access", network.access if network else None),
        ):
            for number, name in enumerate(names or ()):
                if name == self.name:
                    yield Problem(
                        "SelfReference",
                        f"{name} can't hand work to itself",
                        fix="remove it from the list",
                        path=f"{path}[{number}]",
                    )


def check_agent(spec: AgentSpec) -> Iterator[Problem]:
    """What is wrong within one Agent or AgentTemplate."""
    if spec.model is not None:
        yield from check_model(spec.model, "spec.model")
    yield from _check_tools(spec.tools or [])
    network = spec.agent_network
    yield from _unique(spec.agents, "spec.agents", "agent")
    yield from _unique(network.access if network else None, "spec.agentNetwork.access", "agent")
    yield from _check_approvals(spec.approvals)
    if spec.memory is not None:
        yield from _check_memory(spec.memory)
    if spec.scaling is not None:
        yield from check_scaling(spec.scaling, "spec.scaling")
    yield from check_env(spec.env, "spec.env")
    yield from check_resources(spec.resources, "spec.resources")
    account = spec.service_account_name
    if account and not SUBDOMAIN.pattern.fullmatch(account):
        message = f"{shorten(account, 80)!r} can't be the name of a ServiceAccount"
        yield Problem("InvalidName", message, fix=SUBDOMAIN.fix, path="spec.serviceAccountName")
    runtime = spec.runtime
    if runtime is not None and runtime.pool and not POOL_NAME.pattern.fullmatch(runtime.pool):
        message = f"{shorten(runtime.pool, 80)!r} can't be the name of a pool"
        yield Problem("InvalidName", message, fix=POOL_NAME.fix, path="spec.runtime.pool")
    if runtime is not None and runtime.pool and runtime.mode == "Dedicated":
        yield Problem(
            "ConflictingFields",
            "a Dedicated agent has no pool",
            fix="write mode: Pooled, or remove pool",
            path="spec.runtime.pool",
        )


def _check_tools(tools: list[ToolReference]) -> Iterator[Problem]:
    yield from _unique([tool.name for tool in tools], "spec.tools", "tool", field=".name")
    for number, tool in enumerate(tools):
        path = f"spec.tools[{number}]"
        if tool.inline is not None:
            yield from check_tool(tool.inline, path)
            if tool.endpoint is not None:
                yield Problem(
                    "ConflictingFields",
                    f"the tool {tool.name} has both an endpoint and a type",
                    fix="for an MCP server keep endpoint; for any other tool put its address into config",
                    path=f"{path}.endpoint",
                )


def _check_approvals(approvals: Approvals | None) -> Iterator[Problem]:
    if approvals is not None and approvals.expires is not None and approvals.expires <= 0:
        yield Problem(
            "InvalidValue",
            "nobody can decide in no time",
            fix="write how long a person has, as in 1h, or remove it",
            path="spec.approvals.expires",
        )
    for number, rule in enumerate((approvals.policy if approvals else None) or ()):
        for name, pattern in (rule.arguments or {}).items():
            yield from check_pattern(pattern, f"spec.approvals.policy[{number}].arguments.{name}")


def _check_memory(memory: AgentMemory) -> Iterator[Problem]:
    inline = memory.type is not None or memory.secret_ref is not None
    if memory.store_ref is not None and inline:
        yield Problem(
            "ConflictingFields",
            "memory names a MemoryStore and describes a store as well",
            fix="keep storeRef, or type and config",
            path="spec.memory.storeRef",
        )
    hosted = memory.config is not None and memory.config.host
    scheme = {"postgres": "postgresql", "redis": "redis"}.get(memory.type or "")
    if memory.store_ref is None and scheme and not hosted and memory.secret_ref is None:
        whole_fix = f"a secretRef to a key that holds {scheme}://…, "
        yield Problem(
            "MissingField",
            f"memory of type {memory.type} needs the server's address",
            fix=f"add config.host, {whole_fix}or use storeRef",
            path="spec.memory.config",
        )
    database = memory.config.database if memory.config is not None else None
    if memory.type == "redis" and database is not None and not str(database).isdecimal():
        yield Problem(
            "InvalidValue",
            f"a database of Redis has a number, which {database} is none",
            fix="write its number, as in database: 0",
            path="spec.memory.config.database",
        )


def _unique(names: list[str] | None, path: str, what: str, field: str = "") -> Iterator[Problem]:
    seen: set[str] = set()
    for number, name in enumerate(names or ()):
        if name in seen:
            yield Problem(
                "DuplicateName",
                f"the {what} {name} is listed twice",
                fix="keep one of the two",
                path=f"{path}[{number}]{field}",
            )
        seen.add(name)
