"""Forgets sessions past their time to live."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from datetime import timedelta

from kadre.base.clock import Clock
from kadre.base.errors import KadreError
from kadre.engine.agent import HostedAgent

log = logging.getLogger(__name__)

SWEEP_SECONDS = 60.0
"""How often sessions past their time to live are looked for: TTLs are minutes or hours, so a minute late is on time."""


async def forget_expired(agents: Callable[[], Iterable[HostedAgent]], clock: Clock) -> None:
    """Look again and again, at the agents there are then."""
    while True:
        await clock.sleep(SWEEP_SECONDS)
        for agent in agents():
            ttl = agent.plan.memory.session_ttl
            if ttl:
                before = clock.now() - timedelta(seconds=ttl)
                try:
                    await agent.journal.delete_sessions_before(str(agent.plan.key), before)
                except KadreError as error:  # a full disk, say: the next time may find room
                    log.warning("old sessions of %s are still kept: %s", agent.plan.key, error)
