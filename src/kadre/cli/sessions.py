"""`kadre sessions`: conversations; find one, name it, take it along, forget it."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

import typer

from kadre.cli.options import Output, Server, examples
from kadre.cli.runs import RunGroup

app = typer.Typer(
    name="sessions",
    cls=RunGroup,
    invoke_without_command=True,
    subcommand_metavar="[ID | COMMAND [ARGS]...]",
    rich_markup_mode=None,
    epilog=examples(
        "kadre sessions                             # the latest used",
        'kadre sessions --search "refund" --agent support',
        "kadre sessions ses-1                       # what was said in it",
        'kadre sessions rename ses-1 "The broken kettle"',
        "kadre sessions export ses-1 --format markdown > kettle.md",
        "kadre sessions fork ses-1                  # another one with all that was said",
        "kadre sessions delete ses-1",
    ),
)
Id = Annotated[str, typer.Argument(metavar="ID", help="The session.")]
Agent = Annotated[
    str,
    typer.Option(
        "--agent", metavar="AGENT", show_default=False, help="Whose it is, where two agents have one of that name."
    ),
]
INCOMPLETE = '"complete":false}\n'
"""How the JSON of a session ends of which the server has forgotten a part."""


class Form(StrEnum):
    """How a conversation is written down."""

    JSON = "json"
    MARKDOWN = "markdown"


def register(root: typer.Typer) -> None:
    """Add the command and those below it."""
    root.add_typer(app)


@app.callback()
def sessions(
    ctx: typer.Context,
    agent: Annotated[str, typer.Option("--agent", metavar="AGENT", show_default=False, help="Only its sessions.")] = "",
    search: Annotated[
        str, typer.Option("--search", metavar="TEXT", show_default=False, help="Only those in which that was said.")
    ] = "",
    limit: Annotated[int, typer.Option("--limit", metavar="N", min=1, max=1000, help="At most so many.")] = 100,
    output: Output = None,
    server: Server = "",
) -> None:
    """List sessions, the latest used first; with an ID, show what was said in it."""
    if ctx.invoked_subcommand is not None:
        given = {"output": output, "server": server or None, "agent": agent or None}
        ctx.default_map = dict.fromkeys(("show", "rename", "export", "fork", "delete"), given)
        return
    from kadre.cli import client, listing
    from kadre.local.console import Console

    found = client.Client(server).get("/sessions", agent=agent, q=search, limit=limit)
    listed = listing.FOUND if search else listing.SESSIONS
    listed.show(found["sessions"], output.value if output else "")
    if not found.get("complete", True):
        Console().warn("not all sessions were looked through: name the agent, or search for more of the text")


@app.command()
def show(session: Id, agent: Agent = "", output: Output = None, server: Server = "") -> None:
    """Show the latest that was said in a session, as does `kadre sessions ID`; `export` has all of it."""
    from kadre.cli import client, listing
    from kadre.local.console import Console

    told = client.Client(server).get(f"/sessions/{session}", agent=agent)
    listing.SESSIONS.show_one(told, output.value if output else "")
    if not told.get("complete", True):
        whose = f" --agent {agent}" if agent else ""
        Console().warn(f"this is the latest of it; all of it: kadre sessions export {session}{whose}")


@app.command()
def rename(
    session: Id,
    title: Annotated[str, typer.Argument(metavar="TITLE", help="What it is about; empty takes the title away.")],
    agent: Agent = "",
    server: Server = "",
) -> None:
    """Give a session a title."""
    from kadre.cli import client
    from kadre.cli import output as out

    told = client.Client(server).patch(f"/sessions/{session}", {"title": title}, agent=agent)
    out.show(f"{session} {told['title'] or 'has no title'}")


@app.command()
def export(
    session: Id,
    form: Annotated[Form, typer.Option("--format", metavar="json|markdown", help="In which form.")] = Form.JSON,
    agent: Agent = "",
    server: Server = "",
) -> None:
    """Print a session whole, from its beginning: what was said, calls and their results, and its runs."""
    import codecs

    from kadre.cli import client
    from kadre.local.console import Console

    # In pieces: a conversation may be larger than what this machine has room for.
    asked = {"format": "markdown"} if form is Form.MARKDOWN else {"whole": "true"}
    decoder, end = codecs.getincrementaldecoder("utf-8")(), ""
    for piece in client.Client(server).pieces(f"/sessions/{session}", agent=agent, **asked):
        text = decoder.decode(piece)
        typer.echo(text, nl=False)
        end = (end + text)[-len(INCOMPLETE) :]
    if end == INCOMPLETE:
        Console().warn("the server does not keep what was said in its first runs any more")


@app.command()
def fork(
    session: Id,
    to: Annotated[
        str, typer.Option("--session", metavar="ID", show_default=False, help="Of the new session. [default: made up]")
    ] = "",
    agent: Agent = "",
    output: Output = None,
    server: Server = "",
) -> None:
    """Begin another session with all that was said in this one; prints its id. See `kadre fork` for a part of it."""
    from kadre.cli import client
    from kadre.cli.fork import fork as fork_run

    told = client.Client(server).get(f"/sessions/{session}", agent=agent, limit=1)
    fork_run(told["runs"][0]["run_id"], None, to, output, server)


@app.command()
def delete(session: Id, agent: Agent = "", server: Server = "") -> None:
    """Forget a session and its runs. Not while one of them is under way."""
    from kadre.cli import client
    from kadre.cli import output as out

    client.Client(server).delete(f"/sessions/{session}", agent=agent)
    out.show(f"{session} deleted")
