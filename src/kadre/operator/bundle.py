"""Resources that come with an installation: a ConfigMap holds them as YAML, and they go with it.

Helm cannot make them itself: it wants to know every kind before its first hook has run, and ours come by such a hook.
"""

from __future__ import annotations

from typing import Any

import yaml

from kadre.base.errors import KadreError
from kadre.kube import access, kinds
from kadre.kube.access import Access
from kadre.kube.client import Client, Scope
from kadre.kube.errors import ApiError
from kadre.kube.kinds import Key, Kind, Object
from kadre.operator.cluster import our_kinds

MANAGER = "kadre-bundle"
"""Field manager of what is applied: what the controller says of it in its status is another one's."""
MEMBER = "kagent.dev/bundle"
"""Label of every object of a bundle: the name of its ConfigMap."""


async def apply_bundle(key: Key, found: Access | None = None) -> list[str]:
    """Have the namespace hold what the ConfigMap says, and no more of what it said before; what is there then.

    Objects are in the ConfigMap's namespace and belong to it. Raises KadreError, where an object is somebody else's
    before anything is changed. `found`: the cluster; None: the one we are in, or that of the kubeconfig.
    """
    try:
        found = found or access.found()
    except LookupError as error:
        raise KadreError(str(error)) from error
    async with Client(found, MANAGER) as client:
        try:
            bundle = await client.get(kinds.CONFIG_MAP, *key)
            wanted = [_member(bundle, document) for document in _documents(bundle)]
            there = await _there(client, key)
            for kind, obj in wanted:
                await _refuse_foreign(client, kind, obj, there)
            for kind, obj in wanted:
                await client.apply(kind, obj)
            named = {(kind, obj["metadata"]["name"]) for kind, obj in wanted}
            for (kind, name), uid in there.items():
                if (kind, name) not in named:
                    await client.delete(kind, key.namespace, name, uid=uid)
        except ApiError as error:
            raise KadreError(f"what the ConfigMap {key} holds could not be applied: {error}") from error
    return [f"{kind.plural}.{kind.group}/{obj['metadata']['name']}" for kind, obj in wanted]


def _documents(bundle: Object) -> list[Any]:
    texts = (bundle.get("data") or {}).values()
    try:
        return [document for text in texts for document in yaml.safe_load_all(text) if document is not None]
    except yaml.YAMLError as error:
        raise KadreError(f"the ConfigMap {bundle['metadata']['name']} holds no YAML: {error}") from error


def _member(bundle: Object, document: Object) -> tuple[Kind, Object]:
    known = {(kind.api_version, kind.kind): kind for kind in our_kinds()}
    kind = known.get((document.get("apiVersion", ""), document.get("kind", "")))
    if kind is None:
        raise KadreError(f"{document.get('kind')} of {document.get('apiVersion')} is no kind of Kadre's")
    of = bundle["metadata"]
    owner = {"apiVersion": "v1", "kind": "ConfigMap", "name": of["name"], "uid": of["uid"]}
    metadata = document["metadata"]
    labels = {**(metadata.get("labels") or {}), MEMBER: of["name"]}
    made = {**metadata, "namespace": of["namespace"], "labels": labels, "ownerReferences": [owner]}
    return kind, {**document, "metadata": made}


async def _there(client: Client, key: Key) -> dict[tuple[Kind, str], str]:
    """The bundle's objects by kind and name, each with its uid."""
    scope = Scope(key.namespace, f"{MEMBER}={key.name}", metadata_only=True)
    return {
        (kind, obj["metadata"]["name"]): obj["metadata"]["uid"]
        for kind in our_kinds()
        for obj in (await client.list(kind, scope)).items
    }


async def _refuse_foreign(client: Client, kind: Kind, obj: Object, there: dict[tuple[Kind, str], str]) -> None:
    namespace, name = obj["metadata"]["namespace"], obj["metadata"]["name"]
    if (kind, name) in there or await client.find(kind, Key(namespace, name)) is None:
        return
    fix = (
        f"delete it, name this one otherwise, or hand it over: kubectl label -n {namespace} {kind.plural}.{kind.group}"
    )
    raise KadreError(
        f"{kind.kind} {namespace}/{name} is somebody else's; {fix} {name} {MEMBER}={obj['metadata']['labels'][MEMBER]}"
    )
