"""`kadre crds`: the CustomResourceDefinitions of every kind, for a cluster."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

import typer

from kadre.cli.options import examples


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command(
        epilog=examples(
            "kadre crds | kubectl apply --server-side -f -",
            "kadre crds Agent ModelConfig",
            "kadre crds --apply    # into the cluster of the current context",
        )
    )(crds)


def crds(
    kinds: Annotated[
        list[str] | None,
        typer.Argument(metavar="KIND", show_default=False, help="Only these, as in agents.kaos.tools."),
    ] = None,
    apply: Annotated[
        bool, typer.Option("--apply", help="Put them into the cluster, by server-side apply, instead of printing them.")
    ] = False,
    controller_in: Annotated[
        str,
        typer.Option(
            "--controller-in",
            metavar="NAMESPACE",
            show_default=False,
            help="With --apply: for the controller there, which is to be alone. Stop where one elsewhere is at work.",
        ),
    ] = "",
) -> None:
    """Print the CustomResourceDefinitions of all kinds, or put them into a cluster.

    One of the same name that somebody else has made is left alone, and named: two controllers must not share a kind.
    """
    from kadre.api import crd
    from kadre.base.errors import KadreError
    from kadre.base.problems import did_you_mean
    from kadre.cli import output

    definitions = {definition["metadata"]["name"]: definition for definition in crd.crds()}
    chosen = dict.fromkeys(definitions) if not kinds else {}
    for kind in kinds or ():
        found = [name for name, definition in definitions.items() if kind.lower() in _spellings(definition)]
        if not found:
            known = [definition["spec"]["names"]["kind"] for definition in definitions.values()]
            raise KadreError(f"there is no kind {kind!r}{did_you_mean(kind, known)}; see kadre crds | grep ' kind:'")
        chosen.update(dict.fromkeys(found))
    if not apply:
        output.show(crd.crd_yaml(definitions[name] for name in chosen).rstrip("\n"))
        return
    import asyncio

    from kadre.operator import install

    for name in asyncio.run(install.apply_crds([definitions[name] for name in chosen], sole=controller_in)):
        output.show(f"customresourcedefinition/{name} is served")


def _spellings(definition: Mapping[str, Any]) -> set[str]:
    """How a person may name the kind: as kubectl would take it."""
    names = definition["spec"]["names"]
    return {names["singular"], names["plural"], definition["metadata"]["name"], *names.get("shortNames", ())}
