"""The `kadre` command as it is run: a process of its own that ends."""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path
from typing import NamedTuple

SECONDS = 40.0


class Done(NamedTuple):
    """How a command ended, and what it wrote."""

    code: int
    out: str
    err: str


async def kadre(*words: str | Path, cwd: Path | None = None, **env: str) -> Done:
    """Run `kadre WORDS` to its end."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "kadre", *map(str, words)),
        cwd=cwd,
        env={**os.environ, "NO_COLOR": "1", **env},
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        out, err = await asyncio.wait_for(process.communicate(), SECONDS)
    finally:
        if process.returncode is None:
            process.kill()
    return Done(process.returncode or 0, out.decode(), err.decode())
