"""The CustomResourceDefinitions of every kind, made from the models."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import yaml

from kadre.api import schema
from kadre.api.registry import KINDS
from kadre.api.resource import Column, Resource

OURS = {"app.kubernetes.io/part-of": "kadre"}
"""The label by which a definition is told from one of the same name that another product brings."""
AGE = Column("Age", ".metadata.creationTimestamp", "date")


def crds() -> list[dict[str, Any]]:
    """One definition a kind, in the order of the registry."""
    return [crd(kind, *version.split("/")) for (version, _), kind in KINDS.items()]


def crd_yaml(definitions: Iterable[dict[str, Any]]) -> str:
    """Definitions as one YAML stream, ready for `kubectl apply -f -`."""
    return "".join(f"---\n{dump(definition)}" for definition in definitions)


def crd(resource: type[Resource], group: str, version: str) -> dict[str, Any]:
    """The definition of one kind."""
    listing, kind = resource.listing, resource.model_fields["kind"].default
    names: dict[str, Any] = {
        "kind": kind,
        "listKind": f"{kind}List",
        "plural": listing.plural,
        "singular": kind.lower(),
        "categories": ["kadre"],
    }
    if listing.short:
        names["shortNames"] = list(listing.short)
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{listing.plural}.{group}", "labels": dict(OURS)},
        "spec": {
            "group": group,
            "names": names,
            "scope": "Namespaced",
            "versions": [
                {
                    "name": version,
                    "served": True,
                    "storage": True,
                    "schema": {"openAPIV3Schema": root_schema(resource)},
                    "subresources": {"status": {}},
                    "additionalPrinterColumns": [_column(column) for column in (*listing.columns, AGE)],
                }
            ],
        },
    }


def root_schema(resource: type[Resource]) -> dict[str, Any]:
    """The structural schema of a whole object."""
    spec: Any = resource.model_fields["spec"].annotation
    return {
        "type": "object",
        "description": " ".join((resource.__doc__ or "").split()),
        "required": ["spec"],
        "properties": {
            "apiVersion": {"type": "string", "description": "The version of this kind's fields."},
            "kind": {"type": "string", "description": "What kind of object this is."},
            "metadata": {"type": "object"},
            "spec": schema.of_model(spec, defaults=resource.listing.defaults),
            "status": schema.of_model(resource.status_model, defaults=False),
        },
    }


def dump(definition: dict[str, Any]) -> str:
    """One definition as YAML."""
    return yaml.dump(definition, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=120)


class _Dumper(yaml.SafeDumper):
    """Writes a shape that is used twice, twice: not every reader of YAML knows anchors."""

    def ignore_aliases(self, data: Any) -> bool:  # noqa: ARG002 - the signature is PyYAML's
        return True


def _column(column: Column) -> dict[str, Any]:
    shown: dict[str, Any] = {"name": column.name, "type": column.type, "jsonPath": column.path}
    return shown | ({"priority": column.priority} if column.priority else {})
