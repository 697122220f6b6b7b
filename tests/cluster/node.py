"""A whole node: the control plane, scheduler, containerd, kubelet, kube-proxy. Needs root and Debian's packages.

A machine has one at a time: the network of its pods and the rules of its services are the machine's. CLAIM says which.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import socket
import subprocess
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

from tests.cluster import images, leftovers, processes, programs
from tests.cluster.cluster import Cluster
from tests.cluster.control_plane import SERVICES, ControlPlane
from tests.cluster.processes import Process

NAME = "node1"
PODS = "10.244.0.0/24"
DNS = "10.96.0.10"
DOMAIN = "cluster.local"
BRIDGE = "kadre0"
NETWORK = "kadre"
PAUSE = "kadre.test/pause:1"
PLUGINS = Path("/usr/lib/cni")
CLAIM = Path("/run/kadre-test-cluster")
"""A link to the folder of the node that runs on this machine, or was left on it."""
_PROGRAMS = ("containerd", "runc", "iptables", "conntrack", "socat", "debootstrap", "kubectl")


def missing() -> str:
    """Why this machine can run no node; empty where it can."""
    if os.geteuid() != 0:
        return "a node needs root"
    absent = [name for name in _PROGRAMS if shutil.which(name) is None]
    if not PLUGINS.is_dir():
        absent.append(str(PLUGINS))
    return f"absent: {', '.join(absent)}; `make machine` installs them" if absent else ""


class Node(Cluster):
    """A control plane and one node, with everything in `folder`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.address, self._uplink = _uplink()
        self.plane = ControlPlane(folder, self.address, programs.node())
        super().__init__(self.plane.kubeconfig)
        program = programs.node()
        self._scheduler = self._part(
            "kube-scheduler", program, ["--leader-elect=false", "--secure-port=0"], "scheduler"
        )
        self._containerd = Process("containerd", ["containerd", "--config", self._runtime()], folder / "containerd.log")
        self._kubelet = self._part("kubelet", program, self._kubelet_flags(), "")
        self._proxy = self._part("kube-proxy", program, self._proxy_flags(), "")
        self.processes = [
            self.plane.etcd,
            self.plane.api,
            self.plane.manager,
            self._scheduler,
            self._containerd,
            self._kubelet,
            self._proxy,
        ]

    def start(self) -> None:
        """Start everything, and wait until the node can run pods. Raises RuntimeError where the machine has one."""
        _claim(self.folder)
        _fence("-I", self._uplink)
        self._containerd.start()
        self.plane.start()
        self._scheduler.start()
        self._containerd.until(self._runs_containers)
        self.load(images.pause(PAUSE))
        self._kubelet.start()
        self._proxy.start()
        self._kubelet.until(self._is_ready)

    def load(self, archive: Path) -> None:
        """Give the node an image, from an archive as `docker save` makes it."""
        load(self.folder, archive)

    def stop(self) -> None:
        """End everything, pods first, and leave the machine's network as it was."""
        _end(self.folder, {process.name: process.stop for process in self.processes})

    def _part(self, name: str, program: Path, flags: list[str], user: str) -> Process:
        if user:
            config = self.plane.user(user, f"system:kube-{user}", [])
            flags = [f"--kubeconfig={config}", *flags]
        return Process(name, [program, name, *flags], self.folder / f"{name}.log", self.folder)

    def _runtime(self) -> Path:
        """containerd's configuration: everything of its own, beside whatever else runs containers here."""
        network = self.folder / "cni"
        network.mkdir(exist_ok=True)
        bridge = {
            "type": "bridge",
            "bridge": BRIDGE,
            "isDefaultGateway": True,
            "ipMasq": True,
            "hairpinMode": True,
            "ipam": {"type": "host-local", "dataDir": str(self.folder / "ipam"), "subnet": PODS},
        }
        ports = {"type": "portmap", "capabilities": {"portMappings": True}}
        conflist = {"cniVersion": "0.4.0", "name": NETWORK, "plugins": [bridge, ports]}
        (network / "10-kadre.conflist").write_text(json.dumps(conflist))
        cri = 'plugins."io.containerd.grpc.v1.cri"'
        config = self.folder / "containerd.toml"
        config.write_text(f"""version = 2
root = "{self.folder}/containerd"
state = "{self.folder}/containerd-state"
[grpc]
  address = "{_socket(self.folder)}"
[{cri}]
  sandbox_image = "{PAUSE}"
  # Without this no sandbox starts where the machine withholds CAP_SYS_RESOURCE.
  restrict_oom_score_adj = true
[{cri}.cni]
  bin_dir = "{PLUGINS}"
  conf_dir = "{network}"
[{cri}.containerd.runtimes.runc]
  runtime_type = "io.containerd.runc.v2"
[{cri}.containerd.runtimes.runc.options]
  SystemdCgroup = false
""")
        return config

    def _kubelet_flags(self) -> list[str]:
        authority = self.plane.certificates / "ca.crt"
        config = {
            "apiVersion": "kubelet.config.k8s.io/v1beta1",
            "kind": "KubeletConfiguration",
            "address": self.address,
            "authentication": {
                "anonymous": {"enabled": False},
                "webhook": {"enabled": True},
                "x509": {"clientCAFile": str(authority)},
            },
            "authorization": {"mode": "Webhook"},
            "clusterDNS": [DNS],
            "clusterDomain": DOMAIN,
            "containerRuntimeEndpoint": f"unix://{_socket(self.folder)}",
            "cgroupDriver": "cgroupfs",
            "failCgroupV1": False,
            # Secrets in volumes are looked at again after this; usually a minute.
            "syncFrequency": "5s",
            "failSwapOn": False,
            "enforceNodeAllocatable": [],
            # A test machine's disk may be nearly full, and its images cannot be had again.
            "evictionHard": {"memory.available": "0%", "nodefs.available": "0%", "imagefs.available": "0%"},
            "imageGCHighThresholdPercent": 100,
            "imageGCLowThresholdPercent": 99,
            "podLogsDir": str(self.folder / "pods"),
            "volumePluginDir": str(self.folder / "volume-plugins"),
        }
        file = self.folder / "kubelet.json"
        file.write_text(json.dumps(config))
        user = self.plane.user("kubelet", f"system:node:{NAME}", ["system:nodes"])
        return [
            f"--kubeconfig={user}",
            f"--config={file}",
            f"--root-dir={self.folder / 'kubelet'}",
            f"--cert-dir={self.folder / 'kubelet-certificates'}",
            f"--hostname-override={NAME}",
            f"--node-ip={self.address}",
        ]

    def _proxy_flags(self) -> list[str]:
        config = {
            "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
            "kind": "KubeProxyConfiguration",
            "mode": "iptables",
            "clusterCIDR": PODS,
            "conntrack": {"maxPerCore": 0},
            "clientConnection": {"kubeconfig": str(self.plane.user("proxy", "system:kube-proxy", []))},
            "hostnameOverride": NAME,
        }
        file = self.folder / "kube-proxy.json"
        file.write_text(json.dumps(config))
        return [f"--config={file}"]

    def _runs_containers(self) -> bool:
        return _answers(self.folder)

    def _is_ready(self) -> bool:
        answer = self.kubectl("get", "node", NAME, "-o", "json")
        conditions = json.loads(answer)["status"].get("conditions") or ()
        return any(each["type"] == "Ready" and each["status"] == "True" for each in conditions)


