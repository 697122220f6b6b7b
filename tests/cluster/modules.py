"""Files that others publish inside Go modules: kinds of resources, a chart, and whole sources."""

from __future__ import annotations

import json
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

from tests.cluster import cache


@dataclass(frozen=True)
class Module:
    """A Go module at a version, and its folder that is wanted."""

    path: str
    version: str
    folder: str


CRDS = {
    "prometheus-operator": Module(
        "github.com/prometheus-operator/prometheus-operator", "v0.85.0", "example/prometheus-operator-crd"
    ),
    "external-secrets": Module("github.com/external-secrets/external-secrets", "v1.3.2", "config/crds/bases"),
    "gateway-api": Module("sigs.k8s.io/gateway-api", "v1.4.0", "config/crd/standard"),
}
SOURCES = {
    "keda": Module("github.com/kedacore/keda/v2", "v2.20.2", ""),
    "ollama": Module("github.com/ollama/ollama", "v0.17.4", ""),
    # 3.7 cannot be built from its module alone.
    "traefik": Module("github.com/traefik/traefik/v3", "v3.6.12", ""),
}
_CERT_MANAGER = Module("github.com/cert-manager/cert-manager", "v1.11.5", "deploy")


def crds(name: str) -> list[Path]:
    """The CRDs of one of those."""
    return sorted(path for path in _folder(name, CRDS[name]).glob("*.yaml") if path.name != "kustomization.yaml")


def source(name: str) -> Path:
    """The folder of one of `SOURCES`."""
    return _folder(name, SOURCES[name])


def cert_manager_chart() -> Path:
    """The folder of cert-manager's chart, with its CRDs."""
    deploy = _folder("cert-manager", _CERT_MANAGER)
    chart = deploy / "charts" / "cert-manager"
    with cache.alone("cert-manager-chart"):
        if not (chart / "Chart.yaml").exists():
            # Its release does this.
            for crd in (deploy / "crds").glob("crd-*.yaml"):
                shutil.copy(crd, chart / "templates")
            text = (chart / "Chart.template.yaml").read_text()
            (chart / "Chart.yaml").write_text(text.replace("v0.1.0", _CERT_MANAGER.version))
    return chart


def _folder(name: str, module: Module) -> Path:
    """A copy of the module's folder."""
    target = cache.folder() / "modules" / f"{name}-{module.version}"
    with cache.alone(f"{name}-module"):
        if not target.exists():
            target.parent.mkdir(exist_ok=True)
            with tempfile.TemporaryDirectory(dir=target.parent) as made:
                command = ["go", "mod", "download", "-json", f"{module.path}@{module.version}"]
                done = subprocess.run(command, cwd=made, capture_output=True, text=True, check=False)
                if done.returncode:
                    raise RuntimeError(f"{module.path}@{module.version}: {done.stdout}{done.stderr}")
                # The module cache is read-only, the copy's files need not be.
                copy = shutil.copytree(
                    Path(json.loads(done.stdout)["Dir"], module.folder), Path(made, name), copy_function=shutil.copyfile
                )
                for folder in (copy, *(path for path in copy.rglob("*") if path.is_dir())):
                    folder.chmod(0o755)
                copy.rename(target)
    return target
