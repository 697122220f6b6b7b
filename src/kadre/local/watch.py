"""Tells when files below the watched folders change."""

from __future__ import annotations

import asyncio
import contextlib
import stat
from collections.abc import AsyncIterator, Callable, Collection, Iterable, Sequence
from contextlib import aclosing
from pathlib import Path
from typing import TYPE_CHECKING

from kadre.local.files import SUFFIXES

if TYPE_CHECKING:
    from watchfiles import Change

DEBOUNCE_MS = 200
"""Editors write a file in several steps; what comes within this time is one change."""

SETTLE_MS = 1000
"""After this long without a change, watching has surely begun."""


async def changes(folders: Callable[[], Sequence[Path]], files: Callable[[], Collection[str]]) -> AsyncIterator[None]:
    """Yield after each change of a manifest, a `.env`, a file of those names, or the folders, until cancelled.

    Of the folder we are in, where it is none of those, only the `.env` counts: anything may be written there.

    Also yields once when watching has begun: what changed while it was being set up would never be told.

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
        aside = _existing([Path()]).keys() - watched.keys()
        batches = awatch(
            *watched.values(),
            *[Path() for _ in aside],
            recursive=False,
            watch_filter=_Filter(files, watched.values(), env_only=bool(aside)),
            debounce=DEBOUNCE_MS,
            rust_timeout=SETTLE_MS,
            yield_on_timeout=True,
        )
        async with aclosing(batches):
            async for batch in batches:
                if watching and not batch:
                    continue
                watching = True
                yield
                if _existing(folders()) != watched:
                    break


class _Filter:
    """Which of watchfiles' changes count. `env_only`: the folder we are in is watched for its `.env` alone."""

    def __init__(self, files: Callable[[], Collection[str]], watched: Iterable[Path], *, env_only: bool) -> None:
        self._files = files
        self._aside = Path.cwd() if env_only else None
        self._watched = {Path.cwd() / folder for folder in watched}

    def __call__(self, change: Change, path: str) -> bool:
        del change
        file = Path(path)
        name = file.name
        if name == ".env":
            return True
        if file.parent == self._aside and file not in self._watched:
            return False
        return name in self._files() or name.endswith(SUFFIXES) or (not name.startswith(".") and "." not in name)


def _existing(folders: Sequence[Path]) -> dict[tuple[int, int], Path]:
    """Those that are there, by what they are: another folder of the same name is not the one being watched."""
    found = {}
    for folder in folders:
        with contextlib.suppress(OSError):
            status = folder.stat()
            if stat.S_ISDIR(status.st_mode):
                found[status.st_dev, status.st_ino] = folder
    return found
