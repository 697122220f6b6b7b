"""`kadre chat`: talk to an agent, see what it does, decide what it may do."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from kadre.cli.options import NoColor, Server, examples


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command(
        epilog=examples(
            "kadre chat assistant                              # talk; /exit or Ctrl-D leaves",
            'kadre chat assistant "Please repeat: hello"       # one message, one answer',
            "git diff | kadre chat reviewer > review.md        # the answer alone goes to the file",
            "kadre chat team-a/assistant --session ses-1       # go on with a conversation",
        )
    )(chat)


def chat(
    agent: Annotated[str, typer.Argument(metavar="AGENT", help="Its name, or NAMESPACE/NAME.")],
    message: Annotated[
        str, typer.Argument(metavar="MESSAGE", show_default=False, help="What to say; without it, talk.")
    ] = "",
    session: Annotated[
        str, typer.Option("--session", metavar="ID", show_default=False, help="The conversation to go on with.")
    ] = "",
    server: Server = "",
    no_color: NoColor = False,
) -> None:
    """Talk to an agent that runs under `kadre up`, or on a cluster: `--server` is then the gateway's address.

    The answer streams to standard output; tool calls, notices and questions go to standard error. Where a call
    needs your approval you are shown the whole call and asked; you can change it before you allow it. Ctrl-C cancels
    the answer that is being written, a second one leaves. Ends with 1 when the run failed.
    """
    from kadre.cli import client, conversation, history, render
    from kadre.local.console import Console

    person = sys.stdin.isatty()
    if not message and not person:
        message = sys.stdin.read()
        if not message.strip():
            raise typer.BadParameter("standard input holds no message", param_hint="MESSAGE")
    console = Console(color=not no_color)
    server_client = client.Client(server)
    read = conversation.read_line if person else None
    talk = conversation.Conversation(server_client, agent, session, render.Screen(console), read)
    status = "completed"
    if message:
        status = talk.say(message)
    else:
        about = server_client.get(f"/agents/{agent}")
        console.say(f"{about['name']} ({about['model']}) listens. Ctrl-C cancels an answer, /exit leaves.")
        with history.remembered() as remember:
            conversation.talk(talk, conversation.read_line, console, remember)
    if talk.begun:
        there = f" --server {server}" if server else ""
        console.say(console.style(f"to go on: kadre chat {agent} --session {talk.session}{there}", "dim"))
    raise typer.Exit(0 if status == "completed" else 1)
