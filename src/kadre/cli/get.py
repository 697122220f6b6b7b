"""`kadre get`: what a running `kadre up` serves and keeps, in the manner of kubectl."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

import typer

from kadre.cli.options import Server, examples


class Form(StrEnum):
    """What `-o` takes."""

    WIDE = "wide"
    NAME = "name"
    JSON = "json"
    YAML = "yaml"


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command(
        epilog=examples(
            "kadre get                           # agents",
            "kadre get agents -n team-a -o wide",
            "kadre get agent assistant -o yaml",
            "kadre get sessions",
        )
    )(get)


def get(
    kind: Annotated[str, typer.Argument(metavar="KIND", help="agents, runs or sessions.")] = "agents",
    name: Annotated[str, typer.Argument(metavar="NAME", show_default=False, help="One of them; all without it.")] = "",
    output: Annotated[
        Form | None,
        typer.Option(
            "--output", "-o", metavar="FORM", show_default=False, help="Print it as wide, name, json or yaml."
        ),
    ] = None,
    namespace: Annotated[
        str, typer.Option("--namespace", "-n", metavar="NS", show_default=False, help="Only agents of it.")
    ] = "",
    server: Server = "",
) -> None:
    """List agents, runs or sessions of a running `kadre up`."""
    from kadre.base.errors import KadreError
    from kadre.base.problems import did_you_mean
    from kadre.cli import client, listing

    word, _, group = kind.partition(".")
    chosen = listing.named(word)
    if chosen is None:
        plurals = [each.plural for each in listing.LISTINGS]
        raise KadreError(f"kadre up does not list {kind!r}{did_you_mean(word, plurals)}; it lists {', '.join(plurals)}")
    form = output.value if output else ""
    kadre = client.Client(server)
    if chosen is not listing.AGENTS:
        if namespace or group:
            raise KadreError(f"{chosen.plural} have no namespace and no API group")
        path = f"/{chosen.plural}"
        if name:
            chosen.show_one(kadre.get(f"{path}/{name}"), form)
        else:
            chosen.show(kadre.get(path)[chosen.plural], form)
        return
    agents = [
        agent
        for agent in kadre.get("/agents")["agents"]
        if namespace in {"", agent["namespace"]} and group in {"", agent["group"]}
    ]
    found = [agent for agent in agents if name in {"", agent["name"]}]
    if name and not found:
        raise KadreError(f"there is no agent {name!r}{did_you_mean(name, [agent['name'] for agent in agents])}")
    if name and len(found) == 1:
        chosen.show_one(found[0], form)
    else:
        chosen.show(found, form)
