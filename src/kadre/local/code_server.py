"""A code runner's process in a cluster's pod: it runs what agents of its namespace send, until it is told to end."""

from __future__ import annotations

import asyncio
import ctypes
import logging
import sys
from dataclasses import dataclass
from pathlib import Path

from kadre.base import collector
from kadre.base.clock import SystemClock
from kadre.base.errors import KadreError, ToolError
from kadre.base.tasks import Tasks
from kadre.local import code_door, fenced, serving
from kadre.local.code_process import AT_ONCE, WAITING, Turns
from kadre.local.fenced import FencedSandbox
from kadre.operator.children.common import CODE_AUDIENCE
from kadre.server.accounts import Accounts

log = logging.getLogger(__name__)

LINGER = 3.0
"""Seconds for which it goes on taking code once it is told to end: who sends some hears of its end that much later."""
ENDING = 20
"""Seconds that code has after that: together less than what the pod is given to end."""
_DUMPABLE = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class RunnerSettings:
    """Everything such a process is told."""

    namespace: str
    """Of the pods whose code is run."""
    keys: Path
    """Folder with the cluster's keys, by which their tokens are known."""
    folder: Path
    """Where each piece of code has a folder of its own to write into."""
    host: str = "0.0.0.0"  # noqa: S104 - a pod is reached from outside or not at all
    port: int = 8080
    unfenced: bool = False
    at_once: int = AT_ONCE
    waiting: int = WAITING
    linger: float = LINGER


def run(settings: RunnerSettings) -> int:
    """Serve until told to stop; the exit code. Raises KadreError where code cannot be run here."""
    import uvloop

    hide()
    fenced.clear(settings.folder)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(_serve(settings))


def hide() -> None:
    """Have no process of this user look into this one: into its memory, its environment, its files."""
    if sys.platform == "linux" and ctypes.CDLL(None, use_errno=True).prctl(_DUMPABLE, 0, 0, 0, 0):
        raise KadreError("the kernel lets other processes of this user look into this one")


async def _serve(settings: RunnerSettings) -> int:
    turns = Turns(settings.at_once, settings.waiting)
    sandbox = FencedSandbox(settings.folder, unfenced=settings.unfenced, turns=turns)
    try:
        await sandbox.check()
    except ToolError as error:
        raise KadreError(str(error)) from error
    accounts = Accounts(settings.keys, settings.namespace, CODE_AUDIENCE)
    door = code_door.build(sandbox, accounts.known)
    server = serving.Server(serving.listen(settings.host, settings.port), door, ENDING)
    tasks, stop = Tasks("code-runner"), asyncio.Event()
    try:
        answering = tasks.spawn("serve", server.serve())
        log.info("code of %s is run on port %d, %d at once", settings.namespace, settings.port, settings.at_once)
        collector.settle()
        serving.heed_signals(stop)
        await stop.wait()
        log.info("told to end: taking code for %.0f s more, then %d s for what runs", settings.linger, ENDING)
        await SystemClock().sleep(settings.linger)
        server.should_exit = True
        await asyncio.wait([answering], timeout=ENDING)
    finally:
        serving.leave_signals()
        await tasks.aclose()
    return 0
