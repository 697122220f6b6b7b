"""The API of a cluster: etcd, the API server and the controller manager. Needs no root and leaves nothing behind."""

from __future__ import annotations

import ssl
import urllib.request
from pathlib import Path

from tests.cluster import certificates, programs
from tests.cluster.cluster import Cluster
from tests.cluster.processes import Process, free_ports

SERVICES = "10.96.0.0/16"
KUBERNETES_SERVICE = "10.96.0.1"


class ControlPlane(Cluster):
    """One API, with its data, certificates and logs in `folder`. `address`: where it listens; `kubernetes`: the program
    that is its server and its controller manager."""

    def __init__(self, folder: Path, address: str = "127.0.0.1", kubernetes: Path | None = None) -> None:
        self.folder = folder
        self.address = address
        self._client, self._peer, self._port = free_ports(3)
        self.certificates = folder / "certificates"
        self.certificates.mkdir(parents=True, exist_ok=True)
        self._authority = certificates.Authority(self.certificates, "ca")
        self._front = certificates.Authority(self.certificates, "front-proxy-ca")
        super().__init__(self.user("admin", "admin", ["system:masters"]))
        program = kubernetes or programs.api()
        self.etcd = self._part(programs.node(), "etcd", self._etcd())
        self.api = self._part(program, "kube-apiserver", self._api())
        self.manager = self._part(program, "kube-controller-manager", self._manager())

    @property
    def server(self) -> str:
        """The API's address."""
        return f"https://{self.address}:{self._port}"

    def user(self, name: str, user: str, groups: list[str]) -> Path:
        """The kubeconfig of a user."""
        client = self._authority.client(name, user, groups)
        return certificates.kubeconfig(
            self.folder / f"{name}.kubeconfig", self.server, self._authority.certificate, client
        )

    def start(self) -> None:
        """Start everything, and wait until it serves."""
        self.etcd.start()
        self.api.start()
        self.api.until(self.serves)
        self.manager.start()

    def serves(self) -> bool:
        """Whether the API server is ready."""
        trust = ssl.create_default_context(cafile=str(self._authority.certificate))
        admin = self.certificates / "admin.crt"
        trust.load_cert_chain(admin, admin.with_suffix(".key"))
        with urllib.request.urlopen(f"{self.server}/readyz", context=trust, timeout=5) as answer:
            return bool(answer.status == 200)

    def restart(self) -> None:
        """Kill the API server, and start it again at the same address with the same data."""
        self.api.kill()
        self.api.start()
        self.api.until(self.serves)

    def stop(self) -> None:
        """End everything, the store last."""
        for part in (self.manager, self.api, self.etcd):
            part.stop()

    def _part(self, program: Path, name: str, flags: list[str]) -> Process:
        return Process(name, [program, name, *flags], self.folder / f"{name}.log", self.folder)

    def _etcd(self) -> list[str]:
        return [
            f"--data-dir={self.folder / 'etcd'}",
            f"--client-url=http://127.0.0.1:{self._client}",
            f"--peer-url=http://127.0.0.1:{self._peer}",
        ]

    def _api(self) -> list[str]:
        hosts = ["127.0.0.1", self.address, KUBERNETES_SERVICE, "localhost", "kubernetes.default.svc"]
        serving = self._authority.server("apiserver", dict.fromkeys(hosts))
        front = self._front.client("front-proxy", "front-proxy-client")
        signing = certificates.signing_key(self.certificates, "service-accounts")
        kubelet = self.certificates / "admin.crt"
        return [
            f"--etcd-servers=http://127.0.0.1:{self._client}",
            f"--bind-address={self.address}",
            f"--secure-port={self._port}",
            # An address of this machine alone is no endpoint that pods could use.
            f"--endpoint-reconciler-type={'none' if self.address == '127.0.0.1' else 'lease'}",
            f"--service-cluster-ip-range={SERVICES}",
            f"--tls-cert-file={serving}",
            f"--tls-private-key-file={serving.with_suffix('.key')}",
            f"--client-ca-file={self._authority.certificate}",
            f"--kubelet-client-certificate={kubelet}",
            f"--kubelet-client-key={kubelet.with_suffix('.key')}",
            "--kubelet-preferred-address-types=InternalIP",
            "--authorization-mode=Node,RBAC",
            "--allow-privileged",
            "--service-account-issuer=https://kubernetes.default.svc",
            f"--service-account-key-file={signing.with_suffix('.pub')}",
            f"--service-account-signing-key-file={signing}",
            f"--requestheader-client-ca-file={self._front.certificate}",
            "--requestheader-allowed-names=front-proxy-client",
            "--requestheader-username-headers=X-Remote-User",
            "--requestheader-group-headers=X-Remote-Group",
            "--requestheader-extra-headers-prefix=X-Remote-Extra-",
            f"--proxy-client-cert-file={front}",
            f"--proxy-client-key-file={front.with_suffix('.key')}",
        ]

    def _manager(self) -> list[str]:
        config = self.user("controller-manager", "system:kube-controller-manager", [])
        return [
            f"--kubeconfig={config}",
            "--leader-elect=false",
            "--use-service-account-credentials",
            f"--service-account-private-key-file={self.certificates / 'service-accounts.key'}",
            f"--root-ca-file={self._authority.certificate}",
            f"--cluster-signing-cert-file={self._authority.certificate}",
            f"--cluster-signing-key-file={self._authority.certificate.with_suffix('.key')}",
            "--secure-port=0",
            "--kube-api-qps=500",
            "--kube-api-burst=1000",
            # What an autoscaler does in minutes, tests see in seconds.
            "--horizontal-pod-autoscaler-sync-period=5s",
            "--horizontal-pod-autoscaler-initial-readiness-delay=5s",
            "--horizontal-pod-autoscaler-cpu-initialization-period=20s",
            "--horizontal-pod-autoscaler-downscale-stabilization=10s",
        ]
