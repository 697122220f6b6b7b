"""Who calls the gateway, and what they may: a person at this machine, a key's holder, or whom the cluster knows.

Tokens are reviewed here and nowhere else: an agent's host hears a signed word of the gateway's, and never sees one.
"""

from __future__ import annotations

import contextlib
import hashlib
import hmac
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol
from urllib.parse import unquote

from starlette.types import Scope

from kadre.base.errors import Forbidden, Unauthorized
from kadre.base.tasks import all_of
from kadre.engine.afar import ASKING, ON_BEHALF
from kadre.plan.types import AgentKey
from kadre.server import auth
from kadre.server.identity import Right

Deed = Literal["chat", "approve", "runs"]
"""What may be done with an agent, by the part of it that Kubernetes' rules name: talk to it, decide about its calls,
see what others said and were told."""
DEEDS: tuple[Deed, ...] = ("chat", "approve", "runs")
MAX_TOKEN = 16 * 1024
AT_ONCE = 8
"""Agents of which it is asked at the same time whether a caller may talk to them."""


class Visitor(Protocol):
    """Somebody who calls."""

    @property
    def name(self) -> str:
        """As runs and sessions know them: `user:ada`."""
        ...

    @property
    def via(self) -> str:
        """The agent that asks for them; empty: they ask themselves."""
        ...

    async def may(self, deed: Deed, agent: AgentKey) -> bool:
        """Whether they may do that with the agent. Raises Unavailable where nobody can tell now."""
        ...


class Reviewer(Protocol):
    """Knows the bearers of tokens. In a cluster the API server does."""

    async def who(self, token: str, for_whom: str = "", asking: str = "") -> Visitor | None:
        """Whose token that is; None: nobody's. Raises Unavailable.

        What an agent's process says is believed as far as its token goes: `for_whom` it asks, and which of its agents
        is `asking` (empty: it has but one).
        """
        ...


@dataclass(frozen=True, slots=True)
class Trusted:
    """One who may do everything: the person at this machine, or anybody where `auth: none` is spelled out."""

    name: str = auth.LOCAL.name
    via: str = ""

    async def may(self, deed: Deed, agent: AgentKey) -> bool:
        """See Visitor."""
        del deed, agent
        return True


@dataclass(frozen=True, slots=True)
class KeyHolder:
    """The holder of an API key: may talk to every agent; one who approves also sees what there is to decide about."""

    name: str
    approves: bool = False
    via: str = ""

    async def may(self, deed: Deed, agent: AgentKey) -> bool:
        """See Visitor."""
        del agent
        return deed == "chat" or self.approves


class Keys(Protocol):
    """The API keys, by the name of their holder. They are read anew: a key that is taken away ends at once."""

    def current(self) -> Mapping[str, str]:
        """All of them."""
        ...


@dataclass(slots=True)
class Reception:
    """Says who calls. `trust_local`: whether a connection from this machine needs no proof; `open`: nobody does."""

    keys: Keys | None = None
    approvers: frozenset[str] = frozenset()
    """Holders of keys who may decide about calls that wait."""
    reviewer: Reviewer | None = None
    trust_local: bool = True
    open: bool = False
    _digests: tuple[Mapping[str, str], dict[bytes, str]] = field(default=({}, {}), init=False)

    async def visitor(self, scope: Scope) -> Visitor:
        """Who calls. Raises Unauthorized, Forbidden for a page of another origin, and Unavailable."""
        token = _bearer(scope)
        found = await self._by_token(token, scope) if token else None
        if found is not None:
            return found
        if self.open:
            return Trusted(auth.ANYBODY.name)
        if self.trust_local:
            # Clients of OpenAI's send a key whatever it is: who needs none is not turned away for a wrong one.
            with contextlib.suppress(Unauthorized):
                auth.caller(scope)
                return Trusted()
        raise self._unknown(token)

    def _unknown(self, token: str) -> Unauthorized:
        ways = []
        if self.keys is not None:
            ways.append("send `Authorization: Bearer` with an API key of this installation")
        if self.reviewer is not None:
            ways.append("send `Authorization: Bearer` with a token of Kubernetes (kubectl create token NAME)")
        if self.trust_local:
            ways.append("come through kubectl port-forward")
        how = (
            ", or ".join(ways) or "nobody can come in as this is installed: auth.apiKeys, auth.tokens, auth.trustLocal"
        )
        if token:
            known = "the token is none that is known here, or it is no longer valid"
            return Unauthorized(f"{known}; {how}", reason="BadToken")
        return Unauthorized(f"who is calling is not known; {how}", reason="NoCredentials")

    async def _by_token(self, token: str, scope: Scope) -> Visitor | None:
        if len(token) > MAX_TOKEN:
            return None
        if holder := self._holder(token):
            return KeyHolder(f"key:{holder}", approves=holder in self.approvers)
        if self.reviewer is None:
            return None
        return await self.reviewer.who(token, unquote(_header(scope, ON_BEHALF)), _header(scope, ASKING))

    def _holder(self, token: str) -> str:
        current = self.keys.current() if self.keys is not None else {}
        if current is not self._digests[0]:
            self._digests = (current, {_digest(key.encode()): name for name, key in current.items() if key})
        wanted, found = _digest(token.encode("latin-1")), ""  # as it came: a header is bytes
        for digest, name in self._digests[1].items():
            if hmac.compare_digest(digest, wanted):
                found = name
        return found


async def rights(visitor: Visitor, agent: AgentKey) -> tuple[Right, ...]:
    """What a host is told that the caller may there. Who decides about calls sees them.

    An agent hands on what people decided about what it has delegated: they have the right at the agent they asked.
    """
    if visitor.via:
        return ("approve",)
    if await visitor.may("approve", agent):
        return ("see-all", "approve")
    return ("see-all",) if await visitor.may("runs", agent) else ()


async def sees(visitor: Visitor, agent: AgentKey) -> bool:
    """Whether the agent is there for them: they may do something with it."""
    for deed in DEEDS:
        if await visitor.may(deed, agent):
            return True
    return False


async def check(visitor: Visitor, deed: Deed, agent: AgentKey) -> None:
    """Raises Forbidden where they may not."""
    if not await visitor.may(deed, agent):
        message = (
            f"{visitor.name} may not {deed} with agent {agent.short}; a Role with the verb create on agents/{deed} of"
            f" kagent.dev in namespace {agent.namespace} allows it"
        )
        raise Forbidden(message, reason="NotAllowed")


async def allowed(visitor: Visitor, agents: Iterable[AgentKey], deed: Deed | None = None) -> Sequence[AgentKey]:
    """Those of the agents with which they may do that; None: that are there for them. Raises Unavailable."""
    may = dict.fromkeys(agents, False)
    waiting = iter(list(may))

    async def work() -> None:
        for agent in waiting:
            may[agent] = await sees(visitor, agent) if deed is None else await visitor.may(deed, agent)

    await all_of([work() for _ in range(AT_ONCE)])
    return [agent for agent in may if may[agent]]


def _bearer(scope: Scope) -> str:
    found = ""
    for name, value in scope["headers"]:
        if name == b"authorization":
            scheme, _, token = value.decode("latin-1").strip().partition(" ")
            if scheme.lower() == "bearer" and token.strip():
                return str(token.strip())
        elif name == b"x-api-key":
            found = value.decode("latin-1").strip()
    return found


def _header(scope: Scope, wanted: str) -> str:
    named = wanted.encode()
    return next((value.decode("latin-1").strip() for name, value in scope["headers"] if name == named), "")


def _digest(token: bytes) -> bytes:
    return hashlib.sha256(token).digest()
