"""Programs built from Go modules, each once for one state of its sources."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.cluster import cache, modules

HERE = Path(__file__).parent
NEWEST = "1.35.4"
VERSIONS = {"1.35": NEWEST, "1.30": "1.30.14"}
"""The ends of the range that is tested. Below it the module proxy no longer has every part of a release."""
KUBERNETES = VERSIONS[os.environ.get("KADRE_TEST_KUBERNETES") or "1.35"]
"""Of the API that the tests of reconciling have; a node is of the newest."""
_VERSION = "k8s.io/component-base/version"
NO_C = {"CGO_ENABLED": "0"}
UV = HERE.parents[1] / ".uv" / "bin" / "uv"
LLAMA = "llama-cpp-python==0.3.36"
"""The package whose sources have all of llama.cpp."""


def node() -> Path:
    """Kubernetes in one program; four minutes on two cores where the cache has not got it."""
    return _from_here("node", _flags(NEWEST))


def api() -> Path:
    """An API server and a controller manager of the version that is tested."""
    return node() if KUBERNETES == NEWEST else _from_here("older", _flags(KUBERNETES))


def _flags(version: str) -> str:
    major, minor, _ = version.split(".")
    return f"-X {_VERSION}.gitVersion=v{version} -X {_VERSION}.gitMajor={major} -X {_VERSION}.gitMinor={minor}"


def pause() -> Path:
    """What keeps a pod's network alive."""
    return _from_here("pause")


def cert_manager() -> Path:
    """cert-manager in one program."""
    return _from_here("cert-manager")


@dataclass(frozen=True)
class Published:
    """A command that others publish as a Go module."""

    package: str
    version: str


PUBLISHED = {
    "helm": Published("helm.sh/helm/v3/cmd/helm", "v3.22.0"),
    "coredns": Published("github.com/coredns/coredns", "v1.15.0"),
    "metrics-server": Published("sigs.k8s.io/metrics-server/cmd/metrics-server", "v0.9.0"),
}


def published(name: str) -> Path:
    """One of those, at its version."""
    made = PUBLISHED[name]
    target = cache.folder() / "bin" / f"{name}-{made.version}"
    with cache.alone(name):
        if not target.exists():
            target.parent.mkdir(exist_ok=True)
            with _told(name), tempfile.TemporaryDirectory(dir=target.parent) as folder:
                command = ["go", "install", "-trimpath", "-ldflags", "-s -w", f"{made.package}@{made.version}"]
                subprocess.run(command, env=os.environ | NO_C | {"GOBIN": folder}, check=True)
                Path(folder, made.package.rpartition("/")[2]).replace(target)
    return target


@dataclass(frozen=True)
class Within:
    """A command that is built in its own module's folder, as its authors do: what that replaces applies only there."""

    source: str
    package: str


WITHIN = {
    "keda-operator": Within("keda", "./cmd/operator"),
    "keda-adapter": Within("keda", "./cmd/adapter"),
    "keda-webhooks": Within("keda", "./cmd/webhooks"),
    "ollama": Within("ollama", "."),
    "traefik": Within("traefik", "./cmd/traefik"),
}
"""What only some tests need, and takes minutes each."""


def has(name: str) -> bool:
    """Whether one of those is built already."""
    return _within(name).exists()


def within(name: str) -> Path:
    """One of those."""
    made, target = WITHIN[name], _within(name)
    with cache.alone(name):
        if not target.exists():
            env = _with_llama() if name == "ollama" else NO_C
            _build(name, modules.source(made.source), target, package=made.package, env=env)
    return target


def _with_llama() -> Mapping[str, str]:
    """For llama.cpp within Ollama, with the headers that a Go module cannot carry: they are in folders named vendor."""
    headers = cache.folder() / "modules" / LLAMA.replace("==", "-")
    with cache.alone("llama-headers"):
        if not headers.exists():
            headers.parent.mkdir(exist_ok=True)
            with tempfile.TemporaryDirectory(dir=headers.parent) as made:
                command = [str(UV), "tool", "run", "pip", "download", "--quiet", "--no-deps", "--no-binary=:all:"]
                subprocess.run([*command, f"--dest={made}", LLAMA], check=True)
                (archive,) = Path(made).glob("*.tar.gz")
                subprocess.run(["tar", "-C", made, "-xzf", str(archive), "--strip-components=1"], check=True)
                Path(made, "vendor", "llama.cpp", "vendor").rename(headers)
    return {"CGO_ENABLED": "1", "CGO_CPPFLAGS": f"-I{headers}"}


def _within(name: str) -> Path:
    return cache.folder() / "bin" / f"{name}-{modules.SOURCES[WITHIN[name].source].version}"


def _from_here(name: str, flags: str = "") -> Path:
    sources = HERE / "go" / name
    files = [path for path in sources.iterdir() if path.suffix in {".go", ".mod", ".sum"}]
    target = cache.folder() / "bin" / f"{name}-{cache.digest(files, flags)}"
    with cache.alone(name):
        if not target.exists():
            _build(name, sources, target, flags)
    return target


def _build(
    name: str, sources: Path, target: Path, flags: str = "", package: str = ".", env: Mapping[str, str] = NO_C
) -> None:
    target.parent.mkdir(exist_ok=True)
    unfinished = target.with_name(f".{target.name}.{os.getpid()}")
    command = ["go", "build", "-trimpath", "-ldflags", f"-s -w {flags}", "-o", str(unfinished), package]
    with _told(name):
        subprocess.run(command, cwd=sources, env=os.environ | env, check=True)
    unfinished.replace(target)


@contextmanager
def _told(name: str) -> Iterator[None]:
    """Say what takes minutes, on the run's own output: a person waits for it."""
    if shutil.which("go") is None:
        raise RuntimeError(f"building {name} for the test cluster needs Go")
    began = time.monotonic()
    print(f"building {name} for the test cluster …", file=sys.stderr, flush=True)
    yield
    print(f"built {name} in {time.monotonic() - began:.0f} s", file=sys.stderr, flush=True)
