"""`kadre up`: run the agents in a folder."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from kadre.cli import STARTED
from kadre.cli.options import NoColor, examples, grouped

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


WebhookNetworks = Annotated[
    list[str] | None,
    typer.Option(
        "--webhook-network",
        envvar="KADRE_WEBHOOK_NETWORKS",
        metavar="CIDR",
        show_default=False,
        help="Where a run's webhooks may be besides public addresses, as in 10.1.0.0/16. Repeatable.",
    ),
]


GrpcPort = Annotated[
    int,
    typer.Option(
        "--grpc-port",
        envvar="KADRE_GRPC_PORT",
        metavar="PORT",
        min=0,
        max=65535,
        help="Port of A2A over gRPC besides; 0: none.",
    ),
]


UnsafeCode = Annotated[
    bool,
    typer.Option(
        "--unsafe-code",
        envvar="KADRE_UNSAFE_CODE",
        help="Run code that models write with your own rights where there is no bubblewrap.",
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


def _served(
    paths: Paths = None, port: Port = 8080, host: Host = "127.0.0.1", webhook_networks: WebhookNetworks = None
) -> Any:
    return {
        "paths": tuple(map(str, paths or [Path()])),
        "port": port,
        "host": host,
        "webhook_networks": tuple(part for given in webhook_networks or () for part in given.split(",")),
    }


def _run(
    data_dir: DataDir = "",
    model: Model = "",
    maps: Maps = None,
    grpc_port: GrpcPort = 0,
    unsafe_code: UnsafeCode = False,
    no_color: NoColor = False,
) -> Any:
    from kadre.local import settings

    return {
        "data_dir": data_dir,
        "model": model,
        "maps": tuple(settings.parse_map(part) for given in maps or () for part in given.split(",") if part.strip()),
        "grpc_port": grpc_port,
        "unsafe_code": unsafe_code,
        "color": not no_color,
    }


@grouped(_served, _run)
def up(served: Any, run: Any) -> None:
    """Run the agents that YAML files declare, until Ctrl-C.

    All of them are served on one port. A changed file is taken over at once; one that cannot be used is told and
    changes nothing. Ends with 1 when the files have errors or the port is taken.
    """
    from kadre.local import serve, settings

    told = settings.UpSettings(**served, **run, started=STARTED)
    told.override()  # what the command line gets wrong is told before anything slow is loaded

    serve.become(told)
