"""`kadre runs`: what agents did and do; look at a run, follow it, end it, decide what it asks."""

from __future__ import annotations

from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from kadre.cli.options import Format, Output, Server, examples


class RunGroup(TyperGroup):
    """A word that is no command is a run: `kadre runs ID` is `kadre runs show ID`."""

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """See TyperGroup."""
        return super().resolve_command(ctx, args if args[0] in self.commands else ["show", *args])


app = typer.Typer(
    name="runs",
    cls=RunGroup,
    invoke_without_command=True,
    subcommand_metavar="[ID | COMMAND [ARGS]...]",
    rich_markup_mode=None,
    epilog=examples(
        "kadre runs                             # the latest runs",
        "kadre runs --agent assistant --status waiting",
        "kadre runs run-1 --follow              # one run's events, as they come",
        "kadre runs cancel run-1",
        'kadre runs approve run-1 --deny --note "not on a Friday"',
    ),
)


def register(root: typer.Typer) -> None:
    """Add the command and those below it."""
    root.add_typer(app)


@app.callback()
def runs(
    ctx: typer.Context,
    agent: Annotated[str, typer.Option("--agent", metavar="AGENT", show_default=False, help="Only its runs.")] = "",
    session: Annotated[
        str, typer.Option("--session", metavar="ID", show_default=False, help="Only runs of this conversation.")
    ] = "",
    status: Annotated[
        str,
        typer.Option(
            "--status", metavar="STATUS", show_default=False, help="Only queued, running, waiting, completed, … runs."
        ),
    ] = "",
    limit: Annotated[int, typer.Option("--limit", metavar="N", min=1, max=1000, help="At most so many.")] = 100,
    output: Output = None,
    server: Server = "",
) -> None:
    """List runs, the latest first; with an ID, show that run's events."""
    if ctx.invoked_subcommand is not None:
        given = {"output": output, "server": server or None}
        ctx.default_map = dict.fromkeys(("show", "cancel", "approve"), given)
        return
    from kadre.cli import client, listing

    found = client.Client(server).get("/runs", agent=agent, session_id=session, status=status, limit=limit)
    listing.RUNS.show(found["runs"], output.value if output else "")


@app.command()
def show(
    run: Annotated[str, typer.Argument(metavar="ID", help="The run.")],
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on with events as they come.")] = False,
    output: Output = None,
    server: Server = "",
) -> None:
    """Show a run's events, as does `kadre runs ID`.

    With --follow it ends when the run does, with 1 when the run failed; `-o json` prints one event a line then.
    """
    from kadre.cli import client, interrupts, listing, render
    from kadre.cli import output as out
    from kadre.engine import events as ev

    if follow and output is Format.YAML:
        raise typer.BadParameter("events that are followed are printed as they are, or as json", param_hint="--output")
    kadre = client.Client(server)
    told = kadre.get(f"/runs/{run}")
    if output is not None and not follow:
        out.show(out.document(told, output))
        return
    if output is None:
        out.show(f"{run} of {told['agent']}, session {told['session_id']}: {told['status']}")
    with interrupts.heeded():
        for event in kadre.follow(run) if follow else ev.known(told["events"]):
            if not isinstance(event, ev.Token):
                out.show(ev.encode(event).decode() if output else render.record(event))
            if follow and isinstance(event, ev.RunFinished):
                raise typer.Exit(0 if event.status == "completed" else 1)
    if told["approvals"]:
        asks = all(each.get("kind") == "question" for each in told["approvals"])
        way = "kadre approvals answer ID TEXT" if asks else f"kadre runs approve {run} [--deny]"
        out.show(f"waits for you: {way}\n{listing.approvals(told)}")


@app.command()
def cancel(run: Annotated[str, typer.Argument(metavar="ID", help="The run.")], server: Server = "") -> None:
    """End a run. One that has ended stays as it is."""
    from kadre.cli import client
    from kadre.cli import output as out

    out.show(f"{run} {client.Client(server).post(f'/runs/{run}/cancel')['status']}")


@app.command()
def approve(
    run: Annotated[str, typer.Argument(metavar="ID", help="The run that waits.")],
    deny: Annotated[bool, typer.Option("--deny", help="Deny the call instead.")] = False,
    approval: Annotated[
        str, typer.Option("--approval", metavar="A", show_default=False, help="Which call, where several wait.")
    ] = "",
    note: Annotated[
        str, typer.Option("--note", metavar="TEXT", show_default=False, help="Why; the model reads it.")
    ] = "",
    server: Server = "",
) -> None:
    """Allow a call that a run waits with, or deny it."""
    from kadre.base.errors import KadreError
    from kadre.cli import client, listing
    from kadre.cli import output as out

    kadre = client.Client(server)
    told = kadre.get(f"/runs/{run}")
    waiting = told["approvals"]
    if not waiting:
        raise KadreError(f"{run} waits for no decision; it is {told['status']}")
    if not approval and len(waiting) > 1:
        raise KadreError(f"several calls wait; say which with --approval:\n{listing.approvals(told)}")
    approval = approval or waiting[0]["id"]
    kadre.decide(run, approval, "deny" if deny else "allow", {"note": note})
    out.show(f"{run} {approval} {'denied' if deny else 'allowed'}")
