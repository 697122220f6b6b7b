"""`kadre tools`: an MCP server, as it runs in a pod."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from kadre.cli.options import Address, Port, examples, grouped
from kadre.cli.output import log_to_output

Launch = Annotated[
    Path, typer.Option("--launch", metavar="FILE", help="What is run, as the controller writes it.", show_default=False)
]
Source = Annotated[
    Path | None,
    typer.Option("--source", metavar="FILE", help="The functions to serve, where --launch does not have them."),
]
Env = Annotated[
    list[str] | None,
    typer.Option(
        "--env",
        metavar="NAME",
        show_default=False,
        help="A variable of this process that what it runs gets. Repeatable.",
    ),
]
Install = Annotated[
    bool, typer.Option("--install", help="Install the package and end; the last words are its version.")
]


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command(epilog=examples("kadre tools --launch /etc/kadre/launch.json --port 8000"))(tools)


def _served(
    launch: Launch,
    port: Port = 8000,
    address: Address = "0.0.0.0",  # noqa: S104 - a pod is reached from outside or not at all
    source: Source = None,
    env: Env = None,
) -> Any:
    from kadre.local import tool_server

    return tool_server.ToolServerSettings(launch=launch, source=source, env=tuple(env or ()), host=address, port=port)


def _once(install: Install = False) -> Any:
    return install


@grouped(_served, _once)
def tools(settings: Any, once: Any) -> None:
    """Serve a package's or an author's tools at /mcp, as the pods of a cluster do.

    What it runs is a process of its own, which is started again where it ends.
    """
    from kadre.local import tool_server

    log_to_output()
    raise typer.Exit(tool_server.install(settings) if once else tool_server.run(settings))
