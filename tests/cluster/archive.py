"""Container images without a registry: a root filesystem as an archive that container runtimes import."""

from __future__ import annotations

import hashlib
import io
import json
import subprocess
import tarfile
from collections.abc import Mapping, Sequence
from pathlib import Path


def pack(
    root: Path,
    target: Path,
    name: str,
    entrypoint: Sequence[str],
    env: Mapping[str, str] | None = None,
    words: Sequence[str] = (),
) -> None:
    """Write the folder as an image of one layer, in the form of `docker save`. `words`: where a pod gives none."""
    layer = target.with_suffix(".layer.tar")
    command = ["tar", "--sort=name", "--mtime=@0", "--numeric-owner", "-C", str(root), "-cf", str(layer), "."]
    subprocess.run(command, check=True)
    try:
        with layer.open("rb") as file:
            diff = hashlib.file_digest(file, "sha256").hexdigest()
        config = {
            "architecture": "amd64",
            "os": "linux",
            "config": {
                "Entrypoint": list(entrypoint),
                "Cmd": list(words),
                "Env": [f"{key}={value}" for key, value in {"PATH": _PATH, **(env or {})}.items()],
                "WorkingDir": "/",
                "User": "10001:10001",
            },
            "rootfs": {"type": "layers", "diff_ids": [f"sha256:{diff}"]},
            "history": [{"created_by": "image/rootfs.sh"}],
        }
        manifest = [{"Config": "config.json", "RepoTags": [name], "Layers": ["layer.tar"]}]
        with tarfile.open(target, "w") as archive:
            archive.add(layer, "layer.tar")
            for file_name, value in (("config.json", config), ("manifest.json", manifest)):
                data = json.dumps(value).encode()
                info = tarfile.TarInfo(file_name)
                info.size = len(data)
                archive.addfile(info, io.BytesIO(data))
    finally:
        layer.unlink()


_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
