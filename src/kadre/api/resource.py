"""The base of everything a user writes: how fields are spelled, where they were written, what every object has.

A `Spec` is a mapping in YAML; a `Resource` is a whole object. Attributes are snake_case, YAML is camelCase, unknown
fields are errors, and numbers written as text are not numbers (a cluster's API server would refuse them too).
Where the documents know two spellings of a field, `Spec.spellings` names the other ones and the model keeps only the
canonical one; other shapes of the same thing (a bare name for a mapping) are folded in `Spec.canonical`.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

from pydantic import BaseModel, ConfigDict, Field, PrivateAttr, model_validator
from pydantic.alias_generators import to_camel

from kadre.api.lines import Lines
from kadre.base.problems import Problem, Source

NATIVE = "kagent.dev/v1alpha1"
KAOS = "kaos.tools/v1alpha1"

DNS_LABEL = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")
DNS_SUBDOMAIN = re.compile(r"(?=.{1,253}$)[a-z0-9]([a-z0-9-]*[a-z0-9])?(\.[a-z0-9]([a-z0-9-]*[a-z0-9])?)*")
SERVICE_LABEL = re.compile(r"[a-z]([a-z0-9-]{0,61}[a-z0-9])?")
LABEL_VALUE = re.compile(r"([A-Za-z0-9]([A-Za-z0-9_.-]{0,61}[A-Za-z0-9])?)?")
LAST_APPLIED = "kubectl.kubernetes.io/last-applied-configuration"

CONFIG = ConfigDict(
    alias_generator=to_camel,
    validate_by_name=True,  # Python code may use attribute names; what is read from YAML may not (see manifest)
    validate_by_alias=True,
    extra="forbid",
    strict=True,
    frozen=True,
    allow_inf_nan=False,
    defer_build=True,  # a process that loads two kinds pays for two
    protected_namespaces=(),
)


class NameRule(NamedTuple):
    """What names a cluster takes for a kind."""

    pattern: re.Pattern[str]
    fix: str
    """What to write instead of a name that is none."""


_LETTERS = "use lower-case letters, digits and -"
SUBDOMAIN = NameRule(
    DNS_SUBDOMAIN,
    f"{_LETTERS}, beginning and ending with a letter or digit, at most 253 of them; parts may be joined by .",
)
LABEL = NameRule(DNS_LABEL, f"{_LETTERS}, beginning and ending with a letter or digit, at most 63 of them")
SERVICE_NAME = NameRule(
    SERVICE_LABEL,
    f"{_LETTERS}, beginning with a letter and ending with a letter or digit, at most 63 of them: its Service has that"
    " name",
)

POOL_NAME = NameRule(
    re.compile(r"[a-z0-9]([a-z0-9-]{0,38}[a-z0-9])?"),
    f"{_LETTERS}, beginning and ending with a letter or digit, at most 40 of them",
)


class Mistake(ValueError):
    """A value that no field of its type takes, with what to write instead."""

    def __init__(self, message: str, fix: str) -> None:
        super().__init__(message)
        self.fix = fix


class Conflict:
    """Stands in for a value that was written under two spellings with different values: no field accepts it."""

    __slots__ = ("first", "second")

    def __init__(self, first: str, second: str) -> None:
        self.first = first
        self.second = second


class Spec(BaseModel):
    """A mapping in YAML."""

    model_config = CONFIG

    spellings: ClassVar[Mapping[str, str]] = {}
    """Other YAML names of a field -> its canonical YAML name."""
    accepts: ClassVar[Mapping[str, tuple[Any, str]]] = {}
    """YAML fields that `canonical` folds into others, or that take more than the attribute: type, description."""
    union: ClassVar[bool] = False
    """Whether `canonical` also takes something that is no mapping, which no structural schema can say."""

    @classmethod
    def canonical(cls, data: Any) -> Any:
        """`data` in the one shape the fields describe. Gets a copy it may change; must bear anything YAML can hold."""
        return data

    @model_validator(mode="before")
    @classmethod
    def _fold(cls, data: Any) -> Any:
        if isinstance(data, dict):
            data = dict(data)
            for other, name in cls.spellings.items():
                if other in data:
                    fold_spelling(data, other, name)
        return cls.canonical(data)


def fold_spelling(data: dict[str, Any], other: str, name: str) -> None:
    """Move what is written under `other` to `name`; a Conflict where both are there and differ."""
    value = data.pop(other)
    if data.get(name) is None:
        data[name] = value
    elif value is not None and data[name] != value:
        data[name] = Conflict(name, other)


class ObjectMeta(Spec):
    """What every object has: a name, a namespace, labels and annotations, and what the API server adds."""

    name: str
    """Unique within namespace and kind."""
    namespace: str = "default"
    """The namespace; `default` where none is written."""
    labels: dict[str, str] = Field(default_factory=dict)
    """Labels to select by."""
    annotations: dict[str, str] = Field(default_factory=dict)
    """Free text for tools."""
    uid: str | None = None
    """Set by the API server."""
    generation: int | None = None
    """Set by the API server: counts changes of the spec."""
    resource_version: str | None = None
    """Set by the API server: counts every change."""
    deletion_timestamp: str | None = None
    """Set by the API server when deletion has begun."""
    finalizers: list[str] | None = None
    """Names of those who must finish before the object goes."""

    unused: ClassVar[frozenset[str]] = frozenset(
        {
            "managedFields",
            "creationTimestamp",
            "selfLink",
            "ownerReferences",
            "deletionGracePeriodSeconds",
            "generateName",
        }
    )
    """Accepted, since `kubectl get -o yaml` prints them, and not kept."""

    @classmethod
    def canonical(cls, data: Any) -> Any:
        """Without what is accepted and not kept; an empty `labels:` is no labels."""
        if isinstance(data, dict):
            data = {key: value for key, value in data.items() if key not in cls.unused and value is not None}
            annotations = data.get("annotations")
            if isinstance(annotations, dict) and LAST_APPLIED in annotations:
                data["annotations"] = {key: value for key, value in annotations.items() if key != LAST_APPLIED}
        return data


@dataclass(frozen=True, slots=True)
class Column:
    """A column of `kubectl get`. `priority` 1: only with `-o wide`."""

    name: str
    path: str
    type: str = "string"
    priority: int = 0


@dataclass(frozen=True, slots=True)
class Listing:
    """How kubectl names a kind and lists its objects."""

    plural: str
    short: tuple[str, ...] = ()
    columns: tuple[Column, ...] = ()
    defaults: bool = True
    """Whether its CRD may carry defaults: not where a template is merged, they would look like the author's values."""


