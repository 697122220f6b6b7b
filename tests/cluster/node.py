"""A whole node: the control plane, scheduler, containerd, kubelet, kube-proxy. Needs root and Debian's packages."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import socket
import subprocess
from pathlib import Path

from tests.cluster import images, programs
from tests.cluster.control_plane import SERVICES, ControlPlane
from tests.cluster.processes import Process

NAME = "node1"
PODS = "10.244.0.0/24"
DNS = "10.96.0.10"
DOMAIN = "cluster.local"
BRIDGE = "kadre0"
PAUSE = "kadre.test/pause:1"
PACKAGES = ("containerd", "runc", "containernetworking-plugins", "iptables", "conntrack", "socat", "debootstrap")
PLUGINS = Path("/usr/lib/cni")
_PROGRAMS = ("containerd", "runc", "iptables", "conntrack", "socat", "debootstrap")


def missing() -> str:
    """Why this machine can run no node; empty where it can."""
    if os.geteuid() != 0:
        return "a node needs root"
    absent = [name for name in _PROGRAMS if shutil.which(name) is None]
    if not PLUGINS.is_dir():
        absent.append(str(PLUGINS))
    return f"absent: {', '.join(absent)}; apt-get install {' '.join(PACKAGES)}" if absent else ""


class Node:
    """A control plane and one node, with everything in `folder`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.address, self._uplink = _uplink()
        self.plane = ControlPlane(folder, self.address)
        self.socket = folder / "containerd.sock"
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

    @property
    def kubeconfig(self) -> Path:
        """Of the cluster's administrator."""
        return self.plane.kubeconfig

    def start(self) -> None:
        """Start everything, and wait until the node can run pods."""
        self._fence("-I")
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
        self._ctr("images", "import", str(archive))

    def stop(self) -> None:
        """End everything, pods first, and leave the machine's network as it was."""
        for process in (self._proxy, self._kubelet, self._scheduler):
            process.stop()
        self._clear()
        self._containerd.stop()
        self.plane.stop()
        self._fence("-D")
        self._clean_network()
        self._unmount()

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
        conflist = {"cniVersion": "0.4.0", "name": "kadre", "plugins": [bridge, ports]}
        (network / "10-kadre.conflist").write_text(json.dumps(conflist))
        cri = 'plugins."io.containerd.grpc.v1.cri"'
        config = self.folder / "containerd.toml"
        config.write_text(f"""version = 2
root = "{self.folder}/containerd"
state = "{self.folder}/containerd-state"
[grpc]
  address = "{self.socket}"
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
            "containerRuntimeEndpoint": f"unix://{self.socket}",
            "cgroupDriver": "cgroupfs",
            "failCgroupV1": False,
            "failSwapOn": False,
            "enforceNodeAllocatable": [],
            # A test machine's disk may be nearly full, and its images cannot be had again.
            "evictionHard": {"memory.available": "0%", "nodefs.available": "0%", "imagefs.available": "0%"},
            "imageGCHighThresholdPercent": 100,
            "imageGCLowThresholdPercent": 99,
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

    def _fence(self, action: str) -> None:
        """Refuse traffic to service addresses that kube-proxy does not know yet: a stranger outside might answer."""
        for chain in ("OUTPUT", "FORWARD"):
            rule = ["-d", SERVICES, "-o", self._uplink, "-p", "tcp", "-j", "REJECT", "--reject-with", "tcp-reset"]
            subprocess.run(["iptables", action, chain, *rule], check=action == "-I", capture_output=True)

    def _clean_network(self) -> None:
        """Take away the rules and the bridge that kube-proxy, the kubelet and the network plugin made."""
        for command in (
            [str(programs.node()), "kube-proxy", "--cleanup"],
            ["iptables", "-D", "INPUT", "-j", "KUBE-FIREWALL"],
            ["iptables", "-D", "OUTPUT", "-j", "KUBE-FIREWALL"],
            ["ip", "link", "delete", BRIDGE],
        ):
            subprocess.run(command, check=False, capture_output=True)

    def _runs_containers(self) -> bool:
        with socket.socket(socket.AF_UNIX) as asked:
            asked.connect(str(self.socket))
        return True

    def _is_ready(self) -> bool:
        answer = self.kubectl("get", "node", NAME, "-o", "json")
        conditions = json.loads(answer)["status"].get("conditions") or ()
        return any(each["type"] == "Ready" and each["status"] == "True" for each in conditions)

    def kubectl(self, *words: str, stdin: str = "") -> str:
        """What kubectl prints. Raises OSError with what it complains of."""
        command = ["kubectl", f"--kubeconfig={self.kubeconfig}", *words]
        done = subprocess.run(command, check=False, input=stdin, capture_output=True, text=True, timeout=120)
        if done.returncode:
            raise OSError(done.stderr.strip())
        return done.stdout

    def _ctr(self, *words: str) -> str:
        command = ["ctr", "--address", str(self.socket), "--namespace", "k8s.io", *words]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout

    def _clear(self) -> None:
        """End every container: containerd's own end leaves them running."""
        with contextlib.suppress(subprocess.CalledProcessError):
            for name in self._ctr("tasks", "list", "-q").split():
                with contextlib.suppress(subprocess.CalledProcessError):
                    self._ctr("tasks", "rm", "--force", name)

    def _unmount(self) -> None:
        """Take away what containers and volumes left mounted below the folder, the innermost first."""
        mounts = [line.split()[1] for line in Path("/proc/mounts").read_text().splitlines()]
        for mount in sorted((mount for mount in mounts if mount.startswith(f"{self.folder}/")), reverse=True):
            subprocess.run(["umount", "--lazy", mount], check=False, capture_output=True)


def _uplink() -> tuple[str, str]:
    """This machine's address, and the interface it is on."""
    words = subprocess.run(
        ["ip", "-4", "route", "get", "192.0.2.1"], check=True, capture_output=True, text=True
    ).stdout.split()
    return words[words.index("src") + 1], words[words.index("dev") + 1]
