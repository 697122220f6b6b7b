"""What several commands take, spelt once."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from enum import StrEnum
from typing import Annotated, Any

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


Port = Annotated[int, typer.Option("--port", metavar="PORT", min=1, max=65535, help="Port to serve on.")]
Address = Annotated[str, typer.Option("--host", metavar="ADDRESS", help="Address to listen on.")]
MetricsPort = Annotated[
    int, typer.Option("--metrics-port", metavar="PORT", min=0, max=65535, help="Port of metrics besides; 0: none.")
]
GrpcPort = Annotated[
    int, typer.Option("--grpc-port", metavar="PORT", min=0, max=65535, help="Port of A2A over gRPC besides; 0: none.")
]
"""Of what serves in a pod: an agent's host, and the gateway."""


def examples(*lines: str) -> str:
    """An epilog of example lines, kept as they are."""
    return "\b\nExamples:\n" + "\n".join(f"  {line}" for line in lines)


def grouped(*groups: Callable[..., Any]) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Have a command take the flags of several functions, and call it with what each of them makes of its own."""
    signatures = [inspect.signature(group, eval_str=True) for group in groups]
    parameters = [parameter for signature in signatures for parameter in signature.parameters.values()]

    def wrap(command: Callable[..., None]) -> Callable[..., None]:
        @functools.wraps(command)
        def run(**flags: Any) -> None:
            mine = [{name: flags[name] for name in signature.parameters} for signature in signatures]
            command(*[group(**values) for group, values in zip(groups, mine, strict=True)])

        # What typer reads flags from: the groups' parameters in the place of the command's own.
        del vars(run)["__wrapped__"]
        vars(run)["__signature__"] = inspect.Signature(parameters)
        run.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
        return run

    return wrap
