"""`kadre test`: whether agents still do what they did when their runs were recorded."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from kadre.cli.options import Format, NoColor, Output, examples

if TYPE_CHECKING:
    from kadre.local.testing import Tester

Cases = Annotated[
    list[Path],
    typer.Argument(metavar="CASE", show_default=False, help="Files of cases, and folders with *.kadre.yaml in them."),
]
Files = Annotated[
    list[str] | None,
    typer.Option(
        "--file",
        "-f",
        metavar="PATH",
        show_default=False,
        help="Files and folders that declare the agents. Repeatable. [default: what the case names, else its folder]",
    ),
]
Model = Annotated[
    str,
    typer.Option(
        "--model",
        metavar="MODEL",
        show_default=False,
        help="The model that the case was recorded with, as for kadre up.",
    ),
]
Update = Annotated[bool, typer.Option("--update", help="Write how the agents behave now into the cases.")]


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command(
        "test",
        epilog=examples(
            "kadre test refund.kadre.yaml",
            "kadre test cases/ -f agents/",
            "kadre test cases/ --update      # the change is wanted: read the diff of the cases",
        ),
    )(play)


def play(
    files: Cases,
    manifests: Files = None,
    model: Model = "",
    update: Update = False,
    output: Output = None,
    no_color: NoColor = False,
) -> None:
    """Play recorded cases against the agents as their files declare them now, with no model and no network.

    What the model and the tools answered is said again; what differs is told: the prompt, the tools that are offered,
    earlier messages, calls and their outcomes, what people are asked, the end. Ends with 1 when something does.
    """
    import sys

    from kadre.cli import output as out
    from kadre.local import testing
    from kadre.local.console import Console
    from kadre.local.settings import UpSettings

    tester = testing.Tester(tuple(manifests or ()), UpSettings(model=model).override())
    found = testing.found(files)
    if update:
        outcomes = {file: _updated(tester, file) for file in found}
        for file, outcome in outcomes.items():
            out.show(f"{file}: {outcome or 'as it was'}")
        raise typer.Exit(1 if any(outcome.startswith(UNWRITTEN) for outcome in outcomes.values()) else 0)
    verdicts = [tester.test(file) for file in found]
    if output is not None:
        out.show(out.document(testing.plain(verdicts), Format(output)))
    else:
        out.show(testing.told(verdicts, Console(color=not no_color, stream=sys.stdout)))
    raise typer.Exit(0 if all(verdict.passed for verdict in verdicts) else 1)


UNWRITTEN = "not written: "


def _updated(tester: Tester, file: Path) -> str:
    """What became of a case: empty where it stays as it was."""
    from kadre.base.errors import KadreError

    try:
        return "written" if tester.update(file) else ""
    except (KadreError, OSError) as error:  # the others are written all the same
        return f"{UNWRITTEN}{error}"
