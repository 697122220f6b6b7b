"""The controller's process: connect, follow, act, until told to end."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal

from kadre.base.tasks import first_of
from kadre.kube import access
from kadre.kube.client import Client
from kadre.operator.children.common import MANAGER, Settings
from kadre.operator.controller import Operator

log = logging.getLogger(__name__)


async def run(settings: Settings) -> int:
    """Reconcile until told to end; the exit code. Raises LookupError where there is no cluster to work with."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    found = access.found()
    async with Client(found, MANAGER) as client, contextlib.AsyncExitStack():
        log.info("reconciling the cluster at %s", found.server)
        await first_of(Operator(client, settings).run(), stop.wait())
    return 0
