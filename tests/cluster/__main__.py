"""`python -m tests.cluster`: a cluster of one node, for as long as it is wanted and from any shell."""

from __future__ import annotations

import argparse
import os
import shutil
import sys
import time
from collections.abc import Callable

from tests.cluster import addons, cache, images, leftovers, modules, node, programs
from tests.cluster.node import Node


def build_api() -> None:
    """Build what the tests of reconciling need: Kubernetes in one program, and helm. Needs Go"""
    programs.node()
    programs.api()
    programs.published("helm")


def build() -> None:
    """Build everything that the end to end tests need, images too. Needs Go and root"""
    build_api()
    images.pause(node.PAUSE)
    for name in addons.PROGRAMS:
        images.of_program(name)
    for part in addons.CERT_MANAGER:
        images.cert_manager(part)
    modules.cert_manager_chart()
    for name in modules.CRDS:
        modules.crds(name)
    images.kadre()
    if os.environ.get("KADRE_REQUIRE") == "all":
        build_all()


def build_all() -> None:
    """Build what only some end to end tests need: KEDA, Ollama, Traefik. `build` does it with KADRE_REQUIRE=all"""
    for parts in addons.OPTIONAL.values():
        for image in parts.values():
            image()


def up() -> None:
    """Start a node with Kadre's image, names and metrics, building what is missing"""
    if node.running() is None:
        sweep()
        build()
        began = time.monotonic()
        folder = cache.folder() / "cluster"
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        made = Node(folder)
        try:
            made.start()
            addons.usual(made)
        except BaseException:
            made.stop()
            raise
        print(f"started in {time.monotonic() - began:.0f} s")
    status()


def load() -> None:
    """Give the running node Kadre's image as the sources make it now; new pods run it"""
    folder = node.running()
    if folder is None:
        sys.exit("no test cluster runs on this machine: python -m tests.cluster up")
    node.load(folder, images.kadre())
    print(f"loaded {images.KADRE}")


def down() -> None:
    """End the node that runs on this machine, and clear away what it or a killed test left"""
    if node.CLAIM.is_symlink():
        node.end(node.CLAIM.readlink())
        print("ended")
    else:
        print("no test cluster runs on this machine")
    sweep()


def sweep() -> None:
    """End what runs that were killed have left, and nothing of those that go on"""
    if node.running() is None and node.CLAIM.is_symlink():
        node.end(node.CLAIM.readlink())
    for name in leftovers.end_programs():
        print(f"ended {name}, which a killed run had left")


def status() -> None:
    """Say whether a node runs on this machine, and how to use it"""
    folder = node.running()
    if folder is None:
        print("no test cluster runs on this machine")
    else:
        print(f"export KUBECONFIG={folder / 'admin.kubeconfig'}")
        print(f"export KADRE_TEST_KUBECONFIG={folder / 'admin.kubeconfig'}")


COMMANDS: dict[str, Callable[[], None]] = {
    "build-api": build_api, "build": build, "build-all": build_all,
    "up": up, "load": load, "down": down, "sweep": sweep, "status": status,
}  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.cluster", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    for name, act in COMMANDS.items():
        commands.add_parser(name, help=act.__doc__, description=act.__doc__)
    act = COMMANDS[parser.parse_args().command]
    missing = "" if act is build_api or act is status else node.missing()
    if missing:
        sys.exit(f"this machine can run no test cluster: {missing}")
    try:
        act()
    except (OSError, RuntimeError) as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
