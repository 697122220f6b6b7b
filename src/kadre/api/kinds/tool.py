"""Tool: something an agent can call; also the fields of an Agent's inline tools."""

from collections.abc import Iterator
from typing import Any, Literal

from pydantic import Field

from kadre.api.checks import check_parameters, path_parameters
from kadre.api.parts import (
    Count,
    Duration,
    EnvVar,
    Host,
    Parameter,
    Port,
    Positive,
    Provider,
    SecretKeyRef,
    Url,
    UrlTemplate,
    check_env,
)
from kadre.api.resource import NATIVE, Column, Listing, Resource, Spec
from kadre.base.problems import Problem

ToolType = Literal["api", "retrieval", "code", "human", "mcp"]
NEEDS_SECTION = ("api", "retrieval", "mcp")
VectorStoreType = Literal[
    "milvus", "pgvector", "redis", "pinecone", "qdrant", "weaviate", "chroma", "opensearch", "in-memory"
]


class Authentication(Spec):
    """How an API is told who calls."""

    type: Literal["bearer", "basic", "apiKey", "none"]
    """bearer: `Authorization: Bearer SECRET`; basic: the secret is `user:password`; apiKey: it is sent in `header`."""
    secret_ref: SecretKeyRef | None = None
    """The Secret key that holds the token, the password pair or the key."""
    header: str | None = None
    """apiKey: the header's name; X-API-Key where none is given."""


class ApiTool(Spec):
    """A REST API, called with the tool's parameters."""

    endpoint: UrlTemplate
    """The URL; `{name}` in it is replaced by the parameter of that name."""
    method: Literal["GET", "POST", "PUT", "PATCH", "DELETE", "HEAD"] = "GET"
    """The HTTP method. Parameters that aren't in the URL are the query of GET, HEAD and DELETE, else the JSON body."""
    timeout: Duration = 30.0
    """How long one call may take."""
    retries: Count = 0
    """How often a call that surely had no effect is tried again."""
    headers: dict[str, str] = Field(default_factory=dict)
    """HTTP headers sent with every call; no secrets here."""
    authentication: Authentication | None = None
    """How the API is told who calls."""


class VectorStore(Spec):
    """A database of vectors."""

    type: VectorStoreType
    """Which database."""
    host: Host | None = None
    """Its address."""
    port: Port | None = None
    """Its port, where it isn't the database's usual one."""
    database: str | None = None
    """The database within the server."""
    collection: str | None = None
    """The collection, table or index."""
    secret_ref: SecretKeyRef | None = None
    """The Secret key that holds the password or API key."""


class Embedding(Spec):
    """The model that turns text into vectors."""

    provider: Provider
    """Who serves the model."""
    model: str
    """The model's name."""
    dimension: Positive | None = None
    """Numbers in a vector."""
    endpoint: Url | None = None
    """Base URL of the API, where it isn't the provider's own."""
    api_key_secret_ref: SecretKeyRef | None = None
    """The Secret key that holds the API key."""


class Search(Spec):
    """How results are chosen."""

    top_k: Positive = 5
    """The most results."""
    score_threshold: float | None = None
    """Results below this similarity are dropped."""
    filter: str | None = None
    """A filter expression of the vector store."""


class RetrievalTool(Spec):
    """A search in a vector store."""

    vector_store: VectorStore
    """Where the documents are."""
    embedding: Embedding | None = None
    """The model the documents were embedded with."""
    search: Search | None = None
    """How results are chosen."""


class CodeTool(Spec):
    """Runs code the model wrote, in a sandbox."""

    language: Literal["python"] = "python"
    """The code's language."""
    timeout: Duration = 30.0
    """How long one piece of code may run."""


class HumanTool(Spec):
    """Asks a person and returns the answer."""

    prompt: str | None = None
    """What the person is told beside the model's question."""
    timeout: Duration | None = None
    """How long to wait for an answer."""


