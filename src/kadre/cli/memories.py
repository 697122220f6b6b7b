"""`kadre memories`: what an agent remembers of you, and how to have it forget."""

from __future__ import annotations

from typing import Annotated

import typer

from kadre.cli.options import Output, Server, examples

Agent = Annotated[str, typer.Argument(metavar="AGENT", help="The agent, as NAME or NAMESPACE/NAME.")]


def register(app: typer.Typer) -> None:
    """Add the commands."""
    group = typer.Typer(no_args_is_help=True, help="What an agent remembers of you across sessions.")
    group.command("list", epilog=examples("kadre memories list support", "kadre memories list support -o yaml"))(show)
    group.command(
        "forget", epilog=examples("kadre memories forget support mem-1c9f", "kadre memories forget support --all")
    )(forget)
    app.add_typer(group, name="memories")


def show(agent: Agent, output: Output = None, server: Server = "") -> None:
    """List what it remembers of you, the latest first."""
    from kadre.cli import client, listing

    told = client.Client(server).get(f"/agents/{agent}/memories")
    listing.MEMORIES.show(told["memories"], output.value if output else "")


def forget(
    agent: Agent,
    memory: Annotated[str, typer.Argument(metavar="[ID]", show_default=False, help="Which one.")] = "",
    everything: Annotated[bool, typer.Option("--all", help="All that it remembers of you.")] = False,
    server: Server = "",
) -> None:
    """Have it forget one thing, or all it remembers of you. What was said in sessions stays there."""
    from kadre.cli import client

    if bool(memory) == everything:
        raise typer.BadParameter("give the ID of one memory (kadre memories list), or --all")
    path = f"/agents/{agent}/memories"
    client.Client(server).delete(path if everything else f"{path}/{memory}")
