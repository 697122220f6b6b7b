"""How events move a run's status, number and usage."""

from __future__ import annotations

import pytest

from kadre.engine import events as ev
from kadre.engine.memory import projection
from kadre.engine.memory.port import NewRun
from kadre.engine.messages import Usage
from tests.contract.journal.story import AGENT, Teller


def _begun(position: int = 0) -> tuple[Teller, projection.Head]:
    run = Teller("run-1", "s")
    new = NewRun(run_id="run-1", session_id="s", agent=AGENT, caller="local")
    return run, projection.begin(new, 1, position, run.first())[0]


@pytest.mark.parametrize(("position", "status"), [(0, "running"), (2, "queued")])
def test_a_run_is_queued_behind_others_and_else_runs(position: int, status: str) -> None:
    assert _begun(position)[1].info.status == status


def test_only_a_queued_run_begins_to_run_when_its_turn_comes() -> None:
    assert projection.running(_begun(1)[1]).info.status == "running"
    run, head = _begun()
    waiting = projection.follow(head, [run.asks("a")])
    assert projection.running(waiting) is waiting


@pytest.mark.parametrize("status", ["completed", "failed", "cancelled", "interrupted"])
def test_the_end_decides_the_status_and_drops_what_was_pending(status: ev.RunStatus) -> None:
    run, head = _begun()
    head = projection.follow(head, [run.asks("a"), run.event(ev.RunFinished, status=status)])
    assert (head.info.status, head.pending) == (status, ())


def test_usage_is_the_sum_of_the_runs_own_model_calls() -> None:
    run, head = _begun()
    calls = [run.event(ev.UsageEvent, model="m", usage=Usage(1, 2, 3)) for _ in range(2)]
    end = run.event(ev.RunFinished, status="completed", usage=Usage(100, 100, 200))
    assert projection.follow(head, [*calls, end]).info.usage == Usage(2, 4, 6)


def test_a_token_is_never_kept() -> None:
    run, head = _begun()
    with pytest.raises(ValueError, match="Token"):
        projection.follow(head, [run.event(ev.Token, offset=1, content="x")])


def test_a_head_read_back_knows_its_pending_approvals() -> None:
    run, head = _begun(1)
    first = Teller("run-1", "s").first()
    rest = [run.asks("a", "b"), run.event(ev.ApprovalDecided, approval_id="a", decision="allow", by="ann")]
    head = projection.follow(head, rest)
    assert projection.replay(head.info, [*first, *rest]) == head
    assert [approval.id for approval in head.pending] == ["b"]
