"""`kadre host`: one planned agent, as it runs in a pod."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from kadre.cli.options import Address, GrpcPort, MetricsPort, Port, examples, grouped
from kadre.cli.output import log_level, log_to_output

Plan = Annotated[Path, typer.Option("--plan", metavar="FILE", help="The plan, as the controller writes it.")]
Digest = Annotated[
    str,
    typer.Option("--plan-sha256", metavar="HEX", help="The SHA-256 of the plan: no other is served in its place."),
]
DataDir = Annotated[Path, typer.Option("--data-dir", metavar="DIR", help="Where conversations are kept.")]
Secrets = Annotated[
    Path, typer.Option("--secrets", metavar="DIR", help="Where Secrets are mounted: a folder each, a file a key.")
]

LoggingFile = Annotated[
    Path | None,
    typer.Option(
        "--logging",
        metavar="FILE",
        help="How the log is written, as Python's logging.config has it in YAML; read again as it changes.",
    ),
]
JournalDir = Annotated[
    Path | None,
    typer.Option(
        "--journal",
        metavar="DIR",
        help="Where a Secret with the key url is mounted: postgresql://…, for an agent that names no memory.",
    ),
]
GatewayKeys = Annotated[
    Path | None,
    typer.Option(
        "--gateway-keys",
        metavar="DIR",
        help="Where the gateway's public keys are mounted: who calls is then who it says; read again as they change.",
    ),
]


GatewayUrl = Annotated[
    str,
    typer.Option("--gateway-url", metavar="URL", help="Where the gateway is, through which other agents are asked."),
]
GatewayToken = Annotated[
    Path,
    typer.Option(
        "--gateway-token",
        metavar="FILE",
        help="The token that says to the gateway whose pod this is; read again with every request.",
    ),
]
CodeRunner = Annotated[
    str,
    typer.Option("--code-runner", metavar="URL", help="Where code is run that models write; without it none is."),
]
CodeRunnerToken = Annotated[
    Path,
    typer.Option(
        "--code-runner-token",
        metavar="FILE",
        help="The token that says to the code runner whose pod this is; read again with every request.",
    ),
]
WebhookNetworks = Annotated[
    list[str] | None,
    typer.Option(
        "--webhook-network",
        metavar="CIDR",
        show_default=False,
        help="Where a run's webhooks may be besides public addresses, as in 10.1.0.0/16. Repeatable.",
    ),
]
# By no variable: an agent's author sets those, and what callers may reach is the installation's to say.


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command(epilog=examples("kadre host --plan /etc/kadre/plan.json --metrics-port 9090"))(host)


def _served(
    plan: Plan,
    port: Port = 8080,
    address: Address = "0.0.0.0",  # noqa: S104 - a pod is reached from outside or not at all
    metrics_port: MetricsPort = 0,
    data_dir: DataDir = Path("/var/lib/kadre"),
    secrets: Secrets = Path("/var/run/kadre/secrets"),
    digest: Digest = "",
) -> Any:
    from kadre.local import pod

    return pod.PodSettings(
        plan=plan,
        host=address,
        port=port,
        metrics_port=metrics_port,
        data_dir=data_dir,
        secrets=secrets,
        digest=digest,
    )


def _told(
    journal: JournalDir = None,
    logging: LoggingFile = None,
    gateway_keys: GatewayKeys = None,
    gateway_url: GatewayUrl = "",
    gateway_token: GatewayToken = Path("/var/run/kadre/gateway/token"),
    webhook_networks: WebhookNetworks = None,
    grpc_port: GrpcPort = 0,
) -> Any:
    return logging, {
        "journal": journal,
        "gateway_keys": gateway_keys,
        "gateway_url": gateway_url,
        "gateway_token": gateway_token,
        "webhook_networks": tuple(webhook_networks or ()),
        "grpc_port": grpc_port,
    }


def code_told(runner: CodeRunner = "", token: CodeRunnerToken = Path("/var/run/kadre/code-runner/token")) -> Any:
    """Where code is run, of what serves agents in a pod."""
    return {"code_runner": runner, "code_runner_token": token}


@grouped(_served, _told, code_told)
def host(settings: Any, told: Any, code: Any) -> None:
    """Serve one planned agent, as the pods of a cluster do.

    On SIGTERM it goes on taking messages for a few seconds, then lets runs under way end.
    """
    import dataclasses

    from kadre.local import pod
    from kadre.local.logs import Logging

    log_to_output()
    logging, more = told
    settings = dataclasses.replace(settings, **more, **code)
    raise typer.Exit(pod.run(settings, Logging(logging, log_level()) if logging is not None else None))
