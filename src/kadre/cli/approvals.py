"""`kadre approvals`: what waits for a person, over all runs; look at it, allow it, change it, deny it, answer it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from kadre.cli.get import Form
from kadre.cli.options import Output, Server, examples

MOST = 1000
"""Approvals that are looked at: as many as a server tells at once."""


class ApprovalGroup(TyperGroup):
    """A word that is no command is an approval: `kadre approvals ID` is `kadre approvals show ID`."""

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """See TyperGroup."""
        return super().resolve_command(ctx, args if args[0] in self.commands else ["show", *args])


app = typer.Typer(
    name="approvals",
    cls=ApprovalGroup,
    invoke_without_command=True,
    subcommand_metavar="[ID | COMMAND [ARGS]...]",
    rich_markup_mode=None,
    epilog=examples(
        "kadre approvals                        # what waits, the oldest first",
        "kadre approvals -n team-a -o wide",
        "kadre approvals apr-1                  # the whole call",
        "kadre approvals allow apr-1",
        """kadre approvals allow apr-1 --arguments '{"priority": "low"}'""",
        "kadre approvals edit apr-1             # the arguments in $EDITOR, then allow",
        'kadre approvals deny apr-1 --note "not on a Friday"',
        'kadre approvals answer apr-1 "Room 12"',
    ),
)

Id = Annotated[str, typer.Argument(metavar="ID", help="The approval; or the run, where one call of it waits.")]
Note = Annotated[str, typer.Option("--note", metavar="TEXT", show_default=False, help="Why; the run's events tell it.")]


def register(root: typer.Typer) -> None:
    """Add the command and those below it."""
    root.add_typer(app)


@app.callback()
def approvals(
    ctx: typer.Context,
    agent: Annotated[str, typer.Option("--agent", metavar="AGENT", show_default=False, help="Only its calls.")] = "",
    namespace: Annotated[
        str, typer.Option("--namespace", "-n", metavar="NS", show_default=False, help="Only of agents of it.")
    ] = "",
    output: Annotated[
        Form | None,
        typer.Option(
            "--output", "-o", metavar="FORM", show_default=False, help="Print it as wide, name, json or yaml."
        ),
    ] = None,
    server: Server = "",
) -> None:
    """List the calls and questions that wait for a person; with an ID, show one."""
    if ctx.invoked_subcommand is not None:
        given = {"server": server or None}
        ctx.default_map = dict.fromkeys(("show", "allow", "deny", "edit", "answer"), given)
        return
    from kadre.cli import client, listing
    from kadre.local.console import Console

    told = client.Client(server).get("/approvals", agent=agent, limit=MOST)
    found = [item for item in told["approvals"] if namespace in {"", item["agent"].partition("/")[0]}]
    listing.APPROVALS.show(found, output.value if output else "")
    for missing in told.get("missing", ()):
        Console().warn(f"not asked: {missing}")


@app.command()
def show(approval: Id, output: Output = None, server: Server = "") -> None:
    """Show one of them, whole, as does `kadre approvals ID`."""
    from kadre.cli import client, listing
    from kadre.cli import output as out

    item = _found(client.Client(server), approval)
    out.show(out.document(dict(item), output) if output else listing.approval(item))


@app.command()
def allow(
    approval: Id,
    arguments: Annotated[
        str,
        typer.Option(
            "--arguments", metavar="JSON", show_default=False, help="Make the call with these arguments instead."
        ),
    ] = "",
    note: Note = "",
    server: Server = "",
) -> None:
    """Have the call made, as it is or with other arguments, which are checked against what the tool takes."""
    said: dict[str, Any] = {"note": note}
    if arguments:
        from kadre.cli import editing

        said["arguments"] = editing.arguments(arguments)
    _decide(approval, "allow", server, said)


@app.command()
def deny(approval: Id, note: Note = "", server: Server = "") -> None:
    """Refuse the call, or leave the question without an answer. The model reads the note."""
    _decide(approval, "deny", server, {"note": note})


@app.command()
def edit(approval: Id, note: Note = "", server: Server = "") -> None:
    """Change the call's arguments in an editor ($VISUAL, else $EDITOR), then allow it.

    Where the tool does not take them the editor is opened again, and says why. Where nothing is changed nothing is
    decided.
    """
    from kadre.cli import client, editing
    from kadre.cli import output as out

    item = _found(client.Client(server), approval)

    def allow(arguments: dict[str, Any]) -> None:
        _decide(item["id"], "allow", server, {"digest": item["digest"], "note": note, "arguments": arguments})

    undecided = editing.edit(item["tool_call"]["name"], item["tool_call"]["arguments"], allow)
    if undecided:
        out.show(f"{item['id']}: {undecided}")
        raise typer.Exit(0 if undecided == editing.UNCHANGED else 1)


@app.command()
def answer(
    approval: Id,
    text: Annotated[str, typer.Argument(metavar="TEXT", help="The answer, as the model reads it.")],
    server: Server = "",
) -> None:
    """Answer a question that a tool of type human asks."""
    _decide(approval, "allow", server, {"answer": text})


def _decide(approval: str, decision: str, server: str, said: Mapping[str, Any]) -> None:
    """Decide about the call as it is seen now, unless `said` has the digest of one that was seen before."""
    from kadre.cli import client
    from kadre.cli import output as out

    kadre = client.Client(server)
    item = _found(kadre, approval)
    body = {"approval_id": item["id"], "decision": decision, "digest": item["digest"], **said}
    kadre.post(f"/runs/{item['root_run_id']}/approve", body)
    told = "denied" if decision == "deny" else "answered" if "answer" in said else "allowed"
    out.show(f"{item['id']} {told}{' with other arguments' if 'arguments' in said else ''}")


def _found(kadre: Any, wanted: str) -> Mapping[str, Any]:
    from kadre.base.errors import KadreError

    listed = kadre.get("/approvals", limit=MOST)["approvals"]
    found = [item for item in listed if item["id"] == wanted]
    found = found or [item for item in listed if wanted in (item["run_id"], item["root_run_id"])]
    if not found:
        raise KadreError(f"nothing that waits is named {wanted!r}: see `kadre approvals`")
    if len(found) > 1:
        raise KadreError(f"several calls of {wanted} wait; name one: {', '.join(item['id'] for item in found)}")
    item: Mapping[str, Any] = found[0]
    return item
