"""What a plan is made of: plain data, complete, immutable, JSON either way, and without a secret value.

A plan is what an agent host runs and what the operator writes into a ConfigMap, so these types are the
contract between everything that understands YAML (above) and everything that runs (below). msgspec and
not pydantic: a host of a thousand agents holds a thousand of them and validates none.
"""

from __future__ import annotations

from typing import Any, ClassVar, Literal

import msgspec

from kadre.base.problems import Problem
from kadre.plan import outline

NATIVE_GROUP = "kagent.dev"
KAOS_GROUP = "kaos.tools"

Provider = Literal["openai", "anthropic", "bedrock", "ollama", "vllm", "gpustack", "scripted", "local"]
DependencyKind = Literal["model", "template", "memory", "env", "tool", "agent"]
OnBusy = Literal["queue", "reject", "interrupt"]


class Data(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Base of plan types: keyword-only, immutable, defaults left out of the JSON."""

    hidden: ClassVar[frozenset[str]] = frozenset()
    """Fields in which authors put secrets all the same: of a mapping its keys are shown, of a list its first part."""

    def __repr__(self) -> str:
        """What differs from the defaults, without values that may be secret."""
        return outline.shown(self, self.hidden)


class AgentKey(msgspec.Struct, frozen=True, order=True):
    """Which agent: names are unique within a namespace and API group."""

    namespace: str
    name: str
    group: str = NATIVE_GROUP

    @property
    def short(self) -> str:
        """`namespace/name`, for people: two groups that have the same are rare, and every list shows more than this."""
        return f"{self.namespace}/{self.name}"

    def __str__(self) -> str:
        """`namespace/name`, with the group appended where it is not the native one: a journal key, a label."""
        base = f"{self.namespace}/{self.name}"
        return base if self.group == NATIVE_GROUP else f"{base}.{self.group}"


class SecretRef(Data, frozen=True):
    """Where a secret value is to be read, never the value: in a key of a Secret, else on a laptop in `.env`."""

    namespace: str = ""
    name: str = ""
    key: str = ""
    env: str = ""
    """The line of `.env` that may hold it."""
    exported: bool = False
    """The process's variable of that name may hold it, too: it is the own one of the provider that gets the value."""


class ModelPlan(Data, frozen=True):
    """A model and how to reach it.

    `params` holds the sampling fields the author set, by their canonical snake_case names: temperature, max_tokens,
    top_p, top_k, frequency_penalty, presence_penalty, stop, seed.
    """

    hidden = frozenset({"endpoint", "headers"})

    provider: Provider
    model: str
    endpoint: str = ""
    """Base URL including the version segment, e.g. `https://api.openai.com/v1`; empty for local and scripted."""
    api_key: SecretRef | None = None
    params: dict[str, Any] = {}
    headers: dict[str, str] = {}
    timeout: float = 120.0
    """Seconds without a byte from the model before the call fails."""
    tool_calls: Literal["auto", "native", "shim"] = "auto"
    context_window: int = 0
    """Tokens it reads at once; 0: what its provider's usually do."""
    region: str = ""
    exported: bool = False
    """bedrock only: credentials that AWS's own tools find on the machine may sign: the address is Amazon's own."""
    hosted: bool = False
    """The author wants the model run for them (KAOS `mode: Hosted`): on a laptop a stand-in may take its place."""
    rules: str = ""
    """scripted only: path of the rules file; empty: the built-in rules."""
    rules_version: str = ""
    """Differs where the content of that file does."""


class LaunchPlan(Data, frozen=True):
    """An MCP server that the host's surroundings must start: a PyPI package, or the author's own source."""

    hidden = frozenset({"source", "command", "env"})

    kind: Literal["package", "source", "command"]
    package: str = ""
    source: str = ""
    command: tuple[str, ...] = ()
    env: dict[str, str] = {}
    secret_env: dict[str, SecretRef] = {}


class McpTools(Data, frozen=True, tag_field="kind", tag="mcp"):
    """The tools of one MCP server."""

    hidden = frozenset({"url", "headers"})

    name: str
    url: str = ""
    """Empty when `launch` is set. Without a path it is tried at `/mcp`, then `/sse`."""
    launch: LaunchPlan | None = None
    transport: Literal["auto", "http", "sse"] = "auto"
    headers: dict[str, str] = {}
    secret_headers: dict[str, SecretRef] = {}
    capabilities: tuple[str, ...] = ()
    """Classes (read write exec admin query), tool names and globs; empty: every tool is offered."""
    granted: bool = False
    """The author named this server as a Tool or MCPServer, which is an allow rule for what it offers."""
    trusted: bool = False
    """The author vouches for it: its answers are no text from outside, nor does such text end what a class allows."""
    timeout: float = 60.0
    retries: int = 2
    """How often a call is sent again, within `timeout`, that did nothing, or that may be repeated."""
    idempotent: bool = False
    """Its author says of all its tools that they may be repeated."""


class AgentTool(Data, frozen=True, tag_field="kind", tag="agent"):
    """Another agent offered as a tool: delegation."""

    name: str
    """The tool's name as the model sees it: `[a-zA-Z0-9_-]{1,64}`."""
    agent: AgentKey
    description: str = ""


class A2aTool(Data, frozen=True, tag_field="kind", tag="a2a"):
    """A remote agent that speaks A2A, offered as a tool."""

    hidden = frozenset({"url", "headers"})

    name: str
    """The tool's name as the model sees it: `[a-zA-Z0-9_-]{1,64}`."""
    url: str
    """Below it its card is, or it is the card's own."""
    description: str = ""
    """Empty: what its card says."""
    headers: dict[str, str] = {}
    secret_headers: dict[str, SecretRef] = {}
    timeout: float = 300.0
    trusted: bool = False
    """As of McpTools."""


class HumanTool(Data, frozen=True, tag_field="kind", tag="human"):
    """A person who is asked, offered as a tool: the run waits for the answer."""

    name: str
    """The tool's name as the model sees it: `[a-zA-Z0-9_-]{1,64}`."""
    description: str = ""
    prompt: str = ""
    """What the person is told beside what the model asks."""
    timeout: float = 0.0
    """Seconds that the question is open; 0: as long as an approval of the agent."""
    default: str | None = None
    """What the model is answered where nobody does; None: an error."""
    parameters: dict[str, Any] = {}
    """JSON Schema of what the model asks, an object schema; empty: a text `question`."""


class CodeTool(Data, frozen=True, tag_field="kind", tag="code"):
    """Python that the model writes, run in a sandbox."""

    name: str
    """The tool's name as the model sees it: `[a-zA-Z0-9_-]{1,64}`."""
    description: str = ""
    timeout: float = 30.0
    """Seconds for one piece of code."""


class ApiLogin(Data, frozen=True):
    """How an API is told who calls."""

    type: Literal["bearer", "basic", "apiKey", "oauth"]
    secret: SecretRef
    header: str = "X-API-Key"
    """apiKey only."""
    token_url: str = ""
    """oauth only, as what follows."""
    client_id: str = ""
    scopes: tuple[str, ...] = ()


class ApiTool(Data, frozen=True, tag_field="kind", tag="api"):
    """A REST API as a tool."""

    hidden = frozenset({"endpoint", "headers"})

    name: str
    """The tool's name as the model sees it: `[a-zA-Z0-9_-]{1,64}`."""
    endpoint: str
    """The URL; `{name}` in it is the parameter of that name."""
    parameters: dict[str, Any]
    """JSON Schema of the arguments."""
    method: Literal["GET", "POST", "PUT", "PATCH", "DELETE", "HEAD"] = "GET"
    description: str = ""
    headers: dict[str, str] = {}
    secret_headers: dict[str, SecretRef] = {}
    login: ApiLogin | None = None
    timeout: float = 30.0
    """Seconds for a call, retries included."""
    retries: int = 0
    idempotent: bool = False
    query: tuple[str, ...] = ()
    """Parameters that go into the query although the method has a body."""
    output: dict[str, Any] | None = None
    """JSON Schema of the answer; None: whatever it is."""
    capabilities: tuple[str, ...] = ()
    """What its agent allows of it; empty: its author named it, which is an allow rule."""
    trusted: bool = False
    """As of McpTools."""


class VectorsPlan(Data, frozen=True):
    """A vector store, and one collection of it."""

    type: Literal["in-memory", "sqlite", "pgvector", "milvus", "pinecone"]
    collection: str
    host: str = ""
    """pinecone: empty where the index is found by its name."""
    port: int = 0
    """0: the store's usual one."""
    database: str = ""
    """pinecone: the namespace."""
    user: str = ""
    secret: SecretRef | None = None
    """Who logs in: a password where there is a `user`; else what the store takes for both, or its whole address."""
    tls: bool = False


class EmbeddingPlan(Data, frozen=True):
    """A model that turns texts into vectors. `dimension`: their numbers; 0: whatever it gives."""

    model: ModelPlan
    dimension: int = 0


class RetrievalTool(Data, frozen=True, tag_field="kind", tag="retrieval"):
    """A search in a vector store, offered as a tool."""

    name: str
    """The tool's name as the model sees it: `[a-zA-Z0-9_-]{1,64}`."""
    store: VectorsPlan
    embedding: EmbeddingPlan
    description: str = ""
    parameters: dict[str, Any] = {}
    """JSON Schema of the arguments; all but `query` are compared with the documents' metadata."""
    query: str = "query"
    """The parameter that is searched for."""
    top_k: int = 5
    score_threshold: float | None = None
    filter: str = ""
    """A further filter, in the store's own language."""
    as_json: bool = False
    """Whether the answer is an array of `{content, score, metadata}`, as the author's output schema asks."""
    trusted: bool = False
    """As of McpTools."""


class UnsupportedTool(Data, frozen=True, tag_field="kind", tag="unsupported"):
    """A tool whose type is part of the contract but not built yet; the agent runs without it and says so."""

    name: str
    type: str
    message: str


ToolPlan = McpTools | AgentTool | A2aTool | ApiTool | RetrievalTool | HumanTool | CodeTool | UnsupportedTool


class ProxyRoute(Data, frozen=True):
    """One model of a proxy: its name there, and who is asked for it, in LiteLLM's words."""

    name: str
    model: str
    key: str = ""
    """The variable that holds the API key; empty: LiteLLM looks for the provider's own."""
    api_base: str = ""
    """Where its provider is; empty: at its own address."""


class ServerPlan(Data, frozen=True):
    """A server that a cluster runs for agents: of models (ModelAPI), or of tools (MCPServer)."""

    type: Literal["ollama", "litellm", "launch", "image"]
    """launch: what `launch` says, over HTTP; image: a container that is an MCP server by itself."""
    service: str
    """The name of its objects."""
    namespace: str
    name: str
    url: str
    """Where agents reach it."""
    labels: dict[str, str] = {}
    model: str = ""
    """ollama: the model it serves."""
    routes: tuple[ProxyRoute, ...] = ()
    """litellm: its models; empty where it has its own configuration."""
    config: str = ""
    """litellm: its own configuration, as YAML."""
    launch: LaunchPlan | None = None
    file: SecretRef | None = None
    """Where the configuration, or the functions, are that are not written in the plan."""
    secret_env: dict[str, SecretRef] = {}
    """Variables whose values are in Secrets, besides those the author writes."""
    workload: dict[str, Any] = {}
    """What its author says of its pods: env, replicas, resources, image, command, args."""


class PostgresPlan(Data, frozen=True):
    """A PostgreSQL server, and who logs in there."""

    url: SecretRef | None = None
    """Where the whole address is, `postgresql://…`; then nothing else here counts."""
    host: str = ""
    port: int = 5432
    database: str = "postgres"
    user: str = "postgres"
    user_secret: SecretRef | None = None
    """Where the user's name is, instead of `user`."""
    password: SecretRef | None = None
    tls: bool = False
    ca: SecretRef | None = None
    """Whom to trust, as PEM; None: the usual authorities."""


class CompressionPlan(Data, frozen=True):
    """Summing up what is old in a long conversation."""

    threshold: int = 50
    """Messages of earlier runs from which on the older half is summed up."""
    model: ModelPlan | None = None
    """Who sums up; None: the agent's own model."""


class RedisPlan(Data, frozen=True):
    """A Redis server, and who logs in there."""

    url: SecretRef | None = None
    """Where the whole address is, `redis://…`; then nothing else here counts."""
    host: str = ""
    port: int = 6379
    database: int = 0
    user: str = ""
    """Empty: the server's default user."""
    user_secret: SecretRef | None = None
    """Where the user's name is, instead of `user`."""
    password: SecretRef | None = None
    tls: bool = False
    ca: SecretRef | None = None
    """Whom to trust, as PEM; None: the usual authorities."""


class LongTermPlan(Data, frozen=True):
    """Remembering across sessions."""

    vectors: VectorsPlan
    embedding: EmbeddingPlan


class MemoryPlan(Data, frozen=True):
    """Where an agent's runs are kept and how much of a conversation is sent back to the model."""

    type: Literal["default", "in-memory", "sqlite", "redis", "postgres"] = "default"
    session_ttl: float = 0.0
    """Seconds after its last run that a session is forgotten; 0: never."""
    max_history: int = 100
    """Messages of earlier runs sent to the model, counted from the latest."""
    postgres: PostgresPlan | None = None
    """type postgres: which server."""
    redis: RedisPlan | None = None
    """type redis: which server."""
    compression: CompressionPlan | None = None
    long_term: LongTermPlan | None = None
    failure_mode: Literal["Fail", "Continue"] = "Fail"
    """What becomes of a message while the server is away: it is refused, or answered without memory and not kept."""


class Limits(Data, frozen=True):
    """Bounds of one run and of one agent. Every one has a default: nothing is unbounded."""

    max_steps: int = 10
    """Model calls in one run."""
    max_tool_calls: int = 50
    deadline: float = 300.0
    """Seconds a run may take, waiting for approval not counted."""
    max_output_bytes: int = 65536
    """Bytes of one tool's answer that reach the model."""
    max_tool_tokens: int = 12_800
    """Tokens, about, of tools that are sent with each request; where they are more, most are found by search."""
    max_depth: int = 5
    """Agents in a delegation chain, the first included."""
    max_parallel_tools: int = 8
    max_concurrent_runs: int = 256
    requests_per_minute: int = 0
    tokens_per_minute: int = 0
    on_busy: OnBusy = "queue"
    queue_limit: int = 8


class ApprovalRule(Data, frozen=True):
    """What becomes of the calls that all of its conditions hold for; one that is empty holds for every call."""

    action: Literal["allow", "ask", "deny"]
    tools: tuple[str, ...] = ()
    """Names and globs: of the tool, of what the agent names it by, or both as `reference/tool`."""
    capabilities: tuple[str, ...] = ()
    """Classes: read, write, exec, admin, query."""
    arguments: dict[str, str] = {}
    """RE2 patterns, each to be found in the argument of that name (`a.b`: in the field b of the argument a)."""
    message: str = ""
    """Why, for the person who is asked or the model that is refused."""


class ApprovalPlan(Data, frozen=True):
    """Which calls are made, which are asked about and which are refused, where the author says more than by grants."""

    rules: tuple[ApprovalRule, ...] = ()
    """The first that holds decides."""
    expires: float = 3600.0
    """Seconds that a question to a person stays open: the wait of a lunch, not of a weekend."""
    on_expiry: Literal["deny", "allow"] = "deny"
    """What becomes of a call that nobody decides in time. What is asked because of text from outside is denied."""


USUAL_APPROVALS = ApprovalPlan()
"""Of an agent whose author says nothing of them: this very object is left out of its plan, which stays as it was."""


class Notice(Data, frozen=True):
    """Something the plan does without: shown in status, at start and as a run's first event."""

    reason: str
    message: str


class Dependency(Data, frozen=True):
    """One thing that a resource refers to, and what came of following the reference."""

    kind: DependencyKind
    name: str = ""
    """Of a tool or an agent; empty for what there is one of."""
    found: str = ""
    """What it came to, for people: a model as provider/model."""
    problems: tuple[Problem, ...] = ()
    notices: tuple[Notice, ...] = ()


class AgentPlan(Data, frozen=True):
    """Everything an agent host needs to run one agent."""

    hidden = frozenset({"workload"})

    key: AgentKey
    model: ModelPlan
    display_name: str = ""
    description: str = ""
    labels: dict[str, str] = {}
    system_prompt: str = ""
    tools: tuple[ToolPlan, ...] = ()
    memory: MemoryPlan = MemoryPlan()
    limits: Limits = Limits()
    approvals: ApprovalPlan = USUAL_APPROVALS
    notices: tuple[Notice, ...] = ()
    """Warnings for people: features not built yet, a stand-in model, a store that is replaced."""
    workload: dict[str, Any] = {}
    """What only a cluster uses, normalised: scaling, resources, env, health check, observability, gateway route."""


class Override(Data, frozen=True):
    """What the person at the keyboard puts in place of what the YAML says."""

    model: ModelPlan | None = None
