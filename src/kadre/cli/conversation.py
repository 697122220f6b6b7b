"""One conversation with an agent: a message at a time, questions asked while the answer is under way.

What happens to the run is decided by the server; this only carries what the person says, decides and interrupts.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from typing import Literal, Protocol

from kadre.base.errors import KadreError
from kadre.base.ids import new_id
from kadre.cli import client, interrupts, render
from kadre.engine import events as ev
from kadre.local.console import Console

LEAVE = frozenset({"/exit", "/quit"})
YES = frozenset({"y", "yes"})
NO = frozenset({"n", "no"})


class Read(Protocol):
    """Asks the person for a line. Raises EOFError where nobody is there any more."""

    def __call__(self, prompt: str, /) -> str: ...


class Conversation:
    """Talks to one agent in one session. `read` is None where nobody can be asked."""

    def __init__(
        self, server: client.Client, agent: str, session: str, screen: render.Screen, read: Read | None
    ) -> None:
        self.session = session or new_id("ses")
        self.begun = False
        """Whether anything was said and heard: the session exists then."""
        self._server = server
        self._agent = agent
        self._screen = screen
        self._read = read

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
            answer = None if self._read is None else (_reply if asks else _answer)(self._read)
            if answer is None:
                ways = f"approvals answer {approval.id} TEXT" if asks else f"runs approve {run_id} [--deny]"
                self._screen.note(f"the run waits for {'an answer' if asks else 'a decision'}: kadre {ways}")
                return False
            decision, said = answer
            note, reply = ("", said) if asks and decision == "allow" else (said, None)
            try:
                self._server.decide(run_id, approval.id, decision, note, reply)
            except client.Answered as error:  # somebody else was faster, or the time was up
                self._screen.note(str(error))
        return True


def _answer(read: Read) -> tuple[Literal["allow", "deny"], str] | None:
    """The person's decision and why; None where they are gone."""
    while True:
        try:
            answer = read("Allow this call? [y]es, [n]o, or why not: ").strip()
        except EOFError:
            return None
        if answer.lower() in YES:
            return "allow", ""
        if answer:
            return "deny", "" if answer.lower() in NO else answer


def _reply(read: Read) -> tuple[Literal["allow", "deny"], str] | None:
    """The person's answer, or that there is none; None where they are gone."""
    try:
        answer = read("Your answer (nothing: none): ").strip()
    except EOFError:
        return None
    return ("allow", answer) if answer else ("deny", "")


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
