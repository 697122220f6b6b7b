"""A fork of a conversation that is too large is refused before it is read to its end; none is cut short."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from kadre.base.clock import FakeClock
from kadre.base.errors import TooLarge
from kadre.engine import events as ev
from kadre.engine import forking
from kadre.engine.memory import spill
from kadre.engine.memory.inmemory import InMemoryJournal
from tests.contract.journal.story import Teller, whole_run

pytestmark = pytest.mark.requirement("session-fork")


class Counting(InMemoryJournal):
    """Counts what is read."""

    def __init__(self) -> None:
        super().__init__()
        self.read = 0

    async def history(self, agent: str, session_id: str, before_order: int, limit: int) -> Sequence[ev.Event]:
        found = await super().history(agent, session_id, before_order, limit)
        self.read += len(found)
        return found

    async def events(self, run_id: str, after: int = 0, limit: int = 10_000) -> Sequence[ev.Event]:
        found = await super().events(run_id, after, limit)
        self.read += len(found)
        return found

    async def get_blob(self, digest: str) -> bytes:
        self.read += 1
        return await super().get_blob(digest)


async def refused(journal: Counting, run_id: str) -> TooLarge:
    info = await journal.run(run_id)
    assert info is not None
    with pytest.raises(TooLarge, match=r"more than 0\.0953674 MiB, .* fork it up to an earlier run") as raised:
        await forking.fork(journal, info, "ann", FakeClock())
    assert raised.value.reason == "ForkTooLarge"
    return raised.value


async def test_a_long_session_is_read_no_further_than_there_is_room(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(forking, "MAX_BYTES", 100_000)
    journal = Counting()
    for index in range(1, 501):
        run = Teller(f"run-{index}", "s", minute=index)
        await run.create(journal)
        await run.end(journal, "x" * 5_000)
    await refused(journal, "run-500")
    assert journal.read < 100


async def test_a_long_run_is_read_no_further_than_there_is_room(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(forking, "MAX_BYTES", 100_000)
    journal = Counting()
    run = Teller("run-1", "s")
    await run.create(journal)
    digest = await journal.put_blob(b"x" * 40_000)
    for _ in range(1000):
        await run.append(journal, run.event(ev.AssistantMessage, content="x…", blobs={"content": digest}))
    await run.end(journal)
    await refused(journal, "run-1")
    assert journal.read < 300


async def test_a_conversation_of_more_runs_than_a_list_shows_is_forked_from_its_beginning() -> None:
    journal = InMemoryJournal()
    for index in range(1, 1103):
        await whole_run(journal, f"run-{index}", "s", minute=index)
    info = await journal.run("run-1102")
    assert info is not None
    fork = await forking.fork(journal, info, "ann", FakeClock())
    first = await spill.restore(journal, (await journal.events(fork.run.run_id))[2])
    assert isinstance(first, ev.UserMessage)
    expected = [text for index in range(1, 1103) for text in (f"message of run-{index}", f"answer of run-{index}")]
    assert [*(message.content for message in first.history), first.content] == expected[:-1]