class Condition(Spec):
    """One aspect of an object's state."""

    type: str
    """What this condition is about, e.g. Ready."""
    status: str
    """True, False or Unknown."""
    reason: str | None = None
    """Why, in one CamelCase word."""
    message: str | None = None
    """Why, for people."""
    last_transition_time: str | None = None
    """When the status last changed."""
    observed_generation: int | None = None
    """The generation of the spec this was said of."""


class Status(Spec):
    """What the controller reports of an object."""

    observed_generation: int | None = None
    """The generation of the spec that this status describes."""
    conditions: list[Condition] | None = None
    """Aspects of the object's state, Ready first of all."""


class Resource(BaseModel):
    """One object as a user wrote it. Subclasses declare `spec` and what the CRD says of them."""

    model_config = CONFIG

    listing: ClassVar[Listing]
    status_model: ClassVar[type[Spec]] = Status
    name_rule: ClassVar[NameRule] = SUBDOMAIN
    """What its objects may be called."""

    api_version: str
    kind: str
    metadata: ObjectMeta
    spec: Spec
    status: dict[str, Any] | None = None

    _source: Source = PrivateAttr(default=Source())
    _lines: Lines | None = PrivateAttr(default=None)

    @property
    def name(self) -> str:
        """The object's name."""
        return self.metadata.name

    @property
    def namespace(self) -> str:
        """The object's namespace."""
        return self.metadata.namespace

    @property
    def ref(self) -> str:
        """`Kind namespace/name`, for messages."""
        return f"{self.kind} {self.metadata.namespace}/{self.metadata.name}"

    @property
    def source(self) -> Source:
        """The file and the first line of the object."""
        return self._source

    def placed(self, source: Source, lines: Lines | None) -> None:
        """Say where the object was written; called once, by whoever read it."""
        self._source = source
        self._lines = lines

    def line(self, path: str) -> int:
        """The line of a field such as `spec.tools[0].name`, or of the nearest thing around it that was written."""
        return (self._lines.line(path) if self._lines is not None else 0) or self._source.line

    def at(self, path: str) -> Source:
        """The file and line of a field."""
        return Source(self._source.file, self.line(path))

    def check(self) -> Iterator[Problem]:
        """What is wrong with this object by itself, beyond its shape; problems carry a `path` and no place."""
        yield from ()
