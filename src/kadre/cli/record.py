"""`kadre record`: a run, as a case for `kadre test`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from kadre.cli.options import Server, examples


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command(
        epilog=examples(
            "kadre record run-1 > refund.kadre.yaml",
            "kadre record run-1 --server https://kagent.example.com",
            "kadre record run-1 --data-dir .kadre        # of a kadre up that is not running",
        )
    )(record)


def record(
    run: Annotated[str, typer.Argument(metavar="RUN", help="The run, which has ended.")],
    name: Annotated[
        str, typer.Option("--name", metavar="NAME", show_default=False, help="Of the case. [default: the run]")
    ] = "",
    data_dir: Annotated[
        Path | None,
        typer.Option("--data-dir", metavar="DIR", show_default=False, help="Where conversations are kept."),
    ] = None,
    server: Server = "",
) -> None:
    """Print a run as a case: what was said, what the model and the tools answered, what people allowed.

    `kadre test` plays it with no model and no network, and tells what an agent does otherwise by now. From a server
    the case has the agent's prompt and tools too, as they are when it is recorded; from a data folder it has not.
    """
    import asyncio

    from kadre.cli import output as out
    from kadre.cli.served import ServedRuns
    from kadre.engine.replay import recording
    from kadre.local import cases, kept
    from kadre.local.console import Console

    runs = kept.KeptRuns(data_dir) if data_dir is not None else ServedRuns(server)
    case = asyncio.run(recording.record(runs, run, name))
    out.show(cases.text(case).rstrip("\n"))
    unknown = [what for what, known in (("prompt", case.prompt), ("tools", case.tools)) if known is None]
    if unknown:
        Console().warn(f"the agent's {' and '.join(unknown)} cannot be known here, and will not be compared")
