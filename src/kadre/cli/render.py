"""Turns a run's events into what a person reads: as a conversation (`Screen`) or as a record (`record`)."""

from __future__ import annotations

import json
import sys
from datetime import datetime
from typing import Any, TextIO

from kadre.base.errors import shorten
from kadre.engine import events as ev
from kadre.local.console import Console

ARGUMENTS_SHOWN = 120
"""Characters of a call's arguments in a line about it; the question for an approval shows all of them."""
OUTPUT_SHOWN = 200
_HIDDEN = dict.fromkeys(
    [code for code in (*range(0x20), *range(0x7F, 0xA0)) if chr(code) not in "\n\t"]
    + [*range(0x202A, 0x202F), *range(0x2066, 0x206A)]
)
"""Control characters and those that override the direction of writing."""
_UNSEEN = {
    code: json.dumps(chr(code))[1:-1]
    for code in (
        *range(0x7F, 0xA0),
        *(0xAD, 0x61C, 0x180E, 0xFEFF),
        *range(0x200B, 0x2010),
        *range(0x2028, 0x202F),
        *range(0x2060, 0x2070),
        *range(0xE0000, 0xE0080),
    )
}
"""What has no look of its own, ends lines or turns their order around, as JSON escapes it: who decides must see it."""


class Screen:
    """Shows a conversation as it happens: answers on standard output, everything about them on the console."""

    def __init__(self, console: Console, answers: TextIO | None = None) -> None:
        self._console = console
        self._answers = answers or sys.stdout
        self._written = ""
        self._started: dict[str, datetime] = {}
        self._told: set[str] = set()

    def show(self, event: ev.Event) -> None:
        """Show one event, in their order."""
        match event:
            case ev.Token():
                self._write(event.content)
            case ev.AssistantMessage():
                self._complete(event.content)
            case ev.ToolStart():
                self._started[event.tool_call.id] = event.time
                self.note(f"→ {call(event.tool_call)}")
            case ev.ToolEnd():
                self._tool_ended(event)
            case ev.Error():
                self.end_line()
                told = printable(f"{event.message} ({event.reason})")
                self._console.say(f"{self._console.style('error', 'red')}: {told}")
            case ev.RunFinished():
                self.end_line()
                if event.status in {"cancelled", "interrupted"}:
                    self.note(f"the run was {event.status}")
            case _:
                told = _aside(event)
                if told and told not in self._told:
                    self.note(told)
                if isinstance(event, ev.System):  # every run of the session says it again
                    self._told.add(told)

    def note(self, text: str) -> None:
        """Something beside the conversation, on a line of its own."""
        self.end_line()
        self._console.say(self._console.style(printable(text), "dim"))

    def ask(self, approval: ev.Approval) -> None:
        """What a person decides about: the exact call, nothing cut off."""
        self.end_line()
        console = self._console
        console.say(f"{console.style('?', 'yellow')} {console.style(printable(approval.tool_call.name), 'bold')}")
        for line in printable(arguments(approval.tool_call)).split("\n"):
            console.say(f"    {line}")
        console.say(console.style(printable(approval.reason), "dim"))

    def end_line(self) -> None:
        """Begin a new line where an answer is being written."""
        if self._written:
            self._answers.write("\n")
            self._answers.flush()
            self._written = ""

    def _write(self, text: str) -> None:
        self._answers.write(printable(text) if self._answers.isatty() else text)
        self._answers.flush()
        self._written += text

    def _complete(self, content: str) -> None:
        """The whole of what was streamed; where tokens were lost it is written again."""
        if not content.startswith(self._written):
            self.end_line()
        self._write(content[len(self._written) :])
        self.end_line()

    def _tool_ended(self, event: ev.ToolEnd) -> None:
        state = event.tool_call
        started = self._started.pop(state.id, event.time)
        outcome = shorten(state.output if state.status == "complete" else state.error or state.output, OUTPUT_SHOWN)
        mark, style = ("✓", "green") if state.status == "complete" else ("✗", "red")
        self.end_line()
        passed = f"{(event.time - started).total_seconds():.1f} s"
        console = self._console
        told = printable(f"{state.name} ({passed}): {outcome}")
        console.say(f"{console.style(mark, style)} {console.style(told, 'dim')}")


