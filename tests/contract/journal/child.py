"""A process of its own for the tests that kill it, fill its disk or have it hold a data directory.

`python -m tests.contract.journal.child TASK DATA_DIR`: prints a line for each thing that was acknowledged.
"""

from __future__ import annotations

import asyncio
import resource
import sys

from kadre.base import errors
from kadre.engine.memory.sqlite import SqliteJournal
from tests.contract.journal.story import Teller, whole_run


def tell(line: str) -> None:
    """Say so at once, to whoever started this process."""
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


async def write_until_killed(data_dir: str) -> None:
    """Four sessions at once, one run after another in each; a run's last number is printed when it is acknowledged."""
    journal = await SqliteJournal.open(data_dir)

    async def talk(session: int) -> None:
        for turn in range(100_000):
            run = Teller(f"run-{session}-{turn:06}", f"s{session}")
            await run.create(journal, f"message {session} {turn}")
            tell(f"{run.run_id} {run.seq}")
            await run.end(journal)
            tell(f"{run.run_id} {run.seq}")

    await asyncio.gather(*(talk(session) for session in range(4)))


async def hold(data_dir: str) -> None:
    """Have the directory until the other side closes our input."""
    await SqliteJournal.open(data_dir)
    tell("open")
    await asyncio.to_thread(sys.stdin.read)


async def fill(data_dir: str) -> None:
    """Write past a limit of a file's size, then with the limit gone."""
    journal = await SqliteJournal.open(data_dir)
    await whole_run(journal, "run-before", "s")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (256 * 1024, hard))
    try:
        await journal.put_blob(b"x" * 1024 * 1024)
    except errors.Unavailable as error:
        tell(f"refused {error.reason}: {error}")
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    await whole_run(journal, "run-after", "s")
    tell("wrote")
    await journal.aclose()


if __name__ == "__main__":
    asyncio.run({"write": write_until_killed, "hold": hold, "fill": fill}[sys.argv[1]](sys.argv[2]))
