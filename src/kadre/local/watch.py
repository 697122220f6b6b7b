"""Tells when files below the watched folders change."""

from __future__ import annotations

import asyncio
import contextlib
import stat
from collections.abc import AsyncIterator, Callable, Collection, Iterable, Sequence
from contextlib import aclosing
from pathlib import Path

from kadre.local.files import SUFFIXES

DEBOUNCE_MS = 200
"""Editors write a file in several steps; what comes within this time is one change."""

SETTLE_MS = 1000
"""After this long without a change, watching has surely begun."""


TICK_SECONDS = 0.1
"""How far behind a file system's clock may be: it is set by the kernel's ticks, 10 ms or fewer apart."""


def untouched(paths: Iterable[Path], since: float) -> bool:
    """Whether all of them are there and none has changed since that moment, in seconds since 1970."""
    try:
        return all(path.stat().st_ctime < since - TICK_SECONDS for path in paths)
    except OSError:
        return False


async def changes(
    folders: Callable[[], Sequence[Path]], files: Callable[[], Collection[str]], untouched: Callable[[], bool]
) -> AsyncIterator[None]:
    """Yield after each change of a manifest, a `.env`, a file of those names, or the folders, until cancelled.

    Also yields once when watching has begun, unless all is `untouched`: what changed while it was being set up would
    never be told.

    Each folder is watched by itself and not what is below it: the data folder lies among them, and a journal that woke
    the watcher at every commit would cost more than the agents.
    """
    from watchfiles import awatch  # loaded late: not needed until the first answer is out

    away = False
    while True:
        watched = _existing(folders())
        if not watched:  # moved away, perhaps to be replaced: told once, and then waited for
            if away:
                await asyncio.sleep(SETTLE_MS / 1000)
            else:
                away = True
                yield
            continue
        away = watching = False
        batches = awatch(
            *watched.values(),
            recursive=False,
            watch_filter=lambda _, path: _relevant(Path(path).name, files()),
            debounce=DEBOUNCE_MS,
            rust_timeout=SETTLE_MS,
            yield_on_timeout=True,
        )
        async with aclosing(batches):
            async for batch in batches:
                if watching and not batch:
                    continue
                if watching or not untouched():
                    yield
                watching = True
                if _existing(folders()) != watched:
                    break


def _relevant(name: str, files: Collection[str]) -> bool:
    return name == ".env" or name in files or name.endswith(SUFFIXES) or (not name.startswith(".") and "." not in name)


def _existing(folders: Sequence[Path]) -> dict[tuple[int, int], Path]:
    """Those that are there, by what they are: another folder of the same name is not the one being watched."""
    found = {}
    for folder in folders:
        with contextlib.suppress(OSError):
            status = folder.stat()
            if stat.S_ISDIR(status.st_mode):
                found[status.st_dev, status.st_ino] = folder
    return found
