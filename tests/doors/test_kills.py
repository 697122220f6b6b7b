"""A process that makes a write which a person allowed is killed on the way, at every step, and another one goes on."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager
from pathlib import Path

import pytest

from tests.support import killing
from tests.support.faulty import faulty_model
from tests.support.killing import IN_DOUBT, SENT, STORED, Case
from tests.support.sink import Sink, sinking
from tests.support.upping import Upped, hosting

pytestmark = pytest.mark.requirement("write-at-most-once")
STEPS = (*STORED, *SENT)
WHILE_IN_DOUBT = tuple(sorted(IN_DOUBT))


async def killed(upped: Upped, case: Case, sink: Sink) -> None:
    """Bring it to that step, where it is killed: it does so itself at a step of its journal."""
    held = killing.held(case, sink)
    asking = asyncio.create_task(killing.asks(upped, case))
    if held is not None:
        await asyncio.wait_for(held.reached.wait(), killing.SECONDS)
        upped.process.kill()
    assert await asyncio.wait_for(upped.process.wait(), killing.SECONDS) == -signal.SIGKILL
    await asking
    if held is not None:
        held.go.set()  # the sink is another process, and does what it was asked


@pytest.mark.timeout(180)  # each step is a process that starts
@pytest.mark.parametrize(
    ("tool", "steps"), [("honours", STEPS), ("ignores", STEPS), ("put", WHILE_IN_DOUBT), ("add", WHILE_IN_DOUBT)]
)
async def test_a_write_is_made_once_or_its_outcome_is_unknown_wherever_its_process_is_killed(
    tool: str, steps: Sequence[str], tmp_path: Path
) -> None:
    async with sinking() as sink, faulty_model() as model:
        file = killing.plan(tmp_path / "plan.json", sink, model, mcp=tool in ("put", "add"))
        before: Case | None = None
        for case in killing.cases([tool], steps):
            async with hosted(file, case) as upped:
                if before is not None:
                    await killing.judge(upped, before, sink, model)
                await killed(upped, case, sink)
            before = case
        assert before is not None
        async with hosting(file, "--data-dir", tmp_path / "data") as upped:
            await killing.judge(upped, before, sink, model)


def hosted(file: Path, case: Case) -> AbstractAsyncContextManager[Upped]:
    """The process that dies there."""
    dies = "never at all" if case.step in SENT else f"{case.step} {case.run_id}"
    return hosting(file, "--data-dir", file.parent / "data", program="tests.support.dying", KADRE_TEST_DIES=dies)
