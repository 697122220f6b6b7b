"""`kadre manifests`: the controller's installation for clusters without Helm."""

from __future__ import annotations

from typing import Annotated

import typer

from kadre.cli.options import examples


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command(
        epilog=examples(
            "kadre crds | kubectl apply --server-side -f -",
            "kadre manifests --image registry.example/kadre:1.2 | kubectl apply -f -",
        )
    )(manifests)


def manifests(
    namespace: Annotated[
        str, typer.Option("--namespace", "-n", metavar="NAME", help="Where the controller is; the manifests make it.")
    ] = "kagent-system",
    image: Annotated[
        str, typer.Option("--image", metavar="IMAGE", help="The image of the controller and of agents.")
    ] = "kadre:latest",
) -> None:
    """Print the manifests that install the controller: its namespace, account, rights, Deployment and Service.

    They are the Helm chart's, without the admission webhook; the definitions of the kinds are `kadre crds`.
    """
    from kadre.cli import output
    from kadre.operator import installation

    output.show(installation.manifests(namespace, image).rstrip("\n"))
