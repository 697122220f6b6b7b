"""`kadre gateway`: one address for every agent of a cluster."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from kadre.cli.options import Address, GrpcPort, MetricsPort, Port, examples, grouped
from kadre.cli.output import log_to_output

KeySecret = Annotated[
    str,
    typer.Option(
        "--key-secret",
        metavar="NAME",
        help="The Secret of the key by which agents believe who is calling; the controller makes it.",
    ),
]
Namespaces = Annotated[
    list[str] | None,
    typer.Option(
        "--namespace",
        metavar="NAMESPACE",
        show_default=False,
        help="Serve the agents of this namespace, not all; Roles in it are enough then. Repeatable.",
    ),
]
ApiKeys = Annotated[
    str,
    typer.Option(
        "--api-keys", metavar="NAME", help="A Secret of API keys: each entry is a holder's name and their key."
    ),
]
Approvers = Annotated[
    list[str] | None,
    typer.Option(
        "--approver",
        metavar="HOLDER",
        show_default=False,
        help="The holder of an API key who may also decide about calls that wait. Repeatable.",
    ),
]
Tokens = Annotated[
    bool, typer.Option("--tokens/--no-tokens", help="Whether Kubernetes' tokens are reviewed, and say who is calling.")
]
TrustLocal = Annotated[
    bool,
    typer.Option(
        "--trust-local/--no-trust-local",
        help="Whether a connection from the pod itself, as kubectl port-forward makes it, needs no proof.",
    ),
]
Auth = Annotated[
    str, typer.Option("--auth", metavar="required|none", help="none: nobody has to say who they are, from anywhere.")
]
ScalerPort = Annotated[
    int,
    typer.Option(
        "--scaler-port",
        metavar="PORT",
        min=0,
        max=65535,
        help="Port at which KEDA, once the cluster has it, is told which agents somebody waits for; 0: none.",
    ),
]
ScalerService = Annotated[
    str,
    typer.Option("--scaler-service", metavar="NAME", help="The Service of that port: by it replicas find one another."),
]


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command(
        epilog=examples(
            "kadre gateway --key-secret kadre-gateway",
            "kadre gateway --key-secret kadre-gateway --api-keys my-keys --approver on-call",
        )
    )(gateway)


def _served(
    key_secret: KeySecret,
    port: Port = 8080,
    address: Address = "0.0.0.0",  # noqa: S104 - a pod is reached from outside or not at all
    metrics_port: MetricsPort = 0,
    namespaces: Namespaces = None,
    grpc_port: GrpcPort = 0,
) -> Any:
    return {
        "key_secret": key_secret,
        "port": port,
        "host": address,
        "metrics_port": metrics_port,
        "grpc_port": grpc_port,
        "namespaces": tuple(dict.fromkeys(namespaces or ())),
    }


def _scaling(scaler_port: ScalerPort = 0, scaler_service: ScalerService = "") -> Any:
    return {"scaler_port": scaler_port, "scaler_service": scaler_service}


def _let_in(
    api_keys: ApiKeys = "",
    approvers: Approvers = None,
    tokens: Tokens = True,
    trust_local: TrustLocal = True,
    auth: Auth = "required",
) -> Any:
    if auth not in {"required", "none"}:
        raise typer.BadParameter(f"{auth}: write required or none", param_hint="--auth")
    return {
        "api_keys": api_keys,
        "approvers": tuple(approvers or ()),
        "tokens": tokens,
        "trust_local": trust_local,
        "open": auth == "none",
    }


@grouped(_served, _scaling, _let_in)
def gateway(served: Any, scaling: Any, let_in: Any) -> None:
    """Serve every agent of a cluster at one address: chat, chat completions, runs and sessions.

    The cluster is the one it runs in, else that of the kubeconfig's current context.
    """
    from kadre.local import gateway as process

    log_to_output()
    raise typer.Exit(process.run(process.GatewaySettings(**served, **scaling, **let_in)))
