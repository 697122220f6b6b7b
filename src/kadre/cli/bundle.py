"""`kadre bundle`: what the chart's agents are applied by."""

from __future__ import annotations

from typing import Annotated

import typer

from kadre.cli.options import examples


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command(epilog=examples("kadre bundle kagent/kagent-agents"))(bundle)


def bundle(
    config_map: Annotated[str, typer.Argument(metavar="NAMESPACE/NAME", help="The ConfigMap, each value of it YAML.")],
) -> None:
    """Apply the agents and other resources that a ConfigMap holds; they belong to it, and go with it.

    Those that it held before and no longer does are deleted. The Helm chart does this with its value `agents`.
    """
    import asyncio

    from kadre.base.errors import KadreError
    from kadre.cli import output
    from kadre.kube.kinds import Key
    from kadre.operator.bundle import apply_bundle

    namespace, slash, name = config_map.partition("/")
    if not (namespace and slash and name):
        raise KadreError(f"{config_map!r} names no ConfigMap: write it as NAMESPACE/NAME")
    for applied in asyncio.run(apply_bundle(Key(namespace, name))):
        output.show(f"{applied} is applied")
