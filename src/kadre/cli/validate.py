"""`kadre validate`: everything that is wrong with files, at once."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from kadre.cli.options import NoColor, Output, examples


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command(
        epilog=examples(
            "kadre validate agents/",
            "kubectl get agents,modelconfigs -o yaml | kadre validate -",
            "kadre validate agents/ -o json",
        )
    )(validate)


def validate(
    paths: Annotated[
        list[Path],
        typer.Argument(
            metavar="PATH", show_default=False, help="Files and folders of YAML or JSON; - is standard input."
        ),
    ],
    output: Output = None,
    no_color: NoColor = False,
) -> None:
    """Print everything that is wrong with files, at once.

    Every object is checked, and everything it refers to; each problem comes with its place and a fix. Ends with 1
    when there is an error; warnings alone end with 0.
    """
    import sys

    from kadre.cli import findings
    from kadre.cli import output as out
    from kadre.local.console import Console

    found = findings.find(tuple(map(str, paths)))
    if output is not None:
        out.show(out.document(found.plain(), output))
    else:
        out.show(found.text(Console(color=not no_color, stream=sys.stdout)))
    raise typer.Exit(0 if found.valid else 1)
