"""A run of a session that was summed up makes a case that its agent passes."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from kadre.engine import events as ev
from kadre.engine.memory.port import RunInfo
from kadre.engine.replay import case as kept
from kadre.engine.replay import recording
from kadre.engine.replay.case import Case
from kadre.engine.replay.player import play
from kadre.engine.replay.recording import Given
from kadre.local import cases
from kadre.plan.types import AgentKey, AgentPlan, CompressionPlan, MemoryPlan, ModelPlan
from tests.support.scene import Scene

MEMORY = MemoryPlan(compression=CompressionPlan(threshold=4, model=ModelPlan(provider="scripted", model="small")))


class Here:
    """The runs of a scene's journal."""

    def __init__(self, scene: Scene) -> None:
        self._journal = scene.journal

    async def run(self, run_id: str) -> tuple[RunInfo, Sequence[ev.Event]]:
        info = await self._journal.run(run_id)
        assert info is not None
        return info, await self._journal.events(run_id, limit=info.last_seq)

    async def before(self, run: RunInfo, limit: int) -> Sequence[RunInfo]:
        runs = await self._journal.runs(session_id=run.session_id)
        return sorted((each for each in runs if each.order < run.order), key=lambda each: each.order)[-limit:]

    async def blob(self, run_id: str, digest: str) -> bytes:
        return await self._journal.get_blob(digest)

    async def given(self, agent: str) -> Given | None:
        return None


@pytest.mark.requirement("record-replay")
async def test_a_run_before_which_the_conversation_was_summed_up_passes_and_so_does_the_next() -> None:
    scene = Scene()
    await scene.says("A", "B", "summed up: a", "C", "summed up: a to c", "D", memory=MEMORY)
    made = [await scene.ask(message, session_id="s") for message in ("a", "b", "c", "d")]
    assert "summary" in scene.types(made[2])
    plan = AgentPlan(key=AgentKey("default", "a"), model=ModelPlan(provider="scripted", model="m"), memory=MEMORY)
    for live in made[2:]:
        case: Case = await recording.record(Here(scene), live.info.run_id)
        assert case.model == "m"
        assert case.history is not None
        assert "summed up: a" in case.history[0].content
        read = kept.of_plain(kept.plain(case))
        assert cases.difference(read, await play(read, plan)) == ""
