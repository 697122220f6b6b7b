"""Whose a token is, and what they may: asked of the API server, and remembered for some seconds.

What is remembered is how long a token that was revoked, or a right that was taken away, still holds.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Hashable, Mapping
from typing import Any, Generic, TypeVar

from kadre.base.clock import Clock, SystemClock
from kadre.base.errors import Unavailable
from kadre.kube.client import Client
from kadre.kube.errors import ApiError
from kadre.plan.types import NATIVE_GROUP, AgentKey

REMEMBERED_SECONDS = 10.0
MOST = 20_000
"""Answers that are remembered."""
TOKEN_REVIEWS = "/apis/authentication.k8s.io/v1/tokenreviews"  # noqa: S105 - an address
ACCESS_REVIEWS = "/apis/authorization.k8s.io/v1/subjectaccessreviews"
_VERBS = {"chat": "create", "approve": "create", "runs": "list"}
"""What Kubernetes' rules call a deed, by the part of an agent that it is done with."""

T = TypeVar("T")


class _Answers(Generic[T]):
    """Answers, for a while; the oldest go first where there are too many."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._kept: OrderedDict[Hashable, tuple[float, T]] = OrderedDict()

    async def get(self, question: Hashable, ask: Callable[[], Awaitable[T]]) -> T:
        """The answer that is known, or what asking comes to."""
        now = self._clock.monotonic()
        known = self._kept.get(question)
        if known is not None and now - known[0] < REMEMBERED_SECONDS:
            return known[1]
        answer = await ask()
        self._kept[question] = (now, answer)
        self._kept.move_to_end(question)
        if len(self._kept) > MOST:
            self._kept.popitem(last=False)
        return answer


class User:
    """Somebody whom the API server knows by a token. See `kadre.server.gateway.visitors.Visitor`."""

    def __init__(self, reviewer: ClusterReviewer, said: Mapping[str, Any]) -> None:
        self._reviewer = reviewer
        self.name = f"user:{said['username']}"
        self._subject = {
            "user": said["username"],
            **{field: said[field] for field in ("uid", "groups", "extra") if said.get(field)},
        }

    async def may(self, deed: str, agent: AgentKey) -> bool:
        """See Visitor."""
        return await self._reviewer.allowed(self.name, self._subject, deed, agent)


class ClusterReviewer:
    """See `kadre.server.gateway.visitors.Reviewer`. It needs the rights of the ClusterRole system:auth-delegator."""

    def __init__(self, client: Client, clock: Clock | None = None) -> None:
        self._client = client
        clock = clock or SystemClock()
        self._users: _Answers[User | None] = _Answers(clock)
        self._allowed: _Answers[bool] = _Answers(clock)

    async def who(self, token: str) -> User | None:
        """See Reviewer."""
        named = hashlib.sha256(token.encode("latin-1", "replace")).digest()
        return await self._users.get(named, lambda: self._review(token))

    async def allowed(self, name: str, subject: Mapping[str, Any], deed: str, agent: AgentKey) -> bool:
        """Whether the API server's rules let the subject do that. Raises Unavailable."""
        attributes = {
            "verb": _VERBS[deed],
            "group": NATIVE_GROUP,
            "resource": "agents",
            "subresource": deed,
            "namespace": agent.namespace,
            "name": agent.name,
        }

        async def ask() -> bool:
            status = await self._ask(ACCESS_REVIEWS, {**subject, "resourceAttributes": attributes})
            return bool(status.get("allowed"))

        return await self._allowed.get((name, deed, agent), ask)

    async def _review(self, token: str) -> User | None:
        status = await self._ask(TOKEN_REVIEWS, {"token": token})
        said = status.get("user") or {}
        return User(self, said) if status.get("authenticated") and said.get("username") else None

    async def _ask(self, path: str, spec: Mapping[str, Any]) -> Mapping[str, Any]:
        group = path.split("/")[2]
        kind = "TokenReview" if path == TOKEN_REVIEWS else "SubjectAccessReview"
        try:
            told = await self._client.ask(path, {"apiVersion": f"{group}/v1", "kind": kind, "spec": dict(spec)})
        except ApiError as error:
            fix = "give the gateway's account the ClusterRole system:auth-delegator" if error.forbidden else "try again"
            message = f"the API server cannot be asked who is calling ({error.reason or error.status}): {fix}"
            raise Unavailable(message, reason="ReviewFailed", retry_after=5.0) from error
        found: Mapping[str, Any] = told.get("status") or {}
        return found
