"""MemoryStore: where conversations are kept, and for how long."""

from collections.abc import Iterator, Mapping
from typing import Annotated, Any, ClassVar, Literal

from pydantic import BeforeValidator, Field, WithJsonSchema

from kadre.api.kinds.tool import Embedding, VectorStore
from kadre.api.parts import Count, Duration, Host, Port, Positive, SecretName
from kadre.api.resource import NATIVE, Column, Listing, Resource, Spec
from kadre.base.problems import Problem

NEEDS_SECTION = ("redis", "postgres")


def _one_name(value: Any) -> Any:
    return "postgres" if value == "postgresql" else value


MemoryType = Annotated[
    Literal["redis", "postgres", "in-memory", "sqlite"],
    BeforeValidator(_one_name),
    WithJsonSchema({"type": "string", "enum": ["redis", "postgres", "postgresql", "in-memory", "sqlite"]}),
]
"""`postgresql` is read as `postgres`."""


class Tls(Spec):
    """Encryption of the connection."""

    enabled: bool = False
    """Whether the connection is encrypted."""
    secret_ref: SecretName | None = None
    """A Secret whose key ca.crt says which certificates to trust; the usual authorities where none is named."""


class LoginSecret(Spec):
    """A Secret with a user's name and password."""

    name: str
    """The Secret's name."""
    username_key: str | None = None
    """The key that holds the user's name."""
    password_key: str = "password"  # noqa: S105 - the name of a key, not a password
    """The key that holds the password."""


class Auth(Spec):
    """Who logs in."""

    username: str | None = None
    """The user's name, where it isn't in the Secret; none given, postgres: `postgres`, redis: the default user."""
    secret_ref: LoginSecret | None = None
    """The Secret with the password."""


class RedisStore(Spec):
    """A Redis server."""

    host: Host
    """Its address."""
    port: Port = 6379
    """Its port."""
    database: Count = 0
    """The number of the database."""
    tls: Tls | None = None
    """Encryption of the connection."""
    auth: Auth | None = None
    """Who logs in."""


class PostgresStore(Spec):
    """A PostgreSQL server."""

    host: Host
    """Its address."""
    port: Port = 5432
    """Its port."""
    database: str = "postgres"
    """The database. Kadre makes a schema named kadre in it."""
    tls: Tls | None = None
    """Encryption of the connection."""
    auth: Auth | None = None
    """Who logs in."""


class Compression(Spec):
    """Summing up what is old in a long conversation."""

    enabled: bool = False
    """Whether it is done."""
    threshold: Positive | None = None
    """Messages in a conversation from which on its older part is summed up; 50 where nothing is written."""
    model: str | None = None
    """Who writes the summary: the ModelConfig of that name, else the agent's provider's model of that name; the
    agent's own where none is given."""


class LongTermMemory(Spec):
    """Remembering across sessions."""

    enabled: bool = False
    """Whether it is done."""
    vector_store: VectorStore | None = None
    """Where memories are kept. Without a host: on the server of that type that the agent's tools search."""
    embedding: Embedding | None = None
    """The model that turns memories into vectors."""


class MemoryPolicy(Spec):
    """How long and how much is kept."""

    spellings: ClassVar[Mapping[str, str]] = {
        "ttl": "sessionTTL",
        "sessionTtl": "sessionTTL",
        "maxHistory": "maxConversationHistory",
    }

    session_ttl: Duration | None = Field(default=None, alias="sessionTTL")
    """How long after its last run a session is kept, in seconds or as 1h. 0 or nothing: for ever."""
    max_conversation_history: Count | None = None
    """The most messages of a conversation that are sent to the model."""
    compression: Compression | None = None
    """Summing up what is old in a long conversation."""
    long_term_memory: LongTermMemory | None = None
    """Remembering across sessions."""


class MemoryStoreSpec(Spec):
    """Where conversations are kept, and for how long."""

    spellings: ClassVar[Mapping[str, str]] = {"postgresql": "postgres"}

    type: MemoryType
    """redis, postgres, sqlite (a file beside the agent) or in-memory (gone when the process ends)."""
    redis: RedisStore | None = None
    """type redis: which server."""
    postgres: PostgresStore | None = None
    """type postgres: which server."""
    policy: MemoryPolicy | None = None
    """How long and how much is kept."""


class MemoryStore(Resource):
    """A store that agents refer to by name."""

    listing = Listing(
        "memorystores",
        short=("ms",),
        columns=(
            Column("Type", ".spec.type"),
            Column("Ready", '.status.conditions[?(@.type=="Ready")].status'),
            Column("Reason", '.status.conditions[?(@.type=="Ready")].reason', priority=1),
        ),
    )

    api_version: str = NATIVE
    kind: Literal["MemoryStore"] = "MemoryStore"
    spec: MemoryStoreSpec

    def check(self) -> Iterator[Problem]:
        """Sections that are missing or for another type."""
        kind = self.spec.type
        if kind in NEEDS_SECTION and getattr(self.spec, kind) is None:
            yield Problem(
                "MissingField", f"a store of type {kind} needs the section {kind}", fix=f"add {kind}:", path="spec"
            )
        for other in NEEDS_SECTION:
            if other != kind and getattr(self.spec, other) is not None:
                yield Problem(
                    "WrongSection",
                    f"the section {other} has no meaning for a store of type {kind}",
                    fix=f"remove it, or write type: {other}",
                    path=f"spec.{other}",
                )