def running() -> Path | None:
    """The folder of the node that runs on this machine, whoever started it."""
    if not CLAIM.is_symlink():
        return None
    folder = CLAIM.readlink()
    return folder if any(processes.running(folder / f"{name}.log") for name in _ORDER) else None


def load(folder: Path, archive: Path) -> None:
    """Give the node in that folder an image, from an archive as `docker save` makes it."""
    _ctr(folder, "images", "import", str(archive))


def end(folder: Path) -> None:
    """End the node in that folder, which another process started, and leave the machine's network as it was."""
    _end(folder, {name: partial(processes.stop, folder / f"{name}.log") for name in _ORDER})


_ORDER = (
    "kube-proxy", "kubelet", "kube-scheduler", "containerd", "kube-controller-manager", "kube-apiserver", "etcd",
)  # fmt: skip
"""In which the parts are ended: first what would bring pods back, last the store."""


def _end(folder: Path, stops: Mapping[str, Callable[[], None]]) -> None:
    for name in _ORDER:
        if name == "containerd":
            _clear(folder)
        stops[name]()
    _fence("-D", _uplink()[1])
    _clean_network()
    _unmount(folder)
    if CLAIM.is_symlink() and CLAIM.readlink() == folder:
        CLAIM.unlink()


def _claim(folder: Path) -> None:
    """Have the machine for the node in that folder. What a node left that nobody ended is cleared away."""
    if found := running():
        raise RuntimeError(
            f"a test cluster runs on this machine already, in {found}: use it by KADRE_TEST_KUBECONFIG,"
            " or end it by `python -m tests.cluster down`"
        )
    if CLAIM.is_symlink():
        end(CLAIM.readlink())
    CLAIM.symlink_to(folder)


