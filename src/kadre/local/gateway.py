"""The gateway's process: who is served is followed in the cluster; its doors are open until Kubernetes says to end."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Iterable
from dataclasses import dataclass

from kadre.base import collector
from kadre.base.clock import Clock, SystemClock
from kadre.base.errors import KadreError
from kadre.base.tasks import Tasks
from kadre.engine import http_client
from kadre.kube import access, kinds
from kadre.kube.client import ALL, Client
from kadre.kube.errors import ApiError
from kadre.kube.kinds import Key
from kadre.local import serving
from kadre.operator.children.common import MANAGER
from kadre.operator.gateway import keys
from kadre.operator.gateway.fleet import ClusterFleet
from kadre.operator.gateway.peers import ClusterPeers
from kadre.operator.gateway.reviewer import ClusterReviewer
from kadre.operator.gateway.secret import FollowedSecret
from kadre.server.gateway import app
from kadre.server.gateway.crowd import Crowd
from kadre.server.gateway.metrics import GatewayMetrics
from kadre.server.gateway.upstream import Upstream
from kadre.server.gateway.visitors import Reception
from kadre.server.gateway.wanted import Wanted
from kadre.server.identity import Signer

log = logging.getLogger(__name__)

KEDA_SECONDS = 15.0
"""Between two looks at whether the cluster has KEDA."""
LINGER = 3.0
"""Seconds a gateway that is told to end goes on taking requests: what sends them hears of its end that much later."""
DRAIN = 315
"""Seconds it then waits for requests under way: as long as a run may take unless its author says more, and a bit."""


@dataclass(frozen=True, slots=True)
class GatewaySettings:
    """Everything the process is told."""

    key_secret: str
    """Name of the Secret, in the gateway's own namespace, of the key that says to agents who is calling."""
    host: str = "0.0.0.0"  # noqa: S104 - a pod is reached from outside or not at all
    port: int = 8080
    metrics_port: int = 0
    """Where metrics are served besides; 0: nowhere."""
    grpc_port: int = 0
    """Where A2A is served over gRPC besides; 0: nowhere."""
    scaler_port: int = 0
    """Where KEDA is told which agents somebody waits for; 0: nowhere."""
    scaler_service: str = ""
    """Name of that port's Service, in the gateway's own namespace, by which replicas find one another."""
    namespaces: tuple[str, ...] = ()
    """Those whose agents are served; none: all."""
    api_keys: str = ""
    """Name of the Secret, in the gateway's own namespace, of API keys by their holders; empty: there are none."""
    approvers: tuple[str, ...] = ()
    """Holders of API keys who may decide about calls that wait."""
    tokens: bool = True
    """Whether Kubernetes' tokens are reviewed."""
    trust_local: bool = True
    open: bool = False
    """Whether nobody has to prove who they are."""
    linger: float = LINGER


def run(settings: GatewaySettings) -> int:
    """Serve until told to stop; the exit code. Raises KadreError where there is no cluster, or no port."""
    import uvloop

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(_serve(settings))


async def _serve(settings: GatewaySettings) -> int:
    clock, tasks, stop = SystemClock(), Tasks("gateway"), asyncio.Event()
    try:
        found = access.found()
    except LookupError as error:
        raise KadreError(str(error)) from error
    async with contextlib.AsyncExitStack() as stack:
        stack.callback(serving.leave_signals)
        client = await stack.enter_async_context(Client(found, MANAGER))
        http = http_client.session()
        stack.push_async_callback(http.close)
        fleet = ClusterFleet(client, settings.namespaces or ALL)
        signing = FollowedSecret(client, Key(found.namespace, settings.key_secret))
        given = FollowedSecret(client, Key(found.namespace, settings.api_keys)) if settings.api_keys else None
        signer = Signer(lambda: signing.current().get(keys.CURRENT, "").encode(), clock)
        upstream = Upstream(fleet, http, signer)
        reception = _reception(settings, client, given, fleet)
        crowd = Crowd()
        metrics = GatewayMetrics(fleet, upstream, crowd)

        def waits() -> str:
            if not fleet.synced:
                return "the agents of the cluster are not known yet"
            return signer.lacks()

        doors = app.build(fleet, upstream, reception, crowd, metrics.get, found.namespace, waits)
        stack.push_async_callback(tasks.aclose)
        followed = [*fleet.informers(), signing.informer, *([given.informer] if given is not None else [])]
        if settings.scaler_port:
            peers = ClusterPeers(client, Key(found.namespace, settings.scaler_service))
            followed.append(peers.informer)
            tasks.spawn("scaler", _scaling(settings, client, upstream.wanted, peers, clock))
        for informer in followed:
            tasks.spawn(f"follow-{informer.kind.plural}", informer.run())
        servers = [serving.Server(serving.listen(settings.host, settings.port), doors, DRAIN)]
        if settings.metrics_port:
            listening = serving.listen(settings.host, settings.metrics_port, "--metrics-port")
            servers.append(serving.Server(listening, app.figures(metrics.get)))
        grpc = await serving.speak_grpc(stack, doors.grpc, settings.host, settings.grpc_port)
        answering = [tasks.spawn("serve", server.serve()) for server in servers]
        log.info("every agent of the cluster at %s is served on port %d", found.server, settings.port)
        collector.settle()
        serving.heed_signals(stop)
        await stop.wait()
        log.info("told to end: taking requests for %.0f s more", settings.linger)
        await clock.sleep(settings.linger)
        await _end(tasks, servers, answering, grpc)
    return 0


async def _end(
    tasks: Tasks, servers: Iterable[serving.Server], answering: list[asyncio.Task[None]], grpc: serving.Grpc | None
) -> None:
    """Take no new request, and give those under way their time: all at once, or they would have more than there is."""
    for server in servers:
        server.should_exit = True
    if grpc is not None:
        answering.append(tasks.spawn("end-grpc", grpc.stop(DRAIN)))
    await asyncio.wait(answering, timeout=DRAIN + serving.GRACE)


async def _scaling(
    settings: GatewaySettings, client: Client, wanted: Wanted, peers: ClusterPeers, clock: Clock
) -> None:
    """Tell KEDA who is wanted, once the cluster has KEDA."""
    while not await _serves_keda(client):
        await clock.sleep(KEDA_SECONDS)
    # Not before it is needed: gRPC costs 15 MB.
    from kadre.server.gateway.scaler import Scaler

    async with contextlib.aclosing(Scaler(wanted, peers)) as scaler:
        await scaler.start(f"{settings.host}:{settings.scaler_port}")
        log.info("KEDA is told which agents somebody waits for on port %d", settings.scaler_port)
        await asyncio.Event().wait()


async def _serves_keda(client: Client) -> bool:
    try:
        return await client.serves(kinds.SCALED_OBJECT)
    except ApiError as error:
        log.info("whether the cluster has KEDA cannot be asked for: %s", error)
        return False


def _reception(
    settings: GatewaySettings, client: Client, keys: FollowedSecret | None, fleet: ClusterFleet
) -> Reception:
    return Reception(
        keys,
        frozenset(settings.approvers),
        ClusterReviewer(client, fleet) if settings.tokens else None,
        trust_local=settings.trust_local,
        open=settings.open,
    )
