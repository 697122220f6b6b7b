"""Whose a token is, and what they may: asked of the API server, and remembered for some seconds.

What is remembered is how long a token that was revoked, or a right that was taken away, still holds. Whoever sends
tokens of nobody makes us ask each time: no more than some questions are under way at once.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import hashlib
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Collection, Hashable, Mapping, Sequence
from typing import Any, Generic, NamedTuple, Protocol, TypeVar

import msgspec

from kadre.base.clock import Clock, SystemClock
from kadre.base.errors import Unavailable, shorten
from kadre.kube.client import Client
from kadre.kube.errors import ApiError
from kadre.operator.children.common import GATEWAY_AUDIENCE
from kadre.plan.types import NATIVE_GROUP, AgentKey

REMEMBERED_SECONDS = 10.0
POD_NAME = "authentication.kubernetes.io/pod-name"
MOST = 20_000
"""Answers that are remembered."""
MOST_NAME = 300
"""Characters of an agent's name that are told again."""
AT_ONCE = 32
"""Questions under way at once."""
WAITING = 256
"""Questions that wait for their turn; further ones are refused."""
TOKEN_REVIEWS = "/apis/authentication.k8s.io/v1/tokenreviews"  # noqa: S105 - an address
ACCESS_REVIEWS = "/apis/authorization.k8s.io/v1/subjectaccessreviews"
_VERBS = {"chat": "create", "approve": "create", "runs": "list"}
"""What Kubernetes' rules call a deed, by the part of an agent that it is done with."""

T = TypeVar("T")


class _Answers(Generic[T]):
    """Answers, for a while; the oldest go first where there are too many. What several ask at once is asked once."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._kept: OrderedDict[Hashable, tuple[float, T]] = OrderedDict()
        self._asked: dict[Hashable, asyncio.Future[T]] = {}

    async def get(self, question: Hashable, ask: Callable[[], Awaitable[T]]) -> T:
        """The answer that is known, or what asking comes to."""
        known = self._kept.get(question)
        if known is not None and self._clock.monotonic() - known[0] < REMEMBERED_SECONDS:
            return known[1]
        asked = self._asked.get(question)
        if asked is None:
            asked = self._asked[question] = asyncio.ensure_future(ask())
            asked.add_done_callback(lambda done: self._answered(question, done))
        return await asyncio.shield(asked)  # others may wait for the same

    def _answered(self, question: Hashable, done: asyncio.Future[T]) -> None:
        self._asked.pop(question, None)
        if done.cancelled() or done.exception() is not None:
            return
        self._kept[question] = (self._clock.monotonic(), done.result())
        self._kept.move_to_end(question)
        if len(self._kept) > MOST:
            self._kept.popitem(last=False)


class Pods(Protocol):
    """Knows whose pods there are."""

    def agent_of(self, namespace: str, pod: str, asking: str = "") -> AgentKey | None:
        """The agent that the pod answers for; None where it is no agent's, or not that of the agent `asking`."""
        ...

    def others(self, key: AgentKey) -> frozenset[AgentKey]:
        """The agents that it may delegate to."""
        ...


class User:
    """Somebody whom the API server knows by a token. See `kadre.server.gateway.visitors.Visitor`."""

    def __init__(self, reviewer: ClusterReviewer, said: Mapping[str, Any]) -> None:
        self._reviewer = reviewer
        self.name = f"user:{said['username']}"
        self.via = ""
        namespace, names = str(said["username"]).split(":")[-2:-1], (said.get("extra") or {}).get(POD_NAME)
        self.pod = (namespace[0], str(names[0])) if namespace and names else None
        """The namespace and the name of the pod that the token is of."""
        more = {field: said[field] for field in ("uid", "groups", "extra") if said.get(field)}
        self._subject = msgspec.json.encode({"user": said["username"], **more}, order="sorted")

    async def may(self, deed: str, agent: AgentKey) -> bool:
        """See Visitor. Rules are mostly for whole namespaces: those are asked for first, once for all agents there."""
        ask = self._reviewer.allowed
        return await ask(self._subject, deed, agent.namespace) or await ask(
            self._subject, deed, agent.namespace, agent.name
        )


class Delegated(NamedTuple):
    """Somebody for whom an agent asks others, as its pod says. See Visitor."""

    name: str
    via: str
    others: frozenset[AgentKey]
    """The agents that it may ask."""

    async def may(self, deed: str, agent: AgentKey) -> bool:
        """See Visitor."""
        return deed == "chat" and agent in self.others


