"""`kadre operator`: the controller of a cluster."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any

import typer

from kadre.cli.options import examples, grouped
from kadre.cli.output import log_to_output

Elect = Annotated[
    bool,
    typer.Option("--leader-elect/--no-leader-elect", help="Of several replicas let one act, and the others stand by."),
]
Deployment = Annotated[
    str,
    typer.Option(
        "--deployment",
        metavar="NAME",
        help="The Deployment that this controller is a pod of: what it makes for itself goes with that.",
    ),
]
Namespaces = Annotated[
    list[str] | None,
    typer.Option(
        "--namespace",
        metavar="NAMESPACE",
        show_default=False,
        help="Look after this namespace, not the whole cluster; Roles in it are enough then. Repeatable.",
    ),
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
    str,
    typer.Option(
        "--agent-image",
        envvar="KADRE_AGENT_IMAGE",
        metavar="IMAGE",
        help="The image agents run in; without it the controller's own.",
    ),
]
PullPolicy = Annotated[
    str,
    typer.Option("--agent-pull-policy", envvar="KADRE_AGENT_PULL_POLICY", metavar="POLICY", help="When it is pulled."),
]
PullSecrets = Annotated[
    list[str] | None,
    typer.Option(
        "--agent-pull-secret",
        metavar="NAME",
        show_default=False,
        help="A Secret, in an agent's namespace, by which its image is pulled. Repeatable.",
    ),
]
NetworkPolicy = Annotated[
    bool,
    typer.Option(
        "--agent-network-policy/--no-agent-network-policy",
        help="Whether an agent has a NetworkPolicy where its author does not say.",
    ),
]
GatewaySecret = Annotated[
    str,
    typer.Option(
        "--gateway-secret",
        metavar="NAME",
        help="The Secret, in the controller's namespace, of the key that the gateway signs with; made where missing.",
    ),
]
GatewayService = Annotated[
    str,
    typer.Option(
        "--gateway-service",
        metavar="NAME",
        help="The gateway's Service, in the controller's namespace: through it agents ask each other.",
    ),
]
GatewayApi = Annotated[
    str,
    typer.Option(
        "--gateway-api",
        metavar="NAMESPACE/NAME",
        help="The Gateway, of the Kubernetes Gateway API, for which each agent is given an HTTPRoute.",
    ),
]
AgentWebhookNetworks = Annotated[
    list[str] | None,
    typer.Option(
        "--agent-webhook-network",
        metavar="CIDR",
        show_default=False,
        help="Where webhooks of agents' runs may be besides public addresses, as in 10.1.0.0/16. Repeatable.",
    ),
]
Scaler = Annotated[
    str,
    typer.Option(
        "--gateway-scaler",
        metavar="HOST:PORT",
        help="Where the gateway tells KEDA which agents somebody waits for, for those that may have no pods.",
    ),
]
Prometheus = Annotated[
    str,
    typer.Option(
        "--prometheus", metavar="URL", help="Where Prometheus is for an author who lets KEDA scale by it and says not."
    ),
]
PoolLeast = Annotated[int, typer.Option("--pool-replicas", metavar="NUMBER", min=1, help="The fewest pods of a pool.")]
PoolMost = Annotated[
    int,
    typer.Option(
        "--pool-max-replicas",
        metavar="NUMBER",
        min=1,
        help="The most, where no agent of the pool keeps its conversations in the pod; by their CPU.",
    ),
]
PoolResources = Annotated[
    str,
    typer.Option("--pool-resources", metavar="JSON", help="CPU and memory of a pool's pods, as a container has them."),
]
CodeRunner = Annotated[
    bool,
    typer.Option(
        "--code-runner/--no-code-runner",
        help="Whether each namespace whose agents have code run that models write has pods that do it.",
    ),
]
CodeRunnerResources = Annotated[
    str,
    typer.Option("--code-runner-resources", metavar="JSON", help="CPU and memory of those, as a container has them."),
]
CodeRunnerUnfenced = Annotated[
    bool,
    typer.Option(
        "--code-runner-without-landlock/--no-code-runner-without-landlock",
        help="Run code also on nodes whose kernel has no Landlock: it can then read whatever its pod may.",
    ),
]
Webhook = Annotated[
    str,
    typer.Option("--webhook-bind-address", metavar="ADDRESS", help="Where the admission webhook answers; 0: nowhere."),
]
WebhookFolder = Annotated[
    str,
    typer.Option(
        "--webhook-cert-dir",
        metavar="FOLDER",
        help="Where its tls.crt and tls.key are, read again as they change; without it the controller makes its own.",
    ),
]
WebhookService = Annotated[
    str,
    typer.Option(
        "--webhook-service",
        metavar="NAMESPACE/NAME",
        help="The Service it is called by; both webhook configurations have that name, too, and are given the CA.",
    ),
]
WebhookSecret = Annotated[
    str,
    typer.Option(
        "--webhook-secret",
        metavar="NAME",
        help="The Secret in the Service's namespace by which replicas share the certificate that they make.",
    ),
]
JournalSecret = Annotated[
    str,
    typer.Option(
        "--journal-secret",
        metavar="NAME",
        help="The Secret, in the controller's namespace, of the journal that agents without a memory share.",
    ),
]
ProviderSecrets = Annotated[
    list[str] | None,
    typer.Option(
        "--provider-secret",
        metavar="PROVIDER=NAME/KEY",
        show_default=False,
        help="The Secret, and which of its keys, of agents whose author names no API key. Repeatable.",
    ),
]
ProviderEndpoints = Annotated[
    list[str] | None,
    typer.Option(
        "--provider-endpoint",
        metavar="PROVIDER=URL",
        show_default=False,
        help="Where a provider's models are for an author who names no endpoint; its key may go there. Repeatable.",
    ),
]
ShareWith = Annotated[
    list[str] | None,
    typer.Option(
        "--share-secrets-with",
        metavar="NAMESPACE",
        show_default=False,
        help="Another namespace whose agents may use the controller's Secrets, of which it has copies. Repeatable.",
    ),
]

OllamaImage = Annotated[
    str, typer.Option("--ollama-image", metavar="IMAGE", help="The image of ModelAPIs with mode Hosted.")
]
LitellmImage = Annotated[
    str, typer.Option("--litellm-image", metavar="IMAGE", help="The image of ModelAPIs with mode Proxy.")
]
PackageIndex = Annotated[
    str,
    typer.Option(
        "--package-index", metavar="URL", help="Where MCPServers that are packages are got from; without it PyPI."
    ),
]
PackageCa = Annotated[
    Path | None,
    typer.Option(
        "--package-ca",
        metavar="FILE",
        help="Whom to trust there, as PEM, read at the start; without it, or the file, the usual authorities.",
    ),
]


PROMETHEUS = "http://prometheus.observability.svc:9090"


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command(
        epilog=examples(
            "kadre operator --agent-image registry.example/kadre:1.2",
            "kadre operator --leader-elect --metrics-bind-address :8080 --health-probe-bind-address :8081",
            "kadre operator --webhook-bind-address :9443 --webhook-cert-dir /certificates",
        )
    )(operator)


def _reconciling(
    leader_elect: Elect = False,
    namespaces: Namespaces = None,
    metrics: Metrics = ":8080",
    health: Health = ":8081",
    deployment: Deployment = "",
) -> Any:
    from kadre.operator import main

    return main.Options(
        leader_elect=leader_elect,
        deployment=deployment,
        namespaces=tuple(dict.fromkeys(namespaces or ())),
        metrics_address=metrics,
        health_address=health,
    )


def _agents(
    image: Image = "",
    pull_policy: PullPolicy = "IfNotPresent",
    pull_secrets: PullSecrets = None,
    network_policy: NetworkPolicy = False,
    gateway_secret: GatewaySecret = "",
    gateway_service: GatewayService = "",
    gateway_api: GatewayApi = "",
) -> Any:
    from kadre.operator.children.common import Settings

    secrets = tuple(pull_secrets or ())
    return Settings(
        image=image,
        pull_policy=pull_policy,
        pull_secrets=secrets,
        network_policy=network_policy,
        gateway_secret=gateway_secret,
        gateway_service=gateway_service,
        gateway_api=_place("--gateway-api", gateway_api) if gateway_api else None,
    )


def _place(flag: str, value: str) -> Any:
    from kadre.kube.kinds import Key

    namespace, _, name = value.partition("/")
    if not (namespace and name):
        raise typer.BadParameter(f"{value}: write it as NAMESPACE/NAME", param_hint=flag)
    return Key(namespace, name)


def _scaling(scaler: Scaler = "", prometheus: Prometheus = PROMETHEUS) -> Any:
    from kadre.base import urls

    if wrong := urls.fault(prometheus):
        raise typer.BadParameter(wrong[0], param_hint="--prometheus")
    return {"scaler": scaler, "prometheus": prometheus}


def _pools(least: PoolLeast = 1, most: PoolMost = 3, resources: PoolResources = "") -> Any:
    import dataclasses

    from kadre.operator.children.common import PoolSettings

    made = PoolSettings(least=least, most=max(least, most))
    return dataclasses.replace(made, resources=_resources("--pool-resources", resources)) if resources else made


def _resources(flag: str, text: str) -> Any:
    import msgspec

    try:
        return msgspec.json.decode(text, type=dict[str, dict[str, str | int | float]])
    except msgspec.DecodeError as error:
        raise typer.BadParameter(f'{error}: write {{"requests": {{…}}}}', param_hint=flag) from error


def _code(
    code_runner: CodeRunner = True, code_resources: CodeRunnerResources = "", unfenced: CodeRunnerUnfenced = False
) -> Any:
    import dataclasses

    from kadre.operator.children.common import CodeRunnerSettings

    made = CodeRunnerSettings(enabled=code_runner, unfenced=unfenced)
    if code_resources:
        made = dataclasses.replace(made, resources=_resources("--code-runner-resources", code_resources))
    return {"code_runner": made}


def _shared(
    secrets: ProviderSecrets = None,
    endpoints: ProviderEndpoints = None,
    journal_secret: JournalSecret = "",
    share_with: ShareWith = None,
    webhook_networks: AgentWebhookNetworks = None,
) -> Any:
    import ipaddress

    from kadre.operator.children.common import KeySecret

    keys = {}
    for provider, place in _by_provider("--provider-secret", secrets or ()).items():
        name, _, key = place.partition("/")
        if not (name and key):
            raise typer.BadParameter(
                f"{provider}={place}: write it as {provider}=NAME/KEY", param_hint="--provider-secret"
            )
        keys[provider] = KeySecret(name, key)
    for network in webhook_networks or ():
        try:
            ipaddress.ip_network(network)
        except ValueError as error:
            raise typer.BadParameter(str(error), param_hint="--agent-webhook-network") from error
    return {
        "provider_secrets": keys,
        "provider_endpoints": _addresses("--provider-endpoint", endpoints or ()),
        "journal_secret": journal_secret,
        "share_with": tuple(share_with or ()),
        "webhook_networks": tuple(webhook_networks or ()),
    }


def _kaos(
    ollama: OllamaImage = "",
    litellm: LitellmImage = "",
    index: PackageIndex = "",
    ca: PackageCa = None,
) -> Any:
    from kadre.base import urls
    from kadre.operator.children.common import Images, Packages

    if index and (wrong := urls.fault(index)):
        raise typer.BadParameter(wrong[0], param_hint="--package-index")
    trusted = ca.read_text(encoding="utf-8") if ca is not None and ca.is_file() else ""
    usual = Images()
    images = Images(ollama=ollama or usual.ollama, litellm=litellm or usual.litellm)
    return {"images": images, "packages": Packages(index_url=index, ca=trusted)}


def _by_provider(flag: str, values: Iterable[str]) -> dict[str, str]:
    from kadre.base.problems import did_you_mean
    from kadre.plan.providers import PROVIDERS

    found: dict[str, str] = {}
    for value in values:
        provider, equals, said = value.partition("=")
        if not (equals and said):
            raise typer.BadParameter(f"{value}: write it as PROVIDER=…", param_hint=flag)
        if provider not in PROVIDERS:
            raise typer.BadParameter(f"no provider {provider!r}{did_you_mean(provider, PROVIDERS)}", param_hint=flag)
        found[provider] = said
    return found


def _addresses(flag: str, values: Iterable[str]) -> dict[str, str]:
    """Of each provider a URL. They go into agents' plans, which many may read: one with a password in it is refused."""
    from kadre.base import urls

    found = _by_provider(flag, values)
    for provider, url in found.items():
        if wrong := urls.fault(url):
            raise typer.BadParameter(f"{provider}: {wrong[0]}", param_hint=flag)
    return found


def _webhook(
    address: Webhook = "0",
    folder: WebhookFolder = "",
    service: WebhookService = "",
    secret: WebhookSecret = "kadre-webhook",  # noqa: S107 - its name
) -> Any:
    from kadre.operator import webhook

    return webhook.Options(address=address, cert_dir=folder, service=service, secret=secret)


@grouped(_reconciling, _agents, _scaling, _pools, _code, _shared, _kaos, _webhook)
def operator(options: Any, agents: Any, scaling: Any, pools: Any, *more: Any) -> None:
    """Run the controller: what people declare in the cluster becomes running agents.

    The cluster is the one it runs in, else that of the kubeconfig's current context.
    """
    import asyncio
    import dataclasses

    import uvloop

    from kadre.operator import main

    log_to_output()
    code, shared, kaos, webhook = more
    agents = dataclasses.replace(agents, pools=pools, **scaling, **code, **shared, **kaos)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        raise typer.Exit(runner.run(main.run(dataclasses.replace(options, agents=agents, webhook=webhook))))
