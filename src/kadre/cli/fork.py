"""`kadre fork`: go on from an earlier point of a conversation, in a session of its own."""

from __future__ import annotations

from typing import Annotated

import typer

from kadre.cli.options import Output, Server, examples


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command(
        epilog=examples(
            "kadre fork run-1                       # with all that was said in the session up to this run's end",
            "kadre fork run-1 --at 7 --session try-2",
            "kadre chat assistant --session try-2   # and goes on from there",
        )
    )(fork)


def fork(
    run: Annotated[str, typer.Argument(metavar="RUN", help="The run, under way or ended.")],
    at: Annotated[
        int | None,
        typer.Option(
            "--at", metavar="SEQ", min=1, show_default=False, help="Its last event that counts. [default: all there is]"
        ),
    ] = None,
    session: Annotated[
        str, typer.Option("--session", metavar="ID", show_default=False, help="Of the new session. [default: made up]")
    ] = "",
    output: Output = None,
    server: Server = "",
) -> None:
    """Begin another session with what was said up to an event of a run; prints its id.

    The session that it is taken from stays as it is. `kadre runs RUN` numbers the events.
    """
    from kadre.cli import client
    from kadre.cli import output as out
    from kadre.local.console import Console

    body = {"session_id": session} if at is None else {"session_id": session, "at": at}
    made = client.Client(server).post(f"/runs/{run}/fork", body)
    if output is not None:
        out.show(out.document(made, output))
        return
    if made["forked"]["note"]:
        Console().warn(made["forked"]["note"])
    out.show(made["session_id"])