class McpTool(Spec):
    """An MCP server, reached by URL or started as a command."""

    endpoint: Url | None = None
    """Its URL. Without a path it is tried at /mcp, then /sse."""
    transport: Literal["auto", "http", "sse"] = "auto"
    """Streamable HTTP, server-sent events, or whichever answers."""
    command: list[str] | None = None
    """The program and its arguments, started beside the agent and spoken to over stdio."""
    env: list[EnvVar] | None = None
    """Environment variables of the command."""
    headers: dict[str, str] | None = None
    """HTTP headers sent with every call; no secrets here."""
    secret_headers: dict[str, SecretKeyRef] | None = None
    """HTTP headers whose whole value is in a Secret."""
    timeout: Duration | None = None
    """How long one tool call may take."""


class ToolSpec(Spec):
    """Something an agent can call."""

    type: ToolType
    """api (a REST call), retrieval (search in a vector store), code (a sandbox), human (asks a person) or mcp."""
    display_name: str | None = None
    """A name for people."""
    description: str | None = None
    """What the tool does and when to use it, as the model reads it."""
    parameters: list[Parameter] = Field(default_factory=list)
    """What the model must give."""
    output: dict[str, Any] | None = None
    """The JSON Schema of the answer."""
    idempotent: bool = False
    """Whether a call may be repeated when it isn't known whether it happened."""
    api: ApiTool | None = None
    """type api: which API."""
    retrieval: RetrievalTool | None = None
    """type retrieval: where to search and how."""
    code: CodeTool | None = None
    """type code: how code runs."""
    human: HumanTool | None = None
    """type human: how the person is asked."""
    mcp: McpTool | None = None
    """type mcp: which MCP server."""
    capabilities: list[str] | None = None
    """type mcp: what may be used: read, write, exec, admin, query, tool names, globs. Empty: everything."""


class Tool(Resource):
    """A tool that agents refer to by name."""

    listing = Listing(
        "tools",
        columns=(
            Column("Type", ".spec.type"),
            Column("Description", ".spec.description", priority=1),
            Column("Ready", '.status.conditions[?(@.type=="Ready")].status'),
            Column("Reason", '.status.conditions[?(@.type=="Ready")].reason', priority=1),
        ),
    )

    api_version: str = NATIVE
    kind: Literal["Tool"] = "Tool"
    spec: ToolSpec

    def check(self) -> Iterator[Problem]:
        """See `check_tool`."""
        yield from check_tool(self.spec, "spec")


def check_tool(tool: ToolSpec, path: str) -> Iterator[Problem]:
    """Sections that are missing or for another type, parameters, and the URL's own parameters."""
    if tool.type in NEEDS_SECTION and getattr(tool, tool.type) is None:
        yield Problem(
            "MissingField",
            f"a tool of type {tool.type} needs the section {tool.type}",
            fix=f"add {tool.type}:",
            path=path,
        )
    for other in ("api", "retrieval", "code", "human", "mcp"):
        if other != tool.type and getattr(tool, other) is not None:
            yield Problem(
                "WrongSection",
                f"the section {other} has no meaning for a tool of type {tool.type}",
                fix=f"remove it, or write type: {other}",
                path=f"{path}.{other}",
            )
    yield from check_parameters(tool.parameters, f"{path}.parameters")
    if tool.api is not None:
        yield from _check_api(tool, tool.api, path)
    if tool.mcp is not None:
        yield from _check_mcp(tool.mcp, f"{path}.mcp")


def _check_api(tool: ToolSpec, api: ApiTool, path: str) -> Iterator[Problem]:
    declared = {parameter.name for parameter in tool.parameters}
    for name in path_parameters(api.endpoint):
        if name not in declared:
            yield Problem(
                "UndeclaredParameter",
                f"the URL uses {{{name}}}, which is not among the parameters",
                fix=f"add a parameter named {name}, or take {{{name}}} out of the URL",
                path=f"{path}.api.endpoint",
            )
    login = api.authentication
    if login is not None and login.type != "none" and login.secret_ref is None:
        yield Problem(
            "MissingField",
            f"{login.type} authentication needs a secret",
            fix="add secretRef with the Secret's name and key",
            path=f"{path}.api.authentication",
        )


def _check_mcp(mcp: McpTool, path: str) -> Iterator[Problem]:
    if (mcp.endpoint is None) == (not mcp.command):
        yield Problem(
            "ConflictingFields",
            "an MCP server is reached by an endpoint or started by a command: exactly one of them",
            fix="write endpoint: http://… or command: [program, argument, …]",
            path=path,
        )
    yield from check_env(mcp.env, f"{path}.env")
