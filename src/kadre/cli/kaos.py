"""The `kaos` command: KAOS's way to install Kadre, and to look at and talk to agents of kaos.tools."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Annotated

import typer

from kadre.base.errors import KadreError
from kadre.cli.options import NoColor, examples

KINDS = ("agents", "modelapis", "mcpservers")
GROUP = "kaos.tools"
PORT = 80
"""Of the Service of an agent of kaos.tools."""
WORKLOADS = ("kagent-controller", "kagent")
"""The Deployments of an installation."""
LOOKS, LOOK_SECONDS = 60, 5
"""How often it is looked whether one of them is ready, and how long each time."""
APPLY = ("apply", "--server-side", "--field-manager=kadre", "--force-conflicts", "-f", "-")
"""As whatever else applies these does: what another version of it has said is no conflict."""
STALE_SECONDS = 60.0
"""After which a lead that nobody renews is nobody's."""

Namespace = Annotated[str, typer.Option("--namespace", "-n", metavar="NAME", help="Where it is installed.")]
Where = Annotated[str, typer.Option("--namespace", "-n", metavar="NAME", help="Where they are.")]


def build() -> typer.Typer:
    """The command."""
    app = typer.Typer(name="kaos", no_args_is_help=True, rich_markup_mode=None, pretty_exceptions_enable=False)
    app.callback(epilog=examples("kaos install", "kaos get agents -A", 'kaos invoke assistant -m "Hello!"'))(kaos)
    app.command(epilog=examples("kaos install", "kaos install --image registry.example/kadre:1.2 -n agents"))(install)
    app.command(epilog=examples("kaos uninstall"))(uninstall)
    app.command(epilog=examples("kaos get", "kaos get agents -A -o wide", "kaos get modelapi ollama -o yaml"))(get)
    app.command(epilog=examples('kaos invoke assistant -m "Hello!"', "git diff | kaos invoke reviewer"))(invoke)
    app.command(epilog=examples("kaos ui"))(ui)
    return app


def kaos() -> None:
    """Install Kadre on a cluster, and look at and talk to what KAOS's manifests declare there."""


def install(
    namespace: Namespace = "kaos-system",
    image: Annotated[
        str,
        typer.Option(
            "--image",
            metavar="IMAGE",
            show_default=False,
            help="The image of all parts and of agents. [default: kadre, of this version]",
        ),
    ] = "",
    wait: Annotated[bool, typer.Option("--wait/--no-wait", help="Come back when it is ready.")] = True,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print what would be applied, and do nothing.")] = False,
) -> None:
    """Install the operator and the gateway, into the cluster of kubectl's current context.

    The same as the chart with its default values, without the admission webhook; for other values use Helm. What is
    installed is brought up to date where it was installed this way before.
    """
    from kadre.api import crd
    from kadre.cli import kubectl, output
    from kadre.local.console import Console
    from kadre.operator import installation

    kinds, made = crd.crd_yaml(crd.crds()), installation.manifests(namespace, image or installation.image())
    if dry_run:
        output.show(f"{kinds.rstrip()}\n---\n{made.rstrip()}")
        return
    console = Console()
    _refuse_helms(namespace)
    _refuse_second(namespace)
    _refuse_foreign()
    with console.step("applying the definitions of all kinds"):
        kubectl.run(*APPLY, stdin=kinds)
        kubectl.run("wait", "--for=condition=Established", "--timeout=60s", *_definitions())
    with console.step(f"applying the operator and the gateway to namespace {namespace}"):
        kubectl.run(*APPLY, stdin=made)
    for workload in WORKLOADS if wait else ():
        with console.step(f"waiting for deployment/{workload}"):
            _await(namespace, workload)
    console.say("next: kubectl apply -f AGENT.yaml, then kaos get and kaos invoke")


def uninstall(
    namespace: Namespace = "kaos-system",
) -> None:
    """Take away the operator and the gateway. The kinds stay, and with them what people declared; agents go on."""
    from kadre.cli import kubectl
    from kadre.local.console import Console
    from kadre.operator import installation

    console = Console()
    _refuse_helms(namespace)
    if not kubectl.run("get", "deployment", WORKLOADS[0], "-n", namespace, "--ignore-not-found", "-o", "name"):
        raise KadreError(f"nothing is installed in namespace {namespace}: kaos uninstall -n NAMESPACE, where it is")
    made = installation.manifests(namespace, "none").partition("\n---\n")[2]  # the namespace may have other things too
    with console.step(f"deleting the operator and the gateway from namespace {namespace}"):
        kubectl.run("delete", "--ignore-not-found", "-f", "-", stdin=made)
    console.say(f"the kinds are still there; all agents go with them: kubectl delete crd {' '.join(_names())}")


def get(
    kind: Annotated[str, typer.Argument(metavar="KIND", help="agents, modelapis, mcpservers, or all.")] = "all",
    name: Annotated[str, typer.Argument(metavar="NAME", show_default=False, help="One of them.")] = "",
    namespace: Where = "",
    everywhere: Annotated[bool, typer.Option("--all-namespaces", "-A", help="Of all namespaces.")] = False,
    form: Annotated[
        str, typer.Option("--output", "-o", metavar="FORM", show_default=False, help="As kubectl has it.")
    ] = "",
) -> None:
    """List what KAOS's manifests declare, and how it is."""
    from kadre.base.problems import did_you_mean
    from kadre.cli import kubectl

    found = [each for each in KINDS if kind.lower() in {each, each.removesuffix("s"), "all"}]
    if not found:
        raise KadreError(f"there is no kind {kind!r}{did_you_mean(kind, KINDS)}; there are {', '.join(KINDS)}")
    words = ["get", ",".join(f"{each}.{GROUP}" for each in found), *([name] if name else [])]
    words += ["-n", namespace] if namespace else []
    words += ["-A"] if everywhere else []
    words += ["-o", form] if form else []
    kubectl.become(*words)


