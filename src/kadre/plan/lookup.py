"""The port to what a resource refers to: other resources, and whether a secret is there (never its value)."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import Literal, Protocol

from kadre.api.dialects.kaos import KaosAgent
from kadre.api.kinds.agent import Agent
from kadre.api.resource import Resource
from kadre.plan.types import NATIVE_GROUP, SecretRef

SecretState = Literal["found", "no-key", "missing"]
AnyAgent = Agent | KaosAgent


class Lookup(Protocol):
    """Above: plan. Below: files, or a cluster's caches. It follows nothing by itself."""

    def get(self, kind: str, namespace: str, name: str, group: str = NATIVE_GROUP) -> Resource | None:
        """The object, or None."""
        ...

    def all(self) -> Iterable[Resource]:
        """Every object."""
        ...

    def names(self, kind: str, namespace: str, group: str = NATIVE_GROUP) -> Iterable[str]:
        """Names of that kind in the namespace, for "did you mean"."""
        ...

    def broken(self, kind: str, namespace: str, name: str) -> bool:
        """Whether such an object was written but can't be used: a reference to it isn't missing, only broken."""
        ...

    def secret(self, ref: SecretRef) -> SecretState:
        """Whether the value can be read: `no-key` where the Secret is there without that key."""
        ...


class Resources:
    """What files hold. `secrets`: each Secret's keys; `env`: variables that are set, which count as secrets too."""

    def __init__(
        self,
        resources: Iterable[Resource],
        secrets: Mapping[tuple[str, str], Collection[str]] | None = None,
        env: Collection[str] = (),
        rejected: Collection[tuple[str, str, str]] = (),
    ) -> None:
        self._objects = {(_group(r), r.kind, r.namespace, r.name): r for r in resources}
        self._secrets = secrets or {}
        self._env = env
        self._rejected = rejected

    def get(self, kind: str, namespace: str, name: str, group: str = NATIVE_GROUP) -> Resource | None:
        """See Lookup."""
        return self._objects.get((group, kind, namespace, name))

    def all(self) -> Iterator[Resource]:
        """See Lookup."""
        return iter(self._objects.values())

    def names(self, kind: str, namespace: str, group: str = NATIVE_GROUP) -> list[str]:
        """See Lookup."""
        return [key[3] for key in self._objects if key[:3] == (group, kind, namespace)]

    def broken(self, kind: str, namespace: str, name: str) -> bool:
        """See Lookup."""
        return (kind, namespace, name) in self._rejected

    def secret(self, ref: SecretRef) -> SecretState:
        """See Lookup."""
        if ref.env and ref.env in self._env:
            return "found"
        keys = self._secrets.get((ref.namespace, ref.name))
        if keys is None:
            return "missing"
        return "found" if ref.key in keys else "no-key"


def _group(resource: Resource) -> str:
    return resource.api_version.partition("/")[0]
