"""`kadre up`: run the agents in a folder."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from kadre.cli import STARTED
from kadre.cli.options import NoColor, examples

Paths = Annotated[
    list[Path] | None,
    typer.Argument(
        metavar="PATH",
        envvar="KADRE_PATH",
        show_default=False,
        help="Files and folders of YAML or JSON; - is standard input. [default: the folder you are in]",
    ),
]
Port = Annotated[
    int, typer.Option("--port", envvar="KADRE_PORT", metavar="PORT", min=1, max=65535, help="Port to serve on.")
]
Host = Annotated[str, typer.Option("--host", envvar="KADRE_HOST", metavar="ADDRESS", help="Address to listen on.")]
DataDir = Annotated[
    str,
    typer.Option(
        "--data-dir",
        envvar="KADRE_DATA_DIR",
        metavar="DIR",
        show_default=False,
        help="Where conversations are kept. [default: .kadre beside the first PATH]",
    ),
]
Model = Annotated[
    str,
    typer.Option(
        "--model",
        envvar="KADRE_MODEL",
        metavar="MODEL",
        show_default=False,
        help="Put scripted, scripted:RULES.yaml or local in place of every agent's model.",
    ),
]
Maps = Annotated[
    list[str] | None,
    typer.Option(
        "--map",
        envvar="KADRE_MAP",
        metavar="HOST:PORT=HOST:PORT",
        show_default=False,
        help="Send what is meant for the first address to the second; several, or one list with commas.",
    ),
]


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command(
        epilog=examples(
            "kadre up examples/quickstart",
            "kadre up agents/ shared/models.yaml --port 8000",
            "kadre up agents/ --model scripted          # no model needed: a script answers",
            "kadre up . --map redis.data.svc:6379=localhost:6379",
            "kustomize build | kadre up -",
        )
    )(up)


def up(
    paths: Paths = None,
    port: Port = 8080,
    host: Host = "127.0.0.1",
    data_dir: DataDir = "",
    model: Model = "",
    maps: Maps = None,
    no_color: NoColor = False,
) -> None:
    """Run the agents that YAML files declare, until Ctrl-C.

    All of them are served on one port. A changed file is taken over at once; one that cannot be used is told and
    changes nothing. Ends with 1 when the files have errors or the port is taken.
    """
    from kadre.local import serve, settings

    told = settings.UpSettings(
        paths=tuple(map(str, paths or [Path()])),
        host=host,
        port=port,
        data_dir=data_dir,
        model=model,
        maps=tuple(settings.parse_map(part) for given in maps or () for part in given.split(",") if part.strip()),
        color=not no_color,
        started=STARTED,
    )
    told.override()  # what the command line gets wrong is told before anything slow is loaded

    serve.become(told)
