"""What a plan is made of: plain data, complete, immutable, JSON either way, and without a secret value.

A plan is what an agent host runs and what the operator writes into a ConfigMap, so these types are the
contract between everything that understands YAML (above) and everything that runs (below). msgspec and
not pydantic: a host of a thousand agents holds a thousand of them and validates none.
"""

from __future__ import annotations

from typing import Any, ClassVar, Literal

import msgspec

from kadre.base.problems import Problem

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
        shown = []
        for field in msgspec.structs.fields(self):
            value = getattr(self, field.name)
            if value != _default(field):
                told = _outline(value) if field.name in self.hidden else repr(value)
                shown.append(f"{field.name}={told}")
        return f"{type(self).__name__}({', '.join(shown)})"


def _default(field: msgspec.structs.FieldInfo) -> Any:
    return field.default if field.default_factory is msgspec.NODEFAULT else field.default_factory()


def _outline(value: Any) -> str:
    if isinstance(value, dict):
        return "{" + "".join(f"{key!r}: …, " for key in value).removesuffix(", ") + "}"
    if isinstance(value, tuple):
        return f"({value[0]!r}, …)"
    scheme, marked, rest = str(value).partition("://")
    return repr(f"{scheme}://{rest.partition('?')[0].rpartition('@')[2]}") if marked and scheme.isalpha() else "…"


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
    timeout: float = 60.0


class AgentTool(Data, frozen=True, tag_field="kind", tag="agent"):
    """Another agent offered as a tool: delegation."""

    name: str
    """The tool's name as the model sees it: `[a-zA-Z0-9_-]{1,64}`."""
    agent: AgentKey
    description: str = ""


class UnsupportedTool(Data, frozen=True, tag_field="kind", tag="unsupported"):
    """A tool whose type is part of the contract but not built yet; the agent runs without it and says so."""

    name: str
    type: str
    message: str


ToolPlan = McpTools | AgentTool | UnsupportedTool


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


class MemoryPlan(Data, frozen=True):
    """Where an agent's runs are kept and how much of a conversation is sent back to the model."""

    hidden = frozenset({"settings"})

    type: Literal["default", "in-memory", "sqlite", "redis", "postgres"] = "default"
    session_ttl: float = 0.0
    """Seconds after its last run that a session is forgotten; 0: never."""
    max_history: int = 100
    """Messages of earlier runs sent to the model, counted from the latest."""
    postgres: PostgresPlan | None = None
    """type postgres: which server."""
    settings: dict[str, Any] = {}
    """Of stores and policies not built yet, as plain JSON."""
    secret: SecretRef | None = None
    """Of a store not built yet."""


class Limits(Data, frozen=True):
    """Bounds of one run and of one agent. Every one has a default: nothing is unbounded."""

    max_steps: int = 10
    """Model calls in one run."""
    max_tool_calls: int = 50
    deadline: float = 300.0
    """Seconds a run may take, waiting for approval not counted."""
    max_output_bytes: int = 65536
    """Bytes of one tool's answer that reach the model."""
    max_depth: int = 5
    """Agents in a delegation chain, the first included."""
    max_parallel_tools: int = 8
    max_concurrent_runs: int = 256
    requests_per_minute: int = 0
    tokens_per_minute: int = 0
    on_busy: OnBusy = "queue"
    queue_limit: int = 8


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
    notices: tuple[Notice, ...] = ()
    """Warnings for people: features not built yet, a stand-in model, a store that is replaced."""
    workload: dict[str, Any] = {}
    """What only a cluster uses, normalised: scaling, resources, env, health check, observability, gateway route."""


class Override(Data, frozen=True):
    """What the person at the keyboard puts in place of what the YAML says."""

    model: ModelPlan | None = None
