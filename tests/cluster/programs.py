"""Programs built from Go modules, each once for one state of its sources."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

from tests.cluster import cache

HERE = Path(__file__).parent
KUBERNETES = "1.35.4"
_VERSION = "k8s.io/component-base/version"
_MAJOR, _MINOR, _ = KUBERNETES.split(".")
NODE_FLAGS = f"-X {_VERSION}.gitVersion=v{KUBERNETES} -X {_VERSION}.gitMajor={_MAJOR} -X {_VERSION}.gitMinor={_MINOR}"


def node() -> Path:
    """Kubernetes in one program; four minutes on two cores where the cache has not got it."""
    return _from_here("node", NODE_FLAGS)


def pause() -> Path:
    """What keeps a pod's network alive."""
    return _from_here("pause")


def _from_here(name: str, flags: str = "") -> Path:
    sources = HERE / name
    files = [path for path in sources.iterdir() if path.suffix in {".go", ".mod", ".sum"}]
    target = cache.folder() / "bin" / f"{name}-{cache.digest(files, flags)}"
    with cache.alone(name):
        if not target.exists():
            _build(name, sources, ".", target, flags)
    return target


def _build(name: str, sources: Path, package: str, target: Path, flags: str) -> None:
    if shutil.which("go") is None:
        raise RuntimeError(f"building {name} for the test cluster needs Go")
    began = time.monotonic()
    print(f"building {name} for the test cluster …", file=sys.stderr, flush=True)  # noqa: T201
    target.parent.mkdir(parents=True, exist_ok=True)
    unfinished = target.with_name(f".{target.name}.{os.getpid()}")
    command = ["go", "build", "-trimpath", "-ldflags", f"-s -w {flags}", "-o", str(unfinished), package]
    subprocess.run(command, cwd=sources, env=os.environ | {"CGO_ENABLED": "0"}, check=True)
    unfinished.replace(target)
    print(f"built {name} in {time.monotonic() - began:.0f} s", file=sys.stderr, flush=True)  # noqa: T201