def _aside(event: ev.Event) -> str:
    """What is worth a line beside the conversation; empty where nothing is."""
    match event:
        case ev.System():
            return f"note: {event.message} ({event.reason})"
        case ev.DelegateStart():
            return f"⇢ {event.agent}: {shorten(event.message, OUTPUT_SHOWN)}"
        case ev.DelegateEnd():
            return f"⇠ {event.agent} {event.status}"
        case ev.ApprovalDecided():
            return f"{_decided(event)} by {event.by}"
        case ev.RunStarted() if event.position:
            runs = "a run" if event.position == 1 else f"{event.position} runs"
            return f"waiting for {runs} of this session to end"
    return ""  # the person knows what they said; questions are asked by whoever can take the answer


def arguments(state: ev.ToolCallState) -> str:
    """All arguments of a call, on as many lines as they take."""
    given = state.arguments
    return given if isinstance(given, str) else as_json(given, indent=2)


def as_json(value: Any, indent: int | None = None) -> str:
    """JSON as people read it, and nothing in it that they do not see."""
    return json.dumps(value, indent=indent, ensure_ascii=False).translate(_UNSEEN)


def call(state: ev.ToolCallState) -> str:
    """A call on one line: `name(argument="value", …)`."""
    arguments = state.arguments
    if isinstance(arguments, dict):
        shown = ", ".join(f"{name}={as_json(value)}" for name, value in arguments.items())
    else:
        shown = as_json(arguments)
    return f"{state.name}({shorten(shown, ARGUMENTS_SHOWN)})"


def _decided(event: ev.ApprovalDecided) -> str:
    if event.decision == "deny":
        return "denied"
    if event.answer is not None:
        return "answered"
    return "allowed" if event.arguments is None else f"allowed with {shorten(as_json(event.arguments))}"


def record(event: ev.Event) -> str:
    """An event as a line of a run's record: `time  kind  text`. Tokens are none: the answer they are part of is."""
    kind, text = _said(event) or _done(event)
    return f"{event.time.astimezone():%H:%M:%S}  {kind:<8}  " + printable(text).replace("\n", "\n" + " " * 20)


def _said(event: ev.Event) -> tuple[str, str] | None:
    """Kind and text of what was said, by whom, and how it began and ended."""
    match event:
        case ev.RunStarted():
            parent = f" for {event.parent_run_id}" if event.parent_run_id else ""
            return "started", f"{event.agent}, asked by {event.caller or 'somebody unknown'}{parent}"
        case ev.System():
            return "note", f"{event.message} ({event.reason})"
        case ev.UserMessage():
            return "user", event.content
        case ev.Recalled():
            return "recalled", "; ".join(memory.text for memory in event.memories)
        case ev.Summary():
            return "summary", f"{shorten(event.content)} ({event.model})"
        case ev.AssistantMessage():
            calls = ", ".join(asked.name for asked in event.tool_calls)
            return "answer", event.content or f"calls {calls}"
        case ev.UsageEvent():
            used = event.usage
            saved = f", about {event.tools_unsent} of tools not sent" if event.tools_unsent else ""
            return "usage", f"{event.model}: {used.prompt_tokens} in, {used.completion_tokens} out{saved}"
        case ev.Error():
            return "error", f"{event.message} ({event.reason})"
        case ev.RunFinished():
            return "finished", f"{event.status}, {event.usage.total_tokens} tokens"
    return None


def _done(event: ev.Event) -> tuple[str, str]:
    """Kind and text of what was done: calls, questions about them, work given to other agents."""
    match event:
        case ev.ToolStart():
            return "call", call(event.tool_call)
        case ev.ToolEnd():
            state = event.tool_call
            return "result", f"{state.name} {state.status}: {shorten(state.output or state.error)}"
        case ev.ApprovalRequired():
            asked = "\n".join(f"{call(approval.tool_call)} [{approval.id}]" for approval in event.approvals)
            return "question", asked
        case ev.ApprovalDecided():
            note = f": {event.note}" if event.note else ""
            changed = f"; arguments {shorten(as_json(event.arguments))}" if event.arguments is not None else ""
            answer = f"; answer {shorten(event.answer)}" if event.answer is not None else ""
            return "decided", f"{event.decision} by {event.by} [{event.approval_id}]{note}{changed}{answer}"
        case ev.DelegateStart():
            return "asks", f"{event.agent} ({event.child_run_id}): {shorten(event.message)}"
        case ev.DelegateEnd():
            return "answered", f"{event.agent} ({event.child_run_id}) {event.status}"
    return "event", type(event).__name__


def printable(text: str) -> str:
    """`text` without what commands a terminal or turns its order around: models and tools wrote it, not the person."""
    return text.translate(_HIDDEN)
