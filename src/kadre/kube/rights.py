"""What the API server lets us do, asked before it is done."""

from __future__ import annotations

from typing import NamedTuple

from kadre.kube.client import Client
from kadre.kube.errors import ApiError
from kadre.kube.kinds import SELF_REVIEW


class Right(NamedTuple):
    """One verb on one resource, such as `agents/status`. `group` is empty for the core API."""

    group: str
    resource: str
    verb: str
    namespace: str = ""
    """Empty: in all of them."""
    name: str = ""
    """Of one object; empty: of any."""


async def granted(client: Client, right: Right) -> bool:
    """Whether we have the right; as if we had where we may not even ask. Raises ApiError."""
    resource, _, part = right.resource.partition("/")
    asked = {
        "group": right.group,
        "resource": resource,
        "subresource": part,
        "verb": right.verb,
        "namespace": right.namespace,
        "name": right.name,
    }
    review = {"apiVersion": SELF_REVIEW.api_version, "kind": SELF_REVIEW.kind, "spec": {"resourceAttributes": asked}}
    try:
        answer = await client.ask(SELF_REVIEW.path(), review)
    except ApiError as error:
        if error.forbidden:
            return True
        raise
    return bool((answer.get("status") or {}).get("allowed"))
