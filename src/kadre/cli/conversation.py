"""One conversation with an agent: a message at a time, questions asked while the answer is under way.

What happens to the run is decided by the server; this only carries what the person says, decides and interrupts.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from typing import Any, Literal, Protocol

from kadre.base.errors import KadreError
from kadre.base.ids import new_id
from kadre.cli import client, editing, interrupts, render
from kadre.engine import events as ev
from kadre.local.console import Console

LEAVE = frozenset({"/exit", "/quit"})
YES = frozenset({"y", "yes"})
NO = frozenset({"n", "no"})
EDIT = frozenset({"e", "edit"})
"""In an editor; or with the arguments behind it."""


class Read(Protocol):
    """Asks the person for a line. Raises EOFError where nobody is there any more."""

    def __call__(self, prompt: str, /) -> str: ...


class Conversation:
    """Talks to one agent in one session. `read` is None where nobody can be asked."""

    def __init__(
        self,
        server: client.Client,
        agent: str,
        session: str,
        screen: render.Screen,
        read: Read | None,
        edit: editing.Edit = editing.in_editor,
    ) -> None:
        self.session = session or new_id("ses")
        self.begun = False
        """Whether anything was said and heard: the session exists then."""
        self._server = server
        self._agent = agent
        self._screen = screen
        self._read = read
        self._edit = edit

    def say(self, message: str) -> ev.RunStatus:
        """Say something and show what follows; how the run ended, or `waiting` where nobody can decide.

        Ctrl-C cancels the run; a second one is raised. Raises Unreachable, Answered, Lost.
        """
        run_id = new_id("run")
        with interrupts.heeded():
            return self._see_through(run_id, self._server.chat(self._agent, message, self.session, run_id))

    def _see_through(self, run_id: str, events: Iterator[ev.Event]) -> ev.RunStatus:
        position, cancelled = "", False
        while True:
            try:
                for event in events:
                    self.begun = True
                    position = client.event_id(event)
                    self._screen.show(event)
                    if isinstance(event, ev.ApprovalRequired) and not self._decide(run_id, event):
                        return "waiting"
                    if isinstance(event, ev.RunFinished):
                        return event.status
            except client.Lost as error:
                self._screen.end_line()
                raise client.Lost(f"{error}; if the run goes on, see it with: kadre runs {run_id} --follow") from error
            except KeyboardInterrupt:
                if cancelled:
                    raise
                cancelled = True
                self._screen.note("cancelling; Ctrl-C again leaves")
                self._server.post(f"/runs/{run_id}/cancel")
                # The interrupted read may have swallowed half an event: begin again after the last whole one.
                events = self._server.follow(run_id, position)

    def _decide(self, run_id: str, event: ev.ApprovalRequired) -> bool:
        """Have every call of the event decided; False where nobody can be asked."""
        for approval in event.approvals:
            self._screen.ask(approval)
            asks = approval.kind == "question"
            try:
                there = self._answered(run_id, approval) if asks else self._allowed(run_id, approval)
            except client.Answered as error:  # somebody else was faster, or the time was up
                self._screen.note(str(error))
                continue
            if not there:
                ways = f"approvals answer {approval.id} TEXT" if asks else f"runs approve {run_id} [--deny]"
                self._screen.note(f"the run waits for {'an answer' if asks else 'a decision'}: kadre {ways}")
                return False
        return True

    def _answered(self, run_id: str, approval: ev.Approval) -> bool:
        """Have a question answered, or left without an answer; False where nobody is there. Raises Answered."""
        text = None if self._read is None else _reply(self._read)
        if text is None:
            return False
        said = {"digest": approval.digest} | ({"answer": text} if text else {})
        self._server.decide(run_id, approval.id, "allow" if text else "deny", said)
        return True

    def _allowed(self, run_id: str, approval: ev.Approval) -> bool:
        """Have a call allowed, as it is or changed, or denied; False where nobody is there. Raises Answered."""

        def decide(decision: Literal["allow", "deny"], **said: Any) -> None:
            self._server.decide(run_id, approval.id, decision, {"digest": approval.digest, **said})

        while (answer := None if self._read is None else _answer(self._read)) is not None:
            word, _, rest = answer.partition(" ")
            try:
                if answer.lower() in YES:
                    decide("allow")
                elif answer.lower() in NO:
                    decide("deny")
                elif word.lower() in EDIT and rest.startswith("{"):
                    decide("allow", arguments=editing.arguments(rest))
                elif answer.lower() in EDIT:
                    call = approval.tool_call
                    if undecided := editing.edit(
                        call.name, call.arguments, lambda made: decide("allow", arguments=made), self._edit
                    ):
                        self._screen.note(undecided)
                        continue
                else:
                    decide("deny", note=answer)
            except (client.Unreachable, client.Lost):
                raise
            except KadreError as error:  # of what was typed: it is asked again
                if isinstance(error, client.Answered) and not editing.is_mendable(error):
                    raise
                self._screen.note(str(error))
            else:
                return True
        return False


def _answer(read: Read) -> str | None:
    """The person's decision, or why not; None where they are gone."""
    while True:
        try:
            if answer := read("Allow this call? [y]es, [n]o, [e]dit, or why not: ").strip():
                return answer
        except EOFError:
            return None


def _reply(read: Read) -> str | None:
    """The person's answer, empty where there is none; None where they are gone."""
    try:
        return read("Your answer (nothing: none): ").strip()
    except EOFError:
        return None


def talk(conversation: Conversation, read: Read, console: Console, remember: Callable[[str], None]) -> None:
    """Ask for messages and say them until the person leaves: /exit, Ctrl-D, or Ctrl-C twice."""
    leaving = False
    while True:
        try:
            message = read("you> ").strip()
        except EOFError:
            console.say()
            return
        except KeyboardInterrupt:
            console.say()
            if leaving:
                return
            leaving = True
            console.say(console.style("Ctrl-C again, or /exit, leaves", "dim"))
            continue
        if message in LEAVE:
            return
        if not message:
            continue
        remember(message)
        try:
            leaving = conversation.say(message) == "cancelled"
        except KadreError as error:
            console.say(f"{console.style('error', 'red')}: {error}")
        except KeyboardInterrupt:
            console.say()
            return


def read_line(prompt: str) -> str:
    """A line from the terminal; the prompt never ends up in a file that standard output was sent to."""
    with interrupts.heeded():
        if sys.stdout.isatty():
            return input(prompt)
        sys.stderr.write(prompt)
        sys.stderr.flush()
        return input()
