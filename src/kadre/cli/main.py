"""The entry point of the `kadre` command.

Only the module of the command that was asked for is loaded: `kadre up` must answer within a second of being started.

Exit codes of every command: 0 it went well; 1 something is wrong with what was asked or written; 2 the command line
itself is wrong; 130 it was ended by Ctrl-C.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterable, Sequence
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from kadre.base.errors import KadreError, ProblemError
from kadre.cli.options import examples
from kadre.local.console import Console

COMMANDS = (
    "up",
    "validate",
    "get",
    "chat",
    "ingest",
    "runs",
    "sessions",
    "memories",
    "fork",
    "approvals",
    "record",
    "test",
    "crds",
    "manifests",
    "bundle",
    "operator",
    "gateway",
    "host",
    "pool",
    "code-runner",
    "tools",
    "version",
)
"""Each is a module of this package, `_` for `-`, with a function `register`, in the order of the help."""


class Root(TyperGroup):
    """Lists commands in our order; typer would put those that have commands of their own last."""

    def list_commands(self, ctx: Any) -> list[str]:  # noqa: ARG002 - the signature is typer's
        """See TyperGroup."""
        return [name for name in COMMANDS if name in self.commands]


def _version(wanted: bool) -> None:
    if wanted:
        from kadre.cli import version

        version.version()
        raise typer.Exit


def build(names: Iterable[str] = COMMANDS) -> typer.Typer:
    """The command with the sub-commands of those names."""
    # No markup: plain help needs no further library, and reads the same in a terminal, a log and the reference page.
    app = typer.Typer(
        name="kadre", cls=Root, no_args_is_help=True, rich_markup_mode=None, pretty_exceptions_enable=False
    )
    app.callback(
        epilog=examples(
            "kadre up examples/quickstart    # serve it",
            "kadre chat assistant            # talk to it, in another terminal",
            "kadre up --help                 # more of a command, with examples",
        )
    )(kadre)
    for name in names:
        importlib.import_module(f"kadre.cli.{name.replace('-', '_')}").register(app)
    return app


def kadre(
    version: Annotated[
        bool, typer.Option("--version", is_eager=True, callback=_version, help="Print which Kadre this is.")
    ] = False,
) -> None:
    """Run AI agents declared as Kubernetes resources: the same YAML on a laptop and on a cluster.

    Exit codes: 0 it went well, 1 something is wrong with what was asked or written, 2 the command line is wrong.
    """


def _as_switch(word: str) -> str:
    """`--flag=true` and `--flag=false`, as controllers' manifests have them, in our command line's way."""
    name, equals, value = word.partition("=")
    if not (equals and name.startswith("--") and value in ("true", "false")):
        return word
    return name if value == "true" else f"--no-{name.removeprefix('--')}"


def main(argv: Sequence[str] | None = None) -> None:
    """Run the command line and exit. `argv`: its words without the program's name; None: the process's own."""
    words = list(sys.argv[1:] if argv is None else argv)
    asked = next((word for word in words if not word.startswith("-")), "")
    if asked == "operator":
        words = [_as_switch(word) for word in words]
    app = build([asked] if asked in COMMANDS else COMMANDS)
    console = Console(color="--no-color" not in words)
    try:
        app(words, prog_name="kadre")
    except ProblemError as error:
        console.problems(error.problems)
    except KadreError as error:
        console.say(f"{console.style('error', 'red')}: {error}")
    sys.exit(1)
