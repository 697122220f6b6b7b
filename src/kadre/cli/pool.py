"""`kadre pool`: the planned agents of a pool, as they run in a pod."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from kadre.cli.host import (
    DataDir,
    GatewayKeys,
    GatewayToken,
    GatewayUrl,
    JournalDir,
    LoggingFile,
    WebhookNetworks,
    code_told,
)
from kadre.cli.options import Address, MetricsPort, Port, examples, grouped
from kadre.cli.output import log_level, log_to_output

Pool = Annotated[str, typer.Option("--pool", metavar="NAME", help="Which pool of the namespace.")]
Pod = Annotated[
    str,
    typer.Option(
        "--pod",
        envvar="POD_NAME",
        metavar="NAME",
        help="The pod that it runs in: by that name it tells the controller what it serves.",
    ),
]


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command(epilog=examples("kadre pool --pool default --metrics-port 9090"))(pool)


def _served(
    name: Pool = "default",
    pod: Pod = "",
    port: Port = 8080,
    address: Address = "0.0.0.0",  # noqa: S104 - a pod is reached from outside or not at all
    metrics_port: MetricsPort = 0,
) -> Any:
    return {"pool": name, "pod": pod, "host": address, "port": port, "metrics_port": metrics_port}


def _told(
    data_dir: DataDir = Path("/var/lib/kadre"),
    journal: JournalDir = None,
    logging: LoggingFile = None,
    gateway_keys: GatewayKeys = None,
    gateway_url: GatewayUrl = "",
    gateway_token: GatewayToken = Path("/var/run/kadre/gateway/token"),
    webhook_networks: WebhookNetworks = None,
) -> Any:
    told = {"data_dir": data_dir, "journal": journal, "webhook_networks": tuple(webhook_networks or ())}
    return told | {"gateway_keys": gateway_keys, "gateway_url": gateway_url, "gateway_token": gateway_token}, logging


@grouped(_served, _told, code_told)
def pool(served: Any, told: Any, code: Any) -> None:
    """Serve every planned agent of a pool, as the pods of a pool do: plans come and go, and none of it restarts them.

    The cluster is the one it runs in, else that of the kubeconfig's current context. Plans that the pool's Role does
    not name are not served. On SIGTERM it goes on taking messages for a few seconds, then lets runs under way end.
    """
    from kadre.local import pool as process
    from kadre.local.logs import Logging

    log_to_output()
    more, logging = told
    logs = Logging(logging, log_level()) if logging is not None else None
    raise typer.Exit(process.run(process.PoolSettings(**served, **more, **code), logs))