def invoke(
    agent: Annotated[str, typer.Argument(metavar="AGENT", help="Its name.")],
    message: Annotated[
        str,
        typer.Option("--message", "-m", metavar="TEXT", show_default=False, help="What to say; else standard input."),
    ] = "",
    namespace: Where = "",
    session: Annotated[
        str, typer.Option("--session", metavar="ID", show_default=False, help="The conversation to go on with.")
    ] = "",
    no_color: NoColor = False,
) -> None:
    """Say something to an agent of kaos.tools, and show what it answers.

    The answer streams to standard output; tool calls and questions go to standard error. Without a message and at a
    terminal you talk with it. Ends with 1 when the run failed.
    """
    from kadre.cli import chat, kubectl

    with kubectl.forwarded(namespace, f"svc/{agent}", PORT) as server:
        chat.chat(agent, message, session, server, no_color)


def ui() -> None:
    """Open the web page, where there is one."""
    raise KadreError('there is no web page in this version; talk to an agent with: kaos invoke AGENT -m "Hello!"')


def _refuse_helms(namespace: str) -> None:
    """Raises KadreError where Helm has installed what is there: it would not know of what is done here."""
    from kadre.cli import kubectl

    chosen = "app.kubernetes.io/name=kagent,app.kubernetes.io/managed-by=Helm"
    named = r"jsonpath={.items[*].metadata.annotations.meta\.helm\.sh/release-name}"
    found = kubectl.run("get", "deployments", "-n", namespace, "-l", chosen, "-o", named).split()
    if found:
        raise KadreError(f"Helm has installed this in namespace {namespace}, as release {found[0]}: use helm for it")


def _refuse_second(namespace: str) -> None:
    """Raises KadreError where a controller elsewhere is at work: two would both run every agent."""
    import json
    from datetime import datetime

    from kadre.base.clock import SystemClock
    from kadre.cli import kubectl

    told = kubectl.run("get", "leases", "-A", "--field-selector=metadata.name=kadre-controller", "-o", "json")
    now = SystemClock().now()
    for lease in json.loads(told)["items"]:
        where, spec = lease["metadata"]["namespace"], lease.get("spec") or {}
        renewed = spec.get("renewTime")
        fresh = renewed and (now - datetime.fromisoformat(renewed)).total_seconds() < STALE_SECONDS
        if spec.get("holderIdentity") and fresh and where != namespace:
            raise KadreError(
                f"a controller is at work in namespace {where}: uninstall it first, or install there: -n {where}"
            )


def _refuse_foreign() -> None:
    """Raises KadreError where somebody else's definitions of our kinds are in the cluster."""
    import json

    from kadre.api.crd import OURS
    from kadre.cli import kubectl

    told = kubectl.run("get", "crd", *_names(), "--ignore-not-found", "-o", "json")
    found = json.loads(told or "{}")
    foreign = [
        each["metadata"]["name"]
        for each in (found.get("items") or ([found] if "metadata" in found and "spec" in found else []))
        if not OURS.items() <= (each["metadata"].get("labels") or {}).items()
    ]
    if foreign:
        label = ",".join(f"{key}={value}" for key, value in OURS.items())
        raise KadreError(
            f"somebody else's definitions are in this cluster: {', '.join(foreign)}; uninstall what they belong to, or "
            f"hand them over: kubectl label crd {' '.join(foreign)} {label} --overwrite"
        )


def _await(namespace: str, workload: str) -> None:
    from kadre.cli import kubectl

    of = ["-n", namespace, "-l", "app.kubernetes.io/instance=kagent"]
    why = ""
    for _ in range(LOOKS):
        try:
            kubectl.run("rollout", "status", f"deployment/{workload}", "-n", namespace, f"--timeout={LOOK_SECONDS}s")
        except KadreError as error:
            why = str(error)
        else:
            return
        if image := _unpulled(kubectl.run("get", "pods", *of, "-o", "json")):
            message = f"the cluster's nodes cannot pull {image}: give an image that they can, with --image"
            raise KadreError(f"{message} (image/Dockerfile makes one)")
    raise KadreError(f"{why}; kubectl describe pods {' '.join(of)} says why")


def _unpulled(listed: str) -> str:
    """The image of one of these pods, given as kubectl lists them, that its node has tried to pull in vain."""
    import json

    statuses = [
        status for pod in json.loads(listed)["items"] for status in pod.get("status", {}).get("containerStatuses") or ()
    ]
    waiting = ((status["image"], (status.get("state") or {}).get("waiting") or {}) for status in statuses)
    return next((image for image, why in waiting if why.get("reason") == "ImagePullBackOff"), "")


def _definitions() -> list[str]:
    return [f"crd/{name}" for name in _names()]


def _names() -> list[str]:
    from kadre.api import crd

    return [definition["metadata"]["name"] for definition in crd.crds()]


def main(argv: Sequence[str] | None = None) -> None:
    """Run the command line and exit. `argv`: its words without the program's name; None: the process's own."""
    from kadre.local.console import Console

    words = list(sys.argv[1:] if argv is None else argv)
    console = Console(color="--no-color" not in words)
    try:
        build()(words, prog_name="kaos")
    except KadreError as error:
        console.say(f"{console.style('error', 'red')}: {error}")
    sys.exit(1)
