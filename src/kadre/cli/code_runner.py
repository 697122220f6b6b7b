"""`kadre code-runner`: runs the code that models of a namespace write, as it runs in a pod."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from kadre.cli.options import Address, Port, examples, grouped
from kadre.cli.output import log_to_output

Namespace = Annotated[str, typer.Option("--namespace", metavar="NAME", help="Whose pods may have code run here.")]
Keys = Annotated[
    Path,
    typer.Option(
        "--keys",
        metavar="DIR",
        help="Where the cluster's keys are mounted, by which their tokens are known; read again as they change.",
    ),
]
Folder = Annotated[
    Path, typer.Option("--folder", metavar="DIR", help="Where each piece of code has a folder to write into.")
]
AtOnce = Annotated[int, typer.Option("--at-once", metavar="NUMBER", min=1, help="Pieces of code that run at once.")]
Waiting = Annotated[
    int, typer.Option("--waiting", metavar="NUMBER", min=0, help="Pieces of code that wait; no more are taken.")
]
WithoutLandlock = Annotated[
    bool,
    typer.Option(
        "--without-landlock",
        help="Serve also where the kernel has no Landlock: code can then read and write whatever this process may.",
    ),
]


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("code-runner", epilog=examples("kadre code-runner --namespace team --keys /etc/kadre --folder /work"))(
        code_runner
    )


def _served(
    namespace: Namespace,
    keys: Keys,
    folder: Folder,
    port: Port = 8080,
    address: Address = "0.0.0.0",  # noqa: S104 - see pool
) -> Any:
    return {"namespace": namespace, "keys": keys, "folder": folder, "host": address, "port": port}


def _bounds(at_once: AtOnce = 4, waiting: Waiting = 64, without_landlock: WithoutLandlock = False) -> Any:
    return {"at_once": at_once, "waiting": waiting, "unfenced": without_landlock}


@grouped(_served, _bounds)
def code_runner(served: Any, bounds: Any) -> None:
    """Run Python that models write, for the agents of a namespace, as the pods of a cluster do.

    Each piece is a process of its own, which the kernel keeps from the network, other processes, and every file but
    Python's libraries and a folder that goes with it. On SIGTERM it goes on taking code for a few seconds.
    """
    from kadre.local import code_server

    log_to_output()
    raise typer.Exit(code_server.run(code_server.RunnerSettings(**served, **bounds)))
