"""Tool: something an agent can call; also the fields of an Agent's inline tools."""

from collections.abc import Iterator
from typing import Annotated, Any, Literal

from pydantic import Field

from kadre.api.checks import check_headers, check_parameters, check_schema, path_parameters
from kadre.api.parts import (
    ConfigMapKeyRef,
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
from kadre.base.urls import sure_of_host

ToolType = Literal["api", "retrieval", "code", "human", "mcp", "a2a"]
NEEDS_SECTION = ("api", "retrieval", "mcp", "a2a")
VectorStoreType = Literal[
    "milvus", "pgvector", "redis", "pinecone", "qdrant", "weaviate", "chroma", "opensearch", "sqlite", "in-memory"
]


class Authentication(Spec):
    """How an API is told who calls."""

    type: Literal["bearer", "basic", "apiKey", "oauth", "none"]
    """bearer: `Authorization: Bearer SECRET`; basic: the secret is `user:password`; apiKey: it is sent in `header`;
    oauth: it is a client's secret, for which `tokenUrl` gives tokens (client credentials)."""
    secret_ref: SecretKeyRef | None = None
    """The Secret key that holds the token, the password pair, the key or the client's secret."""
    header: str | None = None
    """apiKey: the header's name; X-API-Key where none is given."""
    token_url: Url | None = None
    """oauth: where tokens are given."""
    client_id: str | None = None
    """oauth: the client's name there."""
    scopes: list[str] | None = None
    """oauth: what the token is to be good for."""


class OpenApi(Spec):
    """An OpenAPI 3 document. Each of its operations is a tool, named by its `operationId`."""

    inline: dict[str, Any] | None = None
    """The document."""
    config_map_key_ref: ConfigMapKeyRef | None = None
    """The key of a ConfigMap that holds it, as YAML or JSON."""
    file: Annotated[str, Field(min_length=1, max_length=1024)] | None = None
    """On a laptop: path of a YAML or JSON file that holds it, from the manifest's folder."""
    operations: list[str] | None = None
    """Which operations are offered, by their `operationId` or a pattern such as `get*`; all where nothing is
    written."""


class ApiTool(Spec):
    """A REST API, called with the tool's parameters."""

    endpoint: UrlTemplate
    """The URL; `{name}` in it is replaced by the parameter of that name. With `fromOpenAPI`: the URL that the
    document's paths are below; the one that the document names is not used."""
    from_open_api: OpenApi | None = Field(default=None, alias="fromOpenAPI")
    """Makes a tool of each operation of an OpenAPI document, instead of this one."""
    method: Literal["GET", "POST", "PUT", "PATCH", "DELETE", "HEAD"] = "GET"
    """The HTTP method. Parameters that aren't in the URL are the query of GET, HEAD and DELETE, else the JSON body."""
    timeout: Duration = 30.0
    """How long one call may take, its retries included."""
    retries: Count = 0
    """How often a call is tried again that surely had no effect (nothing was sent), that only reads (GET, HEAD), or
    that is declared `idempotent`."""
    headers: dict[str, str] = Field(default_factory=dict)
    """HTTP headers sent with every call; no secrets here."""
    secret_headers: dict[str, SecretKeyRef] | None = None
    """HTTP headers whose whole value is in a Secret."""
    authentication: Authentication | None = None
    """How the API is told who calls."""


class VectorStore(Spec):
    """A database of vectors."""

    type: VectorStoreType
    """Which database; sqlite: a file in the data folder; in-memory: nothing outlives the process."""
    host: Host | None = None
    """Its address; pinecone: of the index; where none is given it is asked for by the index's name."""
    port: Port | None = None
    """Its port, where it isn't the database's usual one."""
    database: str | None = None
    """The database within the server; pinecone: the namespace within the index."""
    username: str | None = None
    """Who logs in; pgvector: `postgres` where none is given."""
    collection: str | None = None
    """The collection, table or index. milvus: what is no letter or digit in it becomes `_`."""
    tls: bool = False
    """Whether the connection is encrypted; the server's certificate is checked by the usual authorities. pinecone: it
    always is, but at a `port` of your own."""
    secret_ref: SecretKeyRef | None = None
    """The Secret key that holds the password or API key. milvus without a username: `user:password`, or the key;
    pgvector without a host: the whole address, `postgresql://…`; pinecone: the API key, which is needed."""


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

    prompt: Annotated[str, Field(max_length=1024)] | None = None
    """What the person is told beside the model's question."""
    timeout: Duration | None = None
    """How long to wait for an answer; as long as for an approval of the agent (1h) where nothing is written."""
    default: str | None = None
    """What the model is answered where nobody does in time; an error where nothing is written."""


class ServiceSelector(Spec):
    """Services of the same namespace that carry the label `kagent.dev/mcp: "true"`. Their port named `mcp`, else
    `http`, else their only one is asked, at the path of their annotation `kagent.dev/mcp-path`."""

    match_labels: dict[str, str] = Field(default_factory=dict)
    """Labels that they have besides; every such Service where nothing is written."""


class McpTool(Spec):
    """An MCP server, reached by URL or started as a command; or those that the labels of Services choose."""

    endpoint: Url | None = None
    """Its URL. Without a path it is tried at /mcp, then /sse."""
    selector: ServiceSelector | None = None
    """Every MCP server that a Service of the namespace is, as they come and go: each is named `TOOL/SERVICE` in rules.
    What they offer is not named by anybody, so that what may write is asked for unless `capabilities` allow it."""
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
    """How long one tool call may take, its retries included; 60s where nothing is written."""
    retries: Count | None = None
    """How often a call is tried again that surely had no effect, or of a tool that the server says only reads or may be
    repeated; 2 where nothing is written."""


class A2aTool(Spec):
    """A remote agent that speaks A2A."""

    endpoint: Url
    """Its URL, below which its card is (`/.well-known/agent-card.json`), or that of the card itself. It is asked at
    this host, whatever host the card names."""
    headers: dict[str, str] | None = None
    """HTTP headers sent with every request; no secrets here."""
    secret_headers: dict[str, SecretKeyRef] | None = None
    """HTTP headers whose whole value is in a Secret, as in `Authorization`."""
    timeout: Duration | None = None
    """How long it may take to answer; 300s where nothing is written."""


class ToolSpec(Spec):
    """Something an agent can call."""

    type: ToolType
    """api (a REST call), retrieval (search in a vector store), code (a sandbox), human (asks a person), mcp or a2a (a
    remote agent)."""
    display_name: str | None = None
    """A name for people."""
    description: str | None = None
    """What the tool does and when to use it, as the model reads it."""
    parameters: list[Parameter] = Field(default_factory=list)
    """What the model must give."""
    output: dict[str, Any] | None = None
    """The JSON Schema of the answer. type api: one that strays from it is an error."""
    idempotent: bool = False
    """Whether a call may be repeated when it isn't known whether it happened. type api: every write carries an
    `Idempotency-Key`, by which a server can tell that it has done it already. type mcp: it holds for every tool of the
    server, besides those of which the server says so."""
    trusted: bool = False
    """Whether you vouch for it: what it answers is then no text from outside, after which writes that only a class of
    capabilities allows are asked for; nor does such text end what a class allows of it."""
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
    a2a: A2aTool | None = Field(default=None, alias="a2a")
    """type a2a: which agent."""
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
    for other in ("api", "retrieval", "code", "human", "mcp", "a2a"):
        if other != tool.type and getattr(tool, other) is not None:
            yield Problem(
                "WrongSection",
                f"the section {other} has no meaning for a tool of type {tool.type}",
                fix=f"remove it, or write type: {other}",
                path=f"{path}.{other}",
            )
    yield from check_parameters(tool.parameters, f"{path}.parameters")
    if tool.output is not None:
        yield from check_schema(tool.output, f"{path}.output")
    if tool.api is not None:
        yield from _check_api(tool, tool.api, path)
    if tool.mcp is not None:
        yield from _check_mcp(tool.mcp, f"{path}.mcp")


def _check_api(tool: ToolSpec, api: ApiTool, path: str) -> Iterator[Problem]:
    declared = {parameter.name: parameter for parameter in tool.parameters}
    for name in path_parameters(api.endpoint):
        parameter = declared.get(name)
        if parameter is None:
            yield Problem(
                "UndeclaredParameter",
                f"the URL uses {{{name}}}, which is not among the parameters",
                fix=f"add a parameter named {name}, or take {{{name}}} out of the URL",
                path=f"{path}.api.endpoint",
            )
        elif parameter.type in {"array", "object"}:
            yield Problem(
                "WrongType",
                f"the URL uses {{{name}}}, which is of type {parameter.type}: only one value has a place there",
                fix="write type: string for it, or take it out of the URL",
                path=f"{path}.api.endpoint",
            )
    logs_in = api.authentication is not None and api.authentication.type != "none"
    if (logs_in or api.secret_headers) and not sure_of_host(api.endpoint):
        yield Problem(
            "SecretToAnyHost",
            "an argument says which host is called, and would have a secret sent to it",
            fix="write the host as it is, or with {name} as its first label alone, as in https://{name}.api.example.com;"
            " or call it without authentication and secretHeaders",
            path=f"{path}.api.endpoint",
        )
    yield from check_headers(api.headers, f"{path}.api.headers")
    yield from check_headers(api.secret_headers or {}, f"{path}.api.secretHeaders")
    yield from _check_body(api, f"{path}.api.headers")
    if api.from_open_api is not None:
        yield from _check_open_api(tool, api, api.from_open_api, path)
    if api.authentication is not None:
        yield from _check_login(api.authentication, f"{path}.api.authentication")


def _check_open_api(tool: ToolSpec, api: ApiTool, source: OpenApi, path: str) -> Iterator[Problem]:
    """One document, and nothing that it says itself."""
    if sum(each is not None for each in (source.inline, source.config_map_key_ref, source.file)) != 1:
        yield Problem(
            "ConflictingFields",
            "an OpenAPI document is written in place, in a ConfigMap or in a file: exactly one of them",
            fix="write inline: with the document, configMapKeyRef: with its name and key, or file: with a path",
            path=f"{path}.api.fromOpenAPI",
        )
    fields = {
        "api.method": "method" in api.model_fields_set,
        "parameters": bool(tool.parameters),
        "output": tool.output is not None,
    }
    for field, written in fields.items():
        if written:
            message = f"{field} has no meaning beside fromOpenAPI: the document says it of each operation"
            yield Problem("WrongField", message, fix="remove it, or fromOpenAPI", path=f"{path}.{field}")


def _check_body(api: ApiTool, path: str) -> Iterator[Problem]:
    for name, value in api.headers.items():
        kind = value.partition(";")[0].strip().lower()
        plain = kind in {"application/json", "application/x-www-form-urlencoded"} or kind.endswith("+json")
        if name.lower() == "content-type" and not plain and api.method in {"POST", "PUT", "PATCH"}:
            yield Problem(
                "InvalidValue",
                f"the parameters can't be sent as {value}",
                fix="write application/json or application/x-www-form-urlencoded, or remove it",
                path=f"{path}.{name}",
            )


def _check_login(login: Authentication, path: str) -> Iterator[Problem]:
    """Fields that the type needs and that are missing, and those of another type."""
    needed: dict[str, Any] = {"secretRef": login.secret_ref} if login.type != "none" else {}
    if login.type == "oauth":
        needed |= {"tokenUrl": login.token_url, "clientId": login.client_id}
    for field, value in needed.items():
        if value is None:
            what = "with the Secret's name and key" if field == "secretRef" else "as whoever gives the tokens says"
            message = f"{login.type} authentication needs {'a secret' if field == 'secretRef' else field}"
            yield Problem("MissingField", message, fix=f"add {field} {what}", path=path)
    foreign: dict[str, dict[str, Any]] = {
        "apiKey": {"header": login.header},
        "oauth": {"tokenUrl": login.token_url, "clientId": login.client_id, "scopes": login.scopes},
    }
    for kind, fields in foreign.items():
        for field, value in fields.items():
            if value is not None and kind != login.type:
                message = f"{field} has no meaning for authentication of type {login.type}"
                yield Problem("WrongField", message, fix=f"remove it, or write type: {kind}", path=f"{path}.{field}")
    if login.header is not None:
        yield from check_headers({login.header: ""}, f"{path}.header", field=False)


def _check_mcp(mcp: McpTool, path: str) -> Iterator[Problem]:
    if sum((mcp.endpoint is not None, bool(mcp.command), mcp.selector is not None)) != 1:
        yield Problem(
            "ConflictingFields",
            "an MCP server has an endpoint, or is started by a command, or chosen by a selector: exactly one of them",
            fix="write endpoint: http://…, command: [program, argument, …] or selector: {matchLabels: {…}}",
            path=path,
        )
    if mcp.selector is not None and mcp.secret_headers:
        yield Problem(
            "SecretToAnyHost",
            "whoever may make a Service in the namespace would have a secret sent to it",
            fix="write a Tool with endpoint: for each server that takes one, or remove secretHeaders",
            path=f"{path}.secretHeaders",
        )
    yield from check_env(mcp.env, f"{path}.env")
