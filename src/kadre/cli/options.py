"""What several commands take, spelt once."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

import typer


class Format(StrEnum):
    """Forms that programs read."""

    JSON = "json"
    YAML = "yaml"


Server = Annotated[
    str,
    typer.Option(
        "--server",
        metavar="URL",
        show_default=False,
        help="Where `kadre up` answers. [default: KADRE_SERVER, else http://127.0.0.1:8080]",
    ),
]
# Not by typer's own `envvar`: a flag that `kadre runs` hands down to its commands must win over the variable.

Output = Annotated[
    Format | None,
    typer.Option("--output", "-o", metavar="json|yaml", show_default=False, help="Print it in a form programs read."),
]

NoColor = Annotated[
    bool, typer.Option("--no-color", help="No colours. So do NO_COLOR, and an output that is no terminal.")
]


def examples(*lines: str) -> str:
    """An epilog of example lines, kept as they are."""
    return "\b\nExamples:\n" + "\n".join(f"  {line}" for line in lines)
