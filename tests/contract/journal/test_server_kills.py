"""A process that makes a write which a person allowed is killed on the way, at every step, and a replica goes on."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from kadre.base.tasks import all_of
from kadre.plan.types import MemoryPlan, RedisPlan, SecretRef
from tests.support import killing
from tests.support.cut import Cut
from tests.support.faulty import faulty_model
from tests.support.killing import IN_DOUBT, SENT, STORED, Case
from tests.support.sink import Sink, sinking
from tests.support.stores import Store
from tests.support.upping import hosting

URL = SecretRef(namespace="team", name="journal", key="url")
STEPS = [step for step in (*STORED, *SENT) if step != "before tool_start"]
"""Another process goes on with a run as with one of its own (tests/doors/test_kills.py): what is stored is the same
before the beginning of a call as after the decision about it."""
HONOURED = ("after approval_decided", *sorted(IN_DOUBT))
AT_ONCE = 4
"""Processes that start: more of them take no less time."""


def told(file: Path, name: str, url: str) -> tuple[Path | str, ...]:
    """Words for a process of that name whose journal is at that address."""
    journal = file.parent / name / "journal"
    journal.mkdir(parents=True)
    (journal / "url").write_text(url)
    return "--journal", journal, "--secrets", journal.parent, "--data-dir", file.parent / name / "data"


def armed(cut: Cut, case: Case) -> None:
    """Have the way to the store shut at that step of the journal."""
    when, _, kind = case.step.partition(" ")
    word = f'"type":"{kind}"'.encode()
    if when == "before":
        cut.next_question_with(word)
    elif when == "after":
        cut.next_answer_to(word, then_shut=True)


async def killed(store: Store, file: Path, case: Case, sink: Sink) -> None:
    """Bring a process to that step, and kill it there."""
    async with store.cut() as cut, hosting(file, *told(file, case.run_id, store.url(cut.socket))) as upped:
        armed(cut, case)
        held = killing.held(case, sink)
        asking = asyncio.create_task(killing.asks(upped, case))
        if held is None:
            await cut.until_shut(killing.SECONDS)
        else:
            await asyncio.wait_for(held.reached.wait(), killing.SECONDS)
        upped.process.kill()
        await asking
        if held is not None:
            held.go.set()  # the sink is another process, and does what it was asked


@pytest.mark.timeout(240)  # more than a dozen processes, and a lease
@pytest.mark.requirement("write-at-most-once")
async def test_a_write_is_made_once_or_its_outcome_is_unknown_wherever_its_process_is_killed(
    store: Store, tmp_path: Path
) -> None:
    memory = MemoryPlan(type="redis", redis=RedisPlan(url=URL)) if store.type == "redis" else None
    cases = [*killing.cases(["honours"], HONOURED), *killing.cases(["ignores"], STEPS)]
    starting = asyncio.Semaphore(AT_ONCE)
    async with sinking() as sink, faulty_model() as model:
        file = killing.plan(tmp_path / "plan.json", sink, model, memory=memory)

        async def in_turn(case: Case) -> None:
            async with starting:
                await killed(store, file, case, sink)

        async with hosting(file, *told(file, "replica", store.url())) as replica:
            await all_of(map(in_turn, cases))
            for case in cases:
                await killing.judge(replica, case, sink, model)
