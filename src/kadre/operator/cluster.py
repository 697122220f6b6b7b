"""What the controller knows of the cluster, and how a plan looks things up in it.

Planning is pure and answers at once; what it needs and is not in memory (which keys a Secret has, a ConfigMap's value)
it notes as wanted. It is fetched, and the plan made again: after two rounds at most everything is there.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Any, NamedTuple

import msgspec

from kadre.api import manifest
from kadre.api.registry import KINDS
from kadre.api.resource import Resource
from kadre.api.services import SELECTOR, ToolService, tool_service
from kadre.base.problems import Problem, errors
from kadre.kube import kinds
from kadre.kube.client import ALL, Client, Scope
from kadre.kube.errors import ApiError
from kadre.kube.informer import Informer
from kadre.kube.kinds import Key, Kind, Object, key_of, shared
from kadre.operator.children import plan_map
from kadre.operator.children.common import Settings
from kadre.operator.scalable import by_keda
from kadre.operator.unsupported import for_cluster
from kadre.plan.build import Planned, plan
from kadre.plan.lookup import FileText, SecretState, UsualKey, identity
from kadre.plan.providers import PROVIDERS
from kadre.plan.types import SecretRef

BORNE = frozenset({"MissingSecret", "MissingSecretKey"})
"""Problems in spite of which an agent is planned: its pods start without a Secret, and read it once it is there."""
NAMED = ("name", "namespace", "labels")
"""What of an object's metadata is its author's and matters to a plan."""
UNDERSTOOD = 512
"""Objects that are kept understood: the models and templates that many refer to, and what was looked at last."""
MAX_ROUNDS = 5
"""Of planning and fetching: each fetches everything that the one before found wanting."""


class Ref(NamedTuple):
    """One object of any kind, ours or not. `group` is empty for the core API."""

    group: str
    kind: str
    namespace: str
    name: str

    def __str__(self) -> str:
        return f"{self.kind} {self.namespace}/{self.name}"


@dataclass(frozen=True, slots=True)
class Declared:
    """An object of our kinds as it is in the cluster, as text: understood, it takes many times the memory."""

    text: bytes
    """What its author says, as JSON."""
    uid: str
    generation: int
    deleting: bool
    reported: bytes
    """Its status, as JSON."""
    finalizers: tuple[str, ...] = ()
    """While it is being deleted: who must finish before it goes."""

    @property
    def resource(self) -> Resource | None:
        """None where it has not even the right shape."""
        return _understood(self.text)[0]

    @property
    def problems(self) -> tuple[Problem, ...]:
        """Everything that is wrong with it by itself."""
        return _understood(self.text)[1]

    @property
    def status(self) -> Object:
        """What is reported of it."""
        status: Object = msgspec.json.decode(self.reported)
        return status

    def says_as(self, other: Declared | None) -> bool:
        """Whether its author says the same as in `other`: only what is reported of it differs."""
        return other is not None and replace(self, reported=b"") == replace(other, reported=b"")


def declared(obj: Object, _: Declared | None = None) -> Declared:
    """What is kept of an object of our kinds."""
    metadata = obj["metadata"]
    named = {key: metadata[key] for key in NAMED if key in metadata}
    said = {key: value for key, value in obj.items() if key != "status"} | {"metadata": named}
    deleting = "deletionTimestamp" in metadata
    return Declared(
        text=msgspec.json.encode(said),
        uid=shared(metadata["uid"]),
        generation=metadata.get("generation", 0),
        deleting=deleting,
        reported=msgspec.json.encode(obj.get("status") or {}),
        finalizers=tuple(metadata.get("finalizers") or ()) if deleting else (),
    )


@lru_cache(maxsize=UNDERSTOOD)
def _understood(text: bytes) -> tuple[Resource | None, tuple[Problem, ...]]:
    resource, problems = manifest.parse(msgspec.json.decode(text))
    return resource, tuple(problems)


def our_kinds() -> list[Kind]:
    """Every kind of ours, as the API has it."""
    found = []
    for (api_version, kind), resource in KINDS.items():
        group, version = api_version.split("/")
        found.append(Kind(group, version, kind, resource.listing.plural))
    return found


class Api(NamedTuple):
    """A version of an API group: whether it is served just now, and whether KEDA is named as who serves it."""

    available: bool
    kedas: bool


@dataclass(slots=True)
class Wanted:
    """What a plan asked for that has to be fetched first."""

    secrets: set[Key] = field(default_factory=set)
    config_maps: set[Key] = field(default_factory=set)

    def __bool__(self) -> bool:
        return bool(self.secrets or self.config_maps)


class Cluster:
    """Everything that is watched to make plans of, in these namespaces; an empty one stands for all.

    `changed` is told what was kept of an object, and what is now.
    """

    def __init__(
        self,
        client: Client,
        changed: Callable[[Ref, Any, Any], None],
        settings: Settings | None = None,
        namespaces: Sequence[str] = ALL,
    ) -> None:
        self.settings = settings or Settings()
        self.variables = {
            PROVIDERS[provider].endpoint_env: url for provider, url in self.settings.provider_endpoints.items()
        }
        """What the installation says, by the variable that would say it on a laptop."""
        self._client = client
        self._changed = changed
        self._namespaces = tuple(namespaces)
        self._values: dict[tuple[str, Key], tuple[str, Mapping[str, str]]] = {}
        """Of a Secret its keys with empty values, of a ConfigMap its values; each with the version that was known
        before it was read: what was read is at least as new, and no longer used once a newer one is known."""
        self.declared: dict[Kind, Informer[Declared]] = {}
        for kind in our_kinds():
            scopes = [Scope(namespace) for namespace in namespaces]
            self.declared[kind] = Informer(client, kind, declared, self._teller(kind), scopes)
        self.secrets = self._versions(kinds.SECRET)
        self.config_maps = self._versions(kinds.CONFIG_MAP)
        self.services = self._versions(kinds.SERVICE)
        marked = [Scope(namespace, SELECTOR) for namespace in self._namespaces]
        self.tool_services: Informer[ToolService | None] = Informer(
            client, kinds.SERVICE, _tool_service, self._tools_changed, marked
        )
        self.apis: Informer[Api] = Informer(client, kinds.API_SERVICE, _api, self._api_changed)
        """Versions of API groups, such as v1beta1.metrics.k8s.io."""
        self._by_name = {(kind.group, kind.kind): informer for kind, informer in self.declared.items()}

    def informers(self) -> list[Informer[Any]]:
        """All of them, to be run."""
        versions = (self.secrets, self.config_maps, self.services)
        return [*self.declared.values(), *versions, self.tool_services, self.apis]

    @property
    def synced(self) -> bool:
        """Whether everything there was when it began to be followed is known."""
        return all(informer.synced.is_set() for informer in self.informers())

    def follows(self, namespace: str) -> bool:
        """Whether what is in that namespace is known."""
        return self._namespaces == ALL or namespace in self._namespaces

    def kinds_of(self, refs: Iterable[Ref]) -> list[Kind]:
        """Their kinds, of those that are followed, each once."""
        wanted = {(ref.group, ref.kind) for ref in refs}
        found = {informer.kind for informer in self.informers()}
        return sorted(kind for kind in found if (kind.group, kind.kind) in wanted)

    def find(self, ref: Ref) -> Declared | None:
        """One of our objects."""
        informer = self._by_name.get((ref.group, ref.kind))
        return informer.kept.get(Key(ref.namespace, ref.name)) if informer is not None else None

    def of_kind(self, kind: str) -> Iterable[Informer[Declared]]:
        """The informers of that kind, whatever its group."""
        return [informer for (_, word), informer in self._by_name.items() if word == kind]

    async def plan(self, resource: Resource, note: Callable[[frozenset[Ref]], None]) -> tuple[Planned, frozenset[Ref]]:
        """The plan, and the Secrets and ConfigMaps that are there and may not be read. Raises ApiError.

        `note` is told everything it depends on, there or not, before anything is waited for: what changes while the
        rest is fetched must find out whom it matters to.
        """
        refused: frozenset[Ref] = frozenset()
        for _ in range(MAX_ROUNDS):
            view = View(self, resource, refused)
            planned = plan(resource, view, bearing=BORNE)
            note(frozenset(view.refs))
            if not view.wanted:
                return plan_map.fitting(self._runnable(planned)), refused
            refused |= await self._fetch(view.wanted)
        raise ApiError(0, "Unsettled", f"what {resource.ref} refers to changes faster than it can be read")

    def _runnable(self, planned: Planned) -> Planned:
        return for_cluster(planned, gateway=bool(self.settings.gateway_url), code=self.settings.code_runner.enabled)

    def value(self, kind: str, key: Key) -> Mapping[str, str] | None:
        """What a Secret or ConfigMap holds; None where that has to be fetched."""
        informer = self.secrets if kind == "Secret" else self.config_maps
        known = self._values.get((kind, key))
        return known[1] if known is not None and known[0] == informer.kept.get(key) else None

    def serves(self, group: str) -> bool | None:
        """Whether the cluster serves an API group that others bring; None where we are not shown."""
        if self.apis.absent:
            return None
        return any(api.available for key, api in self.apis.kept.items() if key.name.partition(".")[2] == group)

    def is_kedas(self, group: str) -> bool | None:
        """Whether KEDA is named as who serves an API group, though nobody may do so; None where we are not shown."""
        if self.apis.absent:
            return None
        return any(api.kedas for key, api in self.apis.kept.items() if key.name.partition(".")[2] == group)

    def version(self, kind: str, key: Key) -> str:
        """The resource version of a Secret or a ConfigMap; empty where it is not there."""
        informer = self.secrets if kind == "Secret" else self.config_maps
        return informer.kept.get(key, "")

    async def _fetch(self, wanted: Wanted) -> frozenset[Ref]:
        """Have what is wanted in memory; what we may not read."""
        refused = set()
        for kind, keys in ((kinds.SECRET, wanted.secrets), (kinds.CONFIG_MAP, wanted.config_maps)):
            hidden = kind is kinds.SECRET
            informer = self.secrets if hidden else self.config_maps
            for key in keys:
                version = informer.kept.get(key, "")
                try:
                    data: Mapping[str, str] = (await self._client.get(kind, *key)).get("data") or {}
                except ApiError as error:
                    if error.forbidden:
                        refused.add(Ref(kind.group, kind.kind, *key))
                        continue
                    if not error.missing:
                        raise
                    data = {}
                if key in informer.kept:  # else it has gone meanwhile, and so has what it held
                    self._values[kind.kind, key] = (version, dict.fromkeys(data, "") if hidden else data)
        return frozenset(refused)

    def _versions(self, kind: Kind) -> Informer[str]:
        scopes = [Scope(namespace, metadata_only=True) for namespace in self._namespaces]
        return Informer(self._client, kind, _version, self._teller(kind), scopes)

    def _tools_changed(self, key: Key, before: ToolService | None, after: ToolService | None) -> None:
        self._changed(_any_service(key.namespace), before, after)

    def _api_changed(self, key: Key, before: Api | None, after: Api | None) -> None:
        _, _, group = key.name.partition(".")
        self._changed(Ref(kinds.API_SERVICE.group, kinds.API_SERVICE.kind, "", group), before, after)

    def _teller(self, kind: Kind) -> Callable[[Key, Any, Any], None]:
        def tell(key: Key, before: Any, after: Any) -> None:
            self._values.pop((kind.kind, key), None)
            self._changed(Ref(kind.group, kind.kind, *key), before, after)

        return tell


def _api(obj: Object, _: Api | None) -> Api:
    conditions = (obj.get("status") or {}).get("conditions") or ()
    available = any(each.get("type") == "Available" and each.get("status") == "True" for each in conditions)
    return Api(available, by_keda(obj))


def _tool_service(obj: Object, _: ToolService | None) -> ToolService | None:
    key = key_of(obj)
    return tool_service(obj, key.namespace, key.name)


def _any_service(namespace: str) -> Ref:
    """What depends on whichever Services there are in a namespace depends on this."""
    return Ref("", "Service", namespace, "")


def _version(obj: Object, _: str | None) -> str:
    version: str = obj["metadata"]["resourceVersion"]
    return version


class View:
    """A Lookup over the cluster that notes what was looked for. See `kadre.plan.lookup.Lookup`.

    The object that is planned is there as it is `given`, whatever is known of it: the webhook has it before the
    cluster does, and a circle through it is found only where what refers to it finds it. Of a Secret that we may not
    read (`refused`) every key is taken to be there: the pod that it is mounted in will see.
    """

    def __init__(self, cluster: Cluster, given: Resource, refused: frozenset[Ref]) -> None:
        self.refs: set[Ref] = set()
        self.wanted = Wanted()
        self._cluster = cluster
        self._refused = refused
        self._given = given
        self._identity = identity(given)

    def get(self, kind: str, namespace: str, name: str, group: str) -> Resource | None:
        """See Lookup."""
        ref = Ref(group, kind, namespace, name)
        self.refs.add(ref)
        if ref == self._identity:
            return self._given
        found = self._cluster.find(ref)
        return found.resource if found is not None and not errors(found.problems) else None

    def broken(self, kind: str, namespace: str, name: str) -> bool:
        """See Lookup."""
        found = [informer.kept.get(Key(namespace, name)) for informer in self._cluster.of_kind(kind)]
        return any(entry is not None and errors(entry.problems) for entry in found)

    def names(self, kind: str, namespace: str) -> Iterable[str]:
        """See Lookup."""
        return [key.name for informer in self._cluster.of_kind(kind) for key in informer.kept if key[0] == namespace]

    def namespaces(self, kind: str, name: str) -> Iterable[str]:
        """See Lookup."""
        return [key.namespace for informer in self._cluster.of_kind(kind) for key in informer.kept if key[1] == name]

    def all(self) -> Iterable[Resource]:
        """See Lookup."""
        kept = [entry for informer in self._cluster.declared.values() for entry in informer.kept.values()]
        return [entry.resource for entry in kept if entry.resource is not None]

    def service(self, namespace: str, name: str) -> str:
        """See Lookup."""
        self.refs.add(Ref("", "Service", namespace, name))
        there = Key(namespace, name) in self._cluster.services.kept
        return f"http://{name}.{namespace}:80" if there else ""

    def tool_services(self, namespace: str) -> Iterable[ToolService]:
        """See Lookup."""
        self.refs.add(_any_service(namespace))
        kept = self._cluster.tool_services.kept.values()
        return [service for service in kept if service is not None and service.namespace == namespace]

    def served(self, namespace: str, service: str, port: int) -> str:
        """See Lookup."""
        return f"http://{service}.{namespace}.svc:{port}"

    def config(self, namespace: str, name: str, key: str) -> str | None:
        """See Lookup."""
        needed, place = Ref("", "ConfigMap", namespace, name), Key(namespace, name)
        self.refs.add(needed)
        if place not in self._cluster.config_maps.kept or needed in self._refused:
            return None
        values = self._cluster.value("ConfigMap", place)
        if values is None:
            self.wanted.config_maps.add(place)
            return ""
        return values.get(key)

    def file(self, path: str) -> FileText | None:  # noqa: ARG002
        """See Lookup. A manifest in a cluster lies in no folder."""
        return None

    def secret(self, ref: SecretRef) -> SecretState:
        """See Lookup."""
        if not ref.name:
            return "missing"
        needed, place = Ref("", "Secret", ref.namespace, ref.name), Key(ref.namespace, ref.name)
        self.refs.add(needed)
        if place not in self._cluster.secrets.kept:
            return "missing"
        if needed in self._refused:
            return "found"
        keys = self._cluster.value("Secret", place)
        if keys is None:
            self.wanted.secrets.add(place)
            return "found"
        return "found" if ref.key in keys else "no-key"

    def usual_key(self, namespace: str, variable: str) -> UsualKey | None:
        """See Lookup. A Secret of that name in the agent's own namespace, whoever put it there."""
        settings = self._cluster.settings
        for provider, secret in settings.provider_secrets.items():
            if PROVIDERS[provider].key_env == variable:
                ref = SecretRef(namespace=namespace, name=secret.name, key=secret.key, env=variable, exported=True)
                return UsualKey(ref, settings.made_in(namespace))
        return None

    def setting(self, name: str) -> str:
        """See Lookup. What the installation says: nothing is taken from the controller's own surroundings."""
        return self._cluster.variables.get(name, "")

    def exported(self, name: str) -> str:
        """See Lookup."""
        return self.setting(name)
