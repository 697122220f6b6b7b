"""The port through which a plan sees what else there is, and its implementation over objects in memory.

Above: the functions of this package. Below: the files of a laptop, or a cluster's caches. It answers from memory and
at once, tells whether a secret is there and never its value, and knows nothing of plans.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping
from functools import cache
from typing import Literal, NamedTuple, Protocol, TypeVar

from kadre.api.registry import KINDS
from kadre.api.resource import Resource
from kadre.api.services import ToolService
from kadre.plan.types import SecretRef

SecretState = Literal["found", "no-key", "missing"]
R = TypeVar("R", bound=Resource)


class UsualKey(NamedTuple):
    """Where a provider's key is for an author who names none. `made_in`: the namespace in which people put it."""

    ref: SecretRef
    made_in: str


class FileText(NamedTuple):
    """What is in a file, or why that is not known."""

    text: str
    fault: str = ""


class Lookup(Protocol):
    """What else there is. A `group` is an API group such as kaos.tools: only the two Agent kinds share their kind."""

    def get(self, kind: str, namespace: str, name: str, group: str) -> Resource | None:
        """The object, or None."""
        ...

    def broken(self, kind: str, namespace: str, name: str) -> bool:
        """Whether the object is there but cannot be used as it is written: its own Problems are told elsewhere."""
        ...

    def names(self, kind: str, namespace: str) -> Iterable[str]:
        """Names of that kind in the namespace, for "did you mean"."""
        ...

    def namespaces(self, kind: str, name: str) -> Iterable[str]:
        """Where objects of that kind and name are, for "there is one in"."""
        ...

    def all(self) -> Iterable[Resource]:
        """Everything there is of our kinds."""
        ...

    def service(self, namespace: str, name: str) -> str:
        """The base URL of that Service, or the empty string where there is none."""
        ...

    def tool_services(self, namespace: str) -> Iterable[ToolService]:
        """The Services there that say that they are MCP servers."""
        ...

    def served(self, namespace: str, service: str, port: int) -> str:
        """The base URL of a server that has pods of its own; empty where none has: there the agent's host runs it."""
        ...

    def config(self, namespace: str, name: str, key: str) -> str | None:
        """The value of a ConfigMap's key, or None."""
        ...

    def file(self, path: str) -> FileText | None:
        """The file at that path, as manifests name it together with their folder; None where there are no files."""
        ...

    def secret(self, ref: SecretRef) -> SecretState:
        """Whether the value is there: in the Secret, else where `ref.env` may be."""
        ...

    def usual_key(self, namespace: str, variable: str) -> UsualKey | None:
        """Where the installation has what that variable of a provider holds, for the namespace's agents; or None."""
        ...

    def setting(self, name: str) -> str:
        """A setting of the surroundings that is no secret, such as OLLAMA_BASE_URL; empty where it is not set."""
        ...

    def exported(self, name: str) -> str:
        """`setting`, as the process has it, whatever `.env` says."""
        ...


class Resources:
    """A Lookup over objects in memory."""

    def __init__(
        self,
        resources: Iterable[Resource],
        secrets: Mapping[tuple[str, str], Collection[str]] | None = None,
        env: Mapping[str, str] | None = None,
        rejected: Collection[tuple[str, str, str]] = (),
        *,
        exported: Mapping[str, str] | None = None,
        config_maps: Mapping[tuple[str, str], Mapping[str, str]] | None = None,
        services: Mapping[tuple[str, str], ToolService | None] | None = None,
    ) -> None:
        """By (namespace, name): `secrets`, each with its keys; `config_maps`, each with its values; `services`, each
        with the MCP server that it says it is.

        `env`: the lines of `.env`, which count as secrets too. `exported`: the providers' own variables of this
        process. `rejected`: (kind, namespace, name) of objects that can't be used.
        """
        self._resources = {identity(resource): resource for resource in resources}
        self._secrets = secrets or {}
        self._env = env or {}
        self._exported = exported or {}
        self._rejected = rejected
        self._config_maps = config_maps or {}
        self._services = services or {}
        self._names: dict[tuple[str, str], list[str]] = defaultdict(list)
        self._namespaces: dict[tuple[str, str], list[str]] = defaultdict(list)
        for _, kind, namespace, name in self._resources:
            self._names[kind, namespace].append(name)
            self._namespaces[kind, name].append(namespace)

    def get(self, kind: str, namespace: str, name: str, group: str) -> Resource | None:
        """See Lookup."""
        return self._resources.get((group, kind, namespace, name))

    def broken(self, kind: str, namespace: str, name: str) -> bool:
        """See Lookup."""
        return (kind, namespace, name) in self._rejected

    def names(self, kind: str, namespace: str) -> Iterable[str]:
        """See Lookup."""
        return self._names.get((kind, namespace), ())

    def namespaces(self, kind: str, name: str) -> Iterable[str]:
        """See Lookup."""
        return self._namespaces.get((kind, name), ())

    def all(self) -> Iterable[Resource]:
        """See Lookup."""
        return self._resources.values()

    def service(self, namespace: str, name: str) -> str:
        """See Lookup. Its port isn't known here: an MCP server behind a Service is taken to be at port 80."""
        return f"http://{name}.{namespace}:80" if (namespace, name) in self._services else ""

    def tool_services(self, namespace: str) -> Iterable[ToolService]:
        """See Lookup."""
        return [service for (where, _), service in self._services.items() if service is not None and where == namespace]

    def served(self, namespace: str, service: str, port: int) -> str:  # noqa: ARG002 - a laptop has no pods
        """See Lookup."""
        return ""

    def config(self, namespace: str, name: str, key: str) -> str | None:
        """See Lookup."""
        return self._config_maps.get((namespace, name), {}).get(key)

    def file(self, path: str) -> FileText | None:  # noqa: ARG002 - these objects may be from anywhere
        """See Lookup."""
        return None

    def secret(self, ref: SecretRef) -> SecretState:
        """See Lookup."""
        keys = self._secrets.get((ref.namespace, ref.name))
        if (keys is not None and ref.key in keys) or self._env.get(ref.env):
            return "found"
        if ref.exported and self._exported.get(ref.env):
            return "found"
        return "missing" if keys is None else "no-key"

    def usual_key(self, namespace: str, variable: str) -> UsualKey | None:  # noqa: ARG002 - a laptop has no installation
        """See Lookup."""
        return None

    def setting(self, name: str) -> str:
        """See Lookup."""
        return self._env.get(name, self._exported.get(name, ""))

    def exported(self, name: str) -> str:
        """See Lookup."""
        return self._exported.get(name, "")


def identity(resource: Resource) -> tuple[str, str, str, str]:
    """API group, kind, namespace and name."""
    return resource.api_version.partition("/")[0], resource.kind, resource.namespace, resource.name


def find(lookup: Lookup, kind: type[R], namespace: str, name: str) -> R | None:
    """The object of that class, or None."""
    group, word = group_and_kind(kind)
    found = lookup.get(word, namespace, name, group)
    return found if isinstance(found, kind) else None


@cache
def group_and_kind(kind: type[Resource]) -> tuple[str, str]:
    """The API group and kind that objects of this class have."""
    version, word = next(key for key, known in KINDS.items() if known is kind)
    return version.partition("/")[0], word