def _answers(folder: Path) -> bool:
    with socket.socket(socket.AF_UNIX) as asked:
        asked.connect(str(_socket(folder)))
    return True


def _socket(folder: Path) -> Path:
    return folder / "containerd.sock"


def _ctr(folder: Path, *words: str) -> str:
    command = ["ctr", "--address", str(_socket(folder)), "--namespace", "k8s.io", *words]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def _clear(folder: Path) -> None:
    """End every container: containerd's own end leaves them running. Where it was killed it is needed once more."""
    config = folder / "containerd.toml"
    if config.exists() and not processes.running(folder / "containerd.log"):
        again = Process("containerd", ["containerd", "--config", config], folder / "containerd.log")
        again.start()
        with contextlib.suppress(RuntimeError):
            again.until(partial(_answers, folder), 20)
    with contextlib.suppress(subprocess.CalledProcessError):
        for name in _ctr(folder, "tasks", "list", "-q").split():
            with contextlib.suppress(subprocess.CalledProcessError):
                _ctr(folder, "tasks", "rm", "--force", name)


def _fence(action: str, uplink: str) -> None:
    """Refuse traffic to service addresses that kube-proxy does not know yet: a stranger outside might answer."""
    for chain in ("OUTPUT", "FORWARD"):
        rule = ["-d", SERVICES, "-o", uplink, "-p", "tcp", "-j", "REJECT", "--reject-with", "tcp-reset"]
        subprocess.run(["iptables", action, chain, *rule], check=action == "-I", capture_output=True)


def _clean_network() -> None:
    """Take away the rules, the bridge and the pods' ends that kube-proxy, the kubelet and the network plugin made."""
    leftovers.take_down_pods(NETWORK)
    for command in (
        [str(programs.node()), "kube-proxy", "--cleanup"],
        ["iptables", "-D", "INPUT", "-j", "KUBE-FIREWALL"],
        ["iptables", "-D", "OUTPUT", "-j", "KUBE-FIREWALL"],
        ["ip", "link", "delete", BRIDGE],
    ):
        subprocess.run(command, check=False, capture_output=True)


def _unmount(folder: Path) -> None:
    """Take away what containers and volumes left mounted below the folder, the innermost first."""
    mounts = [line.split()[1] for line in Path("/proc/mounts").read_text().splitlines()]
    for mount in sorted((mount for mount in mounts if mount.startswith(f"{folder}/")), reverse=True):
        subprocess.run(["umount", "--lazy", mount], check=False, capture_output=True)


def _uplink() -> tuple[str, str]:
    """This machine's address, and the interface it is on."""
    words = subprocess.run(
        ["ip", "-4", "route", "get", "192.0.2.1"], check=True, capture_output=True, text=True
    ).stdout.split()
    return words[words.index("src") + 1], words[words.index("dev") + 1]
