"""The image that users build and the one that is tested are one: same script, packages, user and entry point."""

from __future__ import annotations

import re

from kadre.operator.children.pod import USER
from tests.architecture import code
from tests.cluster import images

DOCKERFILE = (code.ROOT / "image" / "Dockerfile").read_text(encoding="utf-8")
ROOTFS = (code.ROOT / "image" / "rootfs.sh").read_text(encoding="utf-8")
TESTED = "\n".join((code.ROOT / "tests" / "cluster" / name).read_text("utf-8") for name in ("archive.py", "images.py"))


def test_both_are_made_by_the_script() -> None:
    assert "/kadre/image/rootfs.sh /rootfs" in DOCKERFILE
    assert "COPY --from=made /rootfs/ /" in DOCKERFILE
    assert '"image" / "rootfs.sh"' in TESTED


def test_both_begin_with_the_same_debian_and_packages() -> None:
    installed = re.search(r"FROM debian:trixie-slim AS base\n.*?install \S+ \S+ (.*?) \\", DOCKERFILE, re.DOTALL)
    included = re.search(r"--include=(\S+) \\\n +trixie", ROOTFS)
    assert installed is not None
    assert included is not None
    assert installed[1].split() == included[1].split(",") == images.PACKAGES.split(",")


def test_both_run_as_nobody_with_the_same_entry_point() -> None:
    assert f"USER {USER}:{USER}" in DOCKERFILE
    assert f'"User": "{USER}:{USER}"' in TESTED
    assert f"kadre:x:{USER}:{USER}:" in ROOTFS
    assert 'ENTRYPOINT ["/usr/local/bin/kadre"]' in DOCKERFILE
    assert '["/usr/local/bin/kadre"]' in TESTED
    assert 'image/entrypoint.sh" "$root/usr/local/bin/kadre"' in ROOTFS


def test_what_the_script_needs_is_sent_to_the_build() -> None:
    sent = {line[1:].rstrip("/") for line in (code.ROOT / ".dockerignore").read_text().split() if line.startswith("!")}
    project = code.table("pyproject.toml")["project"]
    assert {"image", "src", "Makefile", "pyproject.toml", "uv.lock", project["readme"]} <= sent
    assert {path for path in sent if not (code.ROOT / path).exists()} == set()
