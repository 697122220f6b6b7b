"""`kadre operator`: the controller of a cluster."""

from __future__ import annotations

from typing import Annotated

import typer

from kadre.cli.options import examples
from kadre.cli.output import log_to_output

Elect = Annotated[
    bool,
    typer.Option("--leader-elect/--no-leader-elect", help="Of several replicas let one act, and the others stand by."),
]
Metrics = Annotated[
    str, typer.Option("--metrics-bind-address", metavar="ADDRESS", help="Where metrics are served; 0: nowhere.")
]
Health = Annotated[
    str,
    typer.Option(
        "--health-probe-bind-address", metavar="ADDRESS", help="Where /healthz and /readyz answer; 0: nowhere."
    ),
]
Image = Annotated[
    str, typer.Option("--agent-image", envvar="KADRE_AGENT_IMAGE", metavar="IMAGE", help="The image agents run in.")
]
PullPolicy = Annotated[
    str,
    typer.Option("--agent-pull-policy", envvar="KADRE_AGENT_PULL_POLICY", metavar="POLICY", help="When it is pulled."),
]


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command(
        epilog=examples(
            "kadre operator --agent-image registry.example/kadre:1.2",
            "kadre operator --leader-elect --metrics-bind-address :8080 --health-probe-bind-address :8081",
        )
    )(operator)


def operator(
    leader_elect: Elect = False,
    metrics: Metrics = ":8080",
    health: Health = ":8081",
    image: Image = "kadre:latest",
    pull_policy: PullPolicy = "IfNotPresent",
) -> None:
    """Run the controller: what people declare in the cluster becomes running agents.

    The cluster is the one it runs in, else that of the kubeconfig's current context.
    """
    import asyncio

    import uvloop

    from kadre.operator import main
    from kadre.operator.children.common import Settings

    log_to_output()
    agents = Settings(image=image, pull_policy=pull_policy)
    options = main.Options(leader_elect=leader_elect, metrics_address=metrics, health_address=health, agents=agents)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        raise typer.Exit(runner.run(main.run(options)))
