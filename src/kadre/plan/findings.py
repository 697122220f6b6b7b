"""Collects what is wrong while one resource is planned, each with the place it was written at."""

from __future__ import annotations

from collections.abc import Iterable

from kadre.api.resource import Resource
from kadre.base.problems import Problem, Severity, did_you_mean
from kadre.plan.lookup import Lookup
from kadre.plan.types import NATIVE_GROUP, Notice, SecretRef


class Findings:
    """Problems and notices of one resource."""

    def __init__(self, resource: Resource, lookup: Lookup) -> None:
        self.resource = resource
        self.lookup = lookup
        self.problems: list[Problem] = []
        self.notices: list[Notice] = []

    def add(self, reason: str, message: str, fix: str, path: str, severity: Severity = "error") -> None:
        """One problem at a field of the resource."""
        resource = self.resource
        self.problems.append(Problem(reason, message, fix, resource.ref, path, resource.at(path), severity))

    def warn(self, reason: str, message: str, fix: str, path: str) -> None:
        """Something that stops nothing."""
        self.add(reason, message, fix, path, "warning")

    def not_yet(self, message: str) -> None:
        """A part of the resource that is not built yet: it goes on without, and says so."""
        self.notices.append(Notice(reason="NotSupportedYet", message=message))

    def missing(self, kind: str, name: str, path: str, also: Iterable[str] = ()) -> None:
        """A reference to nothing; `also`: other names that would have been possible there."""
        namespace = self.resource.namespace
        if self.lookup.broken(kind, namespace, name):
            message = f"{kind} {name} has problems of its own"
            self.add(f"Broken{kind}", message, f"mend {kind} {name} first", path)
            return
        known = [*self.lookup.names(kind, namespace), *also]
        message = f"there is no {kind} {name!r} in namespace {namespace}{did_you_mean(name, known)}"
        self.add(f"Missing{kind}", message, f"add a {kind} named {name}, or refer to one that is there", path)

    def secret(self, ref: SecretRef, path: str, needed_for: str, severity: Severity = "error") -> None:
        """Check that a secret value can be read."""
        state = self.lookup.secret(ref)
        if state == "found":
            return
        place = f"{ref.namespace}/{ref.name}"
        setting = f"set the environment variable {ref.env} (a .env file will do)" if ref.env else ""
        if not ref.name:
            self.add("MissingSecret", f"{needed_for} needs a key, and {ref.env} is not set", setting, path, severity)
        elif state == "no-key":
            fix = " or ".join(part for part in (f"add {ref.key} to it", setting) if part)
            self.add("MissingSecretKey", f"Secret {place} has no key {ref.key!r}", fix, path, severity)
        else:
            create = f"kubectl create secret generic {ref.name} -n {ref.namespace} --from-literal={ref.key}=…"
            fix = " or ".join(part for part in (f"add the Secret ({create})", setting) if part)
            self.add("MissingSecret", f"there is no Secret {place}, which {needed_for} needs", fix, path, severity)

    def find(self, kind: str, name: str, group: str = NATIVE_GROUP) -> Resource | None:
        """The object of that name in the resource's namespace."""
        return self.lookup.get(kind, self.resource.namespace, name, group)
