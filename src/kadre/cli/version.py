"""`kadre version`."""

from __future__ import annotations

import typer


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(version)


def version() -> None:
    """Print which Kadre, Python and system this is."""
    import platform

    import kadre

    typer.echo(f"kadre {kadre.__version__} (Python {platform.python_version()}, {platform.system()})")
