"""Images of the test cluster, each made once for one state of what goes into it."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.cluster import archive, cache, programs

ROOT = Path(__file__).parents[2]
KADRE = "kadre.test/kadre:1"
LITELLM = "kadre.test/litellm:1"
LITELLM_VERSION = "1.108.7"
CERT_MANAGER = "kadre.test/cert-manager-{}:1"
PACKAGES = "python3-minimal,libpython3-stdlib,ca-certificates,curl"


def pause(name: str) -> Path:
    """The image of pods' sandboxes, as an archive."""
    return _of(programs.pause(), name, [])


def of_program(name: str) -> Path:
    """An image of a published program and nothing else, as an archive: `kadre.test/NAME:1`."""
    return _of(programs.published(name), f"kadre.test/{name}:1", [])


def of_built(name: str) -> Path:
    """The same of one of the programs that only some tests need."""
    return _of(programs.within(name), f"kadre.test/{name}:1", [])


def cert_manager(part: str) -> Path:
    """An image of cert-manager's controller, webhook or cainjector, as an archive."""
    return _of(programs.cert_manager(), CERT_MANAGER.format(part), [part])


def prometheus() -> Path:
    """An image of Debian's Prometheus, as an archive: `kadre.test/prometheus:1`."""
    target = cache.folder() / "images" / "prometheus-debian.tar"
    with cache.alone("prometheus-image"):
        if not target.exists():
            with folder() as root, folder() as package:
                subprocess.run(["tar", "-C", root, "-xf", base()], check=True)
                command = ["apt-get", "-q", "-o", "APT::Sandbox::User=root", "download", "prometheus"]
                subprocess.run(command, cwd=package, check=True, stdout=subprocess.DEVNULL)
                (archived,) = package.glob("*.deb")
                subprocess.run(["dpkg", "-x", archived, root], check=True)
                _packed(root, target, "kadre.test/prometheus:1", ["/usr/bin/prometheus"])
    return target


def _of(program: Path, name: str, words: list[str]) -> Path:
    target = cache.folder() / "images" / f"{'-'.join([program.name, *words])}.tar"
    with cache.alone(f"{target.stem}-image"):
        if not target.exists():
            with folder() as root:
                shutil.copy(program, root / "program")
                _packed(root, target, name, ["/program", *words])
    return target


def kadre(name: str = KADRE) -> Path:
    """Kadre's own image, as an archive."""
    sources = [path for folder in ("src", "image") for path in (ROOT / folder).rglob("*") if path.is_file()]
    sources = [path for path in sources if "__pycache__" not in path.parts]
    state = cache.digest([*sources, ROOT / "uv.lock", ROOT / "pyproject.toml"], name)
    target = cache.folder() / "images" / f"kadre-{state}.tar"
    with cache.alone("kadre-image"):
        if not target.exists():
            for old in target.parent.glob("kadre-*.tar"):
                old.unlink()
            with folder() as root:
                subprocess.run(["tar", "-C", root, "-xf", base()], check=True)
                subprocess.run([ROOT / "image" / "rootfs.sh", root], check=True)
                _packed(root, target, name, ["/usr/local/bin/kadre"])
    return target


def litellm() -> Path:
    """LiteLLM's proxy, which is a Python package, as an archive: two minutes, once."""
    target = cache.folder() / "images" / f"litellm-{LITELLM_VERSION}.tar"
    with cache.alone("litellm-image"):
        if not target.exists():
            with folder() as root:
                subprocess.run(["tar", "-C", root, "-xf", base()], check=True)
                command = [str(ROOT / ".uv" / "bin" / "uv"), "pip", "install", "--quiet", "--python-version=3.13"]
                command += ["--python-platform=x86_64-manylinux_2_36", "--only-binary=:all:", "--compile-bytecode"]
                packages = root / "opt" / "litellm"
                subprocess.run([*command, f"--target={packages}", f"litellm[proxy]=={LITELLM_VERSION}"], check=True)
                for unused in ("litellm/proxy/_experimental/out", "_polars_runtime_32", "polars"):
                    shutil.rmtree(packages / unused, ignore_errors=True)
                script = "from litellm import run_server; run_server()"
                entrypoint = ["/usr/bin/env", "PYTHONPATH=/opt/litellm", "python3", "-P", "-c", script]
                _packed(root, target, LITELLM, entrypoint)
    return target


def base() -> Path:
    """Debian before anything of ours: half a minute that no change of Kadre's costs again."""
    target = cache.folder() / "images" / f"debian-{cache.digest([], PACKAGES)}.tar"
    with cache.alone("debian-image"):
        if not target.exists():
            target.parent.mkdir(parents=True, exist_ok=True)
            with folder() as root:
                command = ["debootstrap", "--variant=minbase", f"--include={PACKAGES}", "trixie", str(root)]
                subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
                unfinished = target.with_suffix(".unfinished")
                subprocess.run(["tar", "--numeric-owner", "-C", root, "-cf", unfinished, "."], check=True)
                unfinished.replace(target)
    return target


def _packed(root: Path, target: Path, name: str, entrypoint: list[str]) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    unfinished = target.with_suffix(".unfinished")
    archive.pack(root, unfinished, name, entrypoint)
    unfinished.replace(target)


@contextmanager
def folder() -> Iterator[Path]:
    """A folder for a root filesystem, as long as it is wanted."""
    made = Path(tempfile.mkdtemp(prefix="kadre-rootfs-"))
    made.chmod(0o755)
    try:
        yield made
    finally:
        shutil.rmtree(made)
