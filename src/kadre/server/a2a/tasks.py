"""Runs as A2A's tasks, and their events as what the followers of a task are told. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any

import msgspec
from a2a import types

from kadre.engine import events as ev

STATES: Mapping[str, types.TaskState] = {
    "queued": types.TaskState.TASK_STATE_SUBMITTED,
    "running": types.TaskState.TASK_STATE_WORKING,
    "waiting": types.TaskState.TASK_STATE_INPUT_REQUIRED,
    "completed": types.TaskState.TASK_STATE_COMPLETED,
    "failed": types.TaskState.TASK_STATE_FAILED,
    "cancelled": types.TaskState.TASK_STATE_CANCELED,
    "interrupted": types.TaskState.TASK_STATE_FAILED,
}
ANSWER = "answer"
"""The one artifact of a task: what the agent says."""
INTERRUPTED = "the run was under way when its process ended; send the message again"
Update = types.TaskStatusUpdateEvent | types.TaskArtifactUpdateEvent


def task(run: Mapping[str, Any], link: str, history: int | None = None, *, artifacts: bool = True) -> types.Task:
    """The task that a run is, as the runs door tells of it. `link`: where calls that wait are decided.

    `history`: messages before the answer, the latest so many of them; None: all.
    """
    events = ev.known(run.get("events", ()))
    waiting = [each for each in run.get("approvals", ()) if run["status"] == "waiting"]
    why = _asked(waiting, link) if waiting else _failure(run["status"], events)
    made = types.Task(
        id=run["run_id"],
        context_id=run["session_id"],
        status=_status(run["status"], run["run_id"], run["session_id"], why),
    )
    made.status.timestamp.FromJsonString(run["updated"])
    if waiting:
        made.status.message.metadata.update({"approvals": waiting, "approve": link})
    if artifacts and run["status"] == "completed":
        made.artifacts.append(_artifact(str(run.get("response", ""))))
    if history != 0:
        made.history.extend(_history(events)[-(history or 0) :])
    return made


class Telling:
    """Tells a task's followers of a run's events: each artifact, each change of its state."""

    def __init__(self, run: Mapping[str, Any], link: str) -> None:
        self._run_id, self._session_id = str(run["run_id"]), str(run["session_id"])
        self._link = link
        self._status = str(run["status"])
        self._pending = {str(each["id"]): each for each in run.get("approvals", ())}
        self._error = ""
        self._said = ""
        """What has been told of the answer that is being given."""
        self._held = ""
        """The piece of it that came last: told with the next one, for one of them is the last."""
        self.over = False
        """Whether there is nothing more to tell: the run has ended, or waits for a person from now on."""

    def tell(self, event: ev.Event) -> Iterator[Update]:
        """What is told of it."""
        match event:
            case ev.Token():
                yield from self._working(event)
                yield from self._piece()
                self._held = event.content
            case ev.AssistantMessage():
                yield from self._working(event)
                yield from self._whole(event)
            case ev.ApprovalRequired():
                self._pending.update((each.id, msgspec.to_builtins(each)) for each in event.approvals)
                yield self._moved("waiting", event.time, _asked(list(self._pending.values()), self._link))
                self.over = True
            case ev.ApprovalDecided():
                self._pending.pop(event.approval_id, None)
                yield from self._working(event)
            case ev.Error():
                self._error = event.message
            case ev.RunFinished():
                why = self._error or (INTERRUPTED if event.status == "interrupted" else "")
                yield self._moved(event.status, event.time, why if event.status != "completed" else "")
                self.over = True
            case ev.ToolStart() | ev.DelegateStart():
                yield from self._working(event)
            case _:
                pass

    def _working(self, event: ev.Event) -> Iterator[Update]:
        if self._status != "running" and not self._pending:
            yield self._moved("running", event.time, "")

    def _whole(self, event: ev.AssistantMessage) -> Iterator[Update]:
        """One that calls tools is not the answer yet: the next one is told in its place."""
        final = not event.tool_calls
        if self._said + self._held == event.content and self._held:
            yield from self._piece(last=final)
        elif final:
            self._said = self._held = ""
            yield self._chunk(event.content, append=False, last=True)
        self._said = self._held = ""

    def _piece(self, *, last: bool = False) -> Iterator[Update]:
        if self._held:
            yield self._chunk(self._held, append=bool(self._said), last=last)
            self._said += self._held
            self._held = ""

    def _chunk(self, text: str, *, append: bool, last: bool) -> Update:
        return types.TaskArtifactUpdateEvent(
            task_id=self._run_id,
            context_id=self._session_id,
            artifact=_artifact(text),
            append=append,
            last_chunk=last,
        )

    def _moved(self, status: str, time: datetime, why: str) -> Update:
        self._status = status
        made = types.TaskStatusUpdateEvent(
            task_id=self._run_id,
            context_id=self._session_id,
            status=_status(status, self._run_id, self._session_id, why),
        )
        made.status.timestamp.FromDatetime(time)
        if status == "waiting":
            approvals = list(self._pending.values())
            made.status.message.metadata.update({"approvals": approvals, "approve": self._link})
        return made


def _status(status: str, run_id: str, session_id: str, why: str) -> types.TaskStatus:
    made = types.TaskStatus(state=STATES[status])
    if why:
        made.message.CopyFrom(_message(f"{run_id}-{status}", run_id, session_id, why))
    return made


def _history(events: Iterable[ev.Event]) -> list[types.Message]:
    found = []
    for event in events:
        match event:
            case ev.UserMessage():
                role = types.Role.ROLE_USER
            case ev.AssistantMessage() if event.tool_calls and event.content:
                role = types.Role.ROLE_AGENT
            case _:
                continue
        message_id = f"{event.run_id}-{event.seq}"
        found.append(_message(message_id, event.run_id, event.session_id, event.content, role))
    return found


def _message(
    message_id: str, run_id: str, session_id: str, text: str, role: types.Role = types.Role.ROLE_AGENT
) -> types.Message:
    return types.Message(
        message_id=message_id,
        task_id=run_id,
        context_id=session_id,
        role=role,
        parts=[types.Part(text=text)],
    )


def _artifact(text: str) -> types.Artifact:
    return types.Artifact(artifact_id=ANSWER, name=ANSWER, parts=[types.Part(text=text)])


def _failure(status: str, events: Sequence[ev.Event]) -> str:
    if status not in {"failed", "interrupted", "cancelled"}:
        return ""
    error = next((event for event in reversed(events) if isinstance(event, ev.Error)), None)
    if error is not None:
        return error.message
    return INTERRUPTED if status == "interrupted" else ""


def _asked(approvals: Sequence[Mapping[str, Any]], link: str) -> str:
    calls = "; ".join(f"{each['tool_call']['name']} (approval {each['id']})" for each in approvals)
    asks = any(each.get("kind") == "question" for each in approvals)
    deeds, field = ("answer, allow", ', "answer" to a question') if asks else ("allow", "")
    return (
        f"It waits for a person to {deeds} or deny: {calls}. They decide by POST {link} with"
        f' {{"decision": "allow" | "deny", "approval_id"{field}}}; no message does.'
    )


def response(update: Update) -> types.StreamResponse:
    """An update as streams and webhooks have it."""
    if isinstance(update, types.TaskStatusUpdateEvent):
        return types.StreamResponse(status_update=update)
    return types.StreamResponse(artifact_update=update)
