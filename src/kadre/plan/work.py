"""What the parts of planning share: the Problems found so far, and references followed.

One `Work` is one plan being made. Nothing outside this package sees it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TypeVar

import msgspec

from kadre.api.parts import EnvVar, SecretKeyRef
from kadre.api.resource import Resource
from kadre.base.problems import Problem, Severity, did_you_mean
from kadre.plan.draft import Draft, Place
from kadre.plan.lookup import Lookup, find, group_and_kind
from kadre.plan.names import secret_variable, server_name
from kadre.plan.types import AgentKey, Dependency, DependencyKind, Notice, Override, SecretRef

R = TypeVar("R", bound=Resource)


@dataclass(slots=True)
class Work:
    """One plan being made."""

    lookup: Lookup
    override: Override
    drafts: dict[AgentKey, Draft] = field(default_factory=dict)
    """Agents with their templates merged, shared by all plans made at once."""
    problems: dict[Problem, None] = field(default_factory=dict)
    """Each once, in the order they were met: two agents that use one broken object find the same Problem."""
    notices: dict[Notice, None] = field(default_factory=dict)
    dependencies: list[Dependency] = field(default_factory=list)
    """What the resource refers to, in the order in which it was followed."""
    servers: dict[tuple[str, str], str] = field(default_factory=dict)
    """Servers with pods of their own that it uses: their kind and name, each with its base URL."""
    _about: tuple[dict[Problem, None], dict[Notice, None]] = field(default_factory=lambda: ({}, {}))
    """What was found since a reference began to be followed."""

    @contextmanager
    def following(self, kind: DependencyKind, name: str = "") -> Iterator[None]:
        """Whatever is noted meanwhile is about this one thing that the resource refers to."""
        problems, notices = self._about = ({}, {})
        yield
        self.dependencies.append(Dependency(kind=kind, name=name, problems=tuple(problems), notices=tuple(notices)))

    def problem(self, place: Place, reason: str, message: str, fix: str, severity: Severity = "error") -> None:
        """Note that something is wrong there."""
        resource, path = place
        found = Problem(reason, message, fix, resource.ref, path, resource.at(path), severity)
        self.problems[found] = self._about[0][found] = None

    def served(self, server: Resource, port: int) -> str:
        """Where a server is reached that has pods of its own; empty where the agent's host runs it."""
        word = server.kind
        url = self.lookup.served(server.namespace, server_name(word, server.name), port)
        if url:
            self.servers[word, server.name] = url
        return url

    def not_yet(self, message: str) -> None:
        """Note a part of the contract that isn't built yet, and what happens instead."""
        notice = Notice(reason="NotSupportedYet", message=message)
        self.notices[notice] = self._about[1][notice] = None

    def reference(self, kind: type[R], place: Place, name: str, fix: str) -> R | None:
        """The object a field names, in the namespace of the object that names it; a Problem and None where it isn't.

        The Problem's reason is Missing and the kind, as in MissingModelConfig; MissingTemplate for an AgentTemplate.
        """
        found = find(self.lookup, kind, place.resource.namespace, name)
        if found is None:
            self.missing(kind, place, name, fix)
        return found

    def missing(self, kind: type[Resource], place: Place, name: str, fix: str) -> None:
        """Say that a field names an object that isn't there, or that can't be used."""
        word = group_and_kind(kind)[1]
        namespace = place.resource.namespace
        if self.lookup.broken(word, namespace, name):
            fix = f"mend {name}: what is wrong with it is told there"
            self.problem(place, "BrokenReference", f"{word} {name} can't be used as it is written", fix)
            return
        elsewhere = [other for other in self.lookup.namespaces(word, name) if other != namespace]
        if elsewhere:
            hint = f"; there is one in {', '.join(sorted(elsewhere))}, and a reference stays within its namespace"
        else:
            hint = did_you_mean(name, self.lookup.names(word, namespace))
        reason = "MissingTemplate" if word == "AgentTemplate" else f"Missing{word}"
        self.problem(place, reason, f"there is no {word} {name} in namespace {namespace}{hint}", fix)

    def secret(
        self,
        place: Place,
        written: SecretKeyRef,
        *,
        line: str = "",
        own: str = "",
        severity: Severity = "error",
    ) -> SecretRef:
        """A reference to one key of a Secret, and a Problem where the value is nowhere.

        `line`: a line of `.env` that may hold it on a laptop, besides the one named after it. `own`: the same, and a
        variable of the process, too; only for a provider's own, and only where the value goes to that provider.
        """
        namespace = place.resource.namespace
        named = SecretRef(
            namespace=namespace, name=written.name, key=written.key, env=secret_variable(written.name, written.key)
        )
        refs = [named]
        if line or own:
            refs.append(msgspec.structs.replace(named, env=line or own, exported=bool(own)))
        for ref in refs:
            if self.lookup.secret(ref) == "found":
                return ref
        ref = refs[-1]
        if not written.optional:
            self.no_secret(place, ref, severity)
        return ref

    def no_secret(self, place: Place, ref: SecretRef, severity: Severity = "error", *, made_in: str = "") -> None:
        """Say that a Secret or its key is missing. `made_in`: where people make it, if not in its own namespace."""
        where_made = made_in or ref.namespace
        if self.lookup.secret(ref) == "no-key":
            reason, message = "MissingSecretKey", f"the Secret {ref.namespace}/{ref.name} has no key {ref.key}"
            fix = f"add the key {ref.key} to the Secret {where_made}/{ref.name}"
        else:
            reason, message = "MissingSecret", f"there is no Secret {ref.namespace}/{ref.name}"
            fix = f"kubectl create secret generic {ref.name} -n {where_made} --from-literal={ref.key}=…"
        laptop = (
            f"on a laptop, a Secret document {ref.name} with the key {ref.key} in the files, or the line {ref.env}=…"
        )
        where = ", or that variable" if ref.exported else " (the environment is not read for it)"
        self.problem(place, reason, message, f"{fix}; {laptop} in .env{where}", severity)

    def env(self, variables: Iterable[tuple[Place, EnvVar]]) -> tuple[dict[str, str], dict[str, SecretRef]]:
        """The variables of a process to be started: those with a value, and those whose value is in a Secret."""
        values: dict[str, str] = {}
        secrets: dict[str, SecretRef] = {}
        for place, variable in variables:
            source = variable.value_from
            if source is not None and source.secret_key_ref is not None:
                where = place.below("valueFrom.secretKeyRef")
                secrets[variable.name] = self.secret(where, source.secret_key_ref, line=variable.name)
            else:
                value = self.value(place, variable)
                if value is not None:
                    values[variable.name] = value
        return values, secrets

    def value(self, place: Place, variable: EnvVar) -> str | None:
        """The value of a variable, written there or in a ConfigMap; None where it is in neither."""
        source = variable.value_from
        if source is None or source.config_map_key_ref is None:
            return variable.value
        ref = source.config_map_key_ref
        namespace = place.resource.namespace
        found = self.lookup.config(namespace, ref.name, ref.key)
        if found is None and not ref.optional:
            message = f"there is no ConfigMap {namespace}/{ref.name} with the key {ref.key}"
            fix = f"kubectl create configmap {ref.name} -n {namespace} --from-literal={ref.key}=…, or write value:"
            self.problem(place.below("valueFrom.configMapKeyRef"), "MissingConfigMap", message, fix)
        return found
