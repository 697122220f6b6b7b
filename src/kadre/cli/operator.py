"""`kadre operator`: the controller of a cluster."""

from __future__ import annotations

from typing import Annotated

import typer

from kadre.cli.options import examples
from kadre.cli.output import log_to_output

Image = Annotated[
    str, typer.Option("--agent-image", envvar="KADRE_AGENT_IMAGE", metavar="IMAGE", help="The image agents run in.")
]


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command(epilog=examples("kadre operator --agent-image registry.example/kadre:1.2"))(operator)


def operator(image: Image = "kadre:latest") -> None:
    """Run the controller: what people declare in the cluster becomes running agents.

    The cluster is the one it runs in, else that of the kubeconfig's current context.
    """
    import asyncio

    from kadre.operator import main
    from kadre.operator.children.common import Settings

    log_to_output()
    raise typer.Exit(asyncio.run(main.run(Settings(image=image))))