class ClusterReviewer:
    """See `kadre.server.gateway.visitors.Reviewer`. It needs the rights of the ClusterRole system:auth-delegator."""

    def __init__(self, client: Client, pods: Pods, clock: Clock | None = None) -> None:
        self._client = client
        self._pods = pods
        clock = clock or SystemClock()
        self._users: _Answers[User | None] = _Answers(clock)
        self._allowed: _Answers[bool] = _Answers(clock)
        self._turns = asyncio.Semaphore(AT_ONCE)
        self._under_way = 0

    async def who(self, token: str, for_whom: str = "", asking: str = "") -> User | Delegated | None:
        """See Reviewer. A token that was made for the gateway is an agent's word where its pod is an agent's."""
        named = hashlib.sha256(token.encode("latin-1", "replace")).digest()
        ours = GATEWAY_AUDIENCE in _audiences(token)
        user = await self._users.get(named, lambda: self._review(token, [GATEWAY_AUDIENCE] if ours else []))
        if not ours or user is None or user.pod is None:
            return user
        agent = self._pods.agent_of(*user.pod, asking)
        if agent is not None:
            return Delegated(for_whom or f"agent:{agent}", str(agent), self._pods.others(agent))
        if asking:
            message = f"it is not known here that pod {user.pod[1]} answers for agent {shorten(asking, MOST_NAME)}"
            raise Unavailable(f"{message}: a moment later it may be", reason="NotItsPod", retry_after=1.0)
        return user

    async def allowed(self, subject: bytes, deed: str, namespace: str, name: str = "") -> bool:
        """Whether the cluster's rules let the subject do that, with every agent there or the one. Raises Unavailable.

        `subject`: as a SubjectAccessReview has it, as JSON.
        """
        attributes = {"verb": _VERBS[deed], "group": NATIVE_GROUP, "resource": "agents", "subresource": deed}
        attributes |= {"namespace": namespace} | ({"name": name} if name else {})

        async def ask() -> bool:
            spec = {**msgspec.json.decode(subject), "resourceAttributes": attributes}
            return bool((await self._ask(ACCESS_REVIEWS, spec)).get("allowed"))

        return await self._allowed.get((subject, deed, namespace, name), ask)

    async def _review(self, token: str, audiences: Sequence[str]) -> User | None:
        spec: dict[str, Any] = {"token": token} | ({"audiences": list(audiences)} if audiences else {})
        status = await self._ask(TOKEN_REVIEWS, spec)
        if audiences and not set(audiences) & set(status.get("audiences") or ()):
            return None  # a server that does not know of audiences has not looked at them
        said = status.get("user") or {}
        return User(self, said) if status.get("authenticated") and said.get("username") else None

    async def _ask(self, path: str, spec: Mapping[str, Any]) -> Mapping[str, Any]:
        if self._under_way >= AT_ONCE + WAITING:
            message = "the API server is asked who is calling as often as it may be; try again"
            raise Unavailable(message, reason="ReviewFailed", retry_after=1.0)
        group = path.split("/")[2]
        kind = "TokenReview" if path == TOKEN_REVIEWS else "SubjectAccessReview"
        self._under_way += 1
        try:
            async with self._turns:
                told = await self._client.ask(path, {"apiVersion": f"{group}/v1", "kind": kind, "spec": dict(spec)})
        except ApiError as error:
            fix = "give the gateway's account the ClusterRole system:auth-delegator" if error.forbidden else "try again"
            message = f"the API server cannot be asked who is calling ({error.reason or error.status}): {fix}"
            raise Unavailable(message, reason="ReviewFailed", retry_after=5.0) from error
        finally:
            self._under_way -= 1
        found: Mapping[str, Any] = told.get("status") or {}
        return found


def _audiences(token: str) -> Collection[str]:
    """For whom a token says that it is, before anybody has looked whether it is one: which question to ask."""
    claims = token.split(".")[1:2]
    try:
        said = msgspec.json.decode(base64.urlsafe_b64decode(claims[0] + "=" * (-len(claims[0]) % 4)))["aud"]
    except (ValueError, TypeError, LookupError, binascii.Error):
        return ()
    return [said] if isinstance(said, str) else [each for each in said if isinstance(each, str)]
