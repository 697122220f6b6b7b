"""What is built once and kept outside the repository. Deleting it costs time and nothing else."""

from __future__ import annotations

import fcntl
import hashlib
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path


def folder() -> Path:
    """The cache: KADRE_CACHE, else `kadre` in the user's cache folder."""
    base = os.environ.get("XDG_CACHE_HOME") or Path("~/.cache").expanduser()
    place = Path(os.environ.get("KADRE_CACHE") or Path(base, "kadre"))
    place.mkdir(parents=True, exist_ok=True)
    return place


def digest(sources: Iterable[Path], *more: str) -> str:
    """Names what is made from these files and settings."""
    made_from = hashlib.sha256("\0".join(more).encode())
    for source in sorted(sources):
        made_from.update(source.name.encode() + b"\0" + source.read_bytes())
    return made_from.hexdigest()[:12]


@contextmanager
def alone(name: str) -> Iterator[None]:
    """One process at a time: two test runs that find something missing make it once."""
    with (folder() / f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
