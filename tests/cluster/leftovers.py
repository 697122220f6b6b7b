"""What a test run that was killed leaves on the machine: programs that it had started, and the network of its pods.

Each is known by a record: never by a name that somebody else's may have, too.
"""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

from tests.cluster import cache, processes

RESULTS = Path("/var/lib/cni/results")
"""Where the library of container networks notes what it has made for a container."""


def end_programs() -> list[str]:
    """End the programs of runs that are no more; their names."""
    ended = []
    for record in processes.records():
        if record.orphaned and not record.log.is_relative_to(cache.folder() / "cluster"):
            processes.end(record.pid, record.born)
            ended.append(record.log.stem)
        if record.orphaned or not record.running:
            record.forget()
    return ended


def take_down_pods(network: str) -> None:
    """Take away what pods of that network had, whose containers are no more."""
    for note in RESULTS.glob(f"{network}-*"):
        told = json.loads(note.read_text())
        for made in told["result"]["interfaces"]:
            if sandbox := made.get("sandbox"):
                subprocess.run(["ip", "netns", "delete", Path(sandbox).name], check=False, capture_output=True)
            elif _is(made["name"], made["mac"]) and made["name"].startswith("veth"):
                subprocess.run(["ip", "link", "delete", made["name"]], check=False, capture_output=True)
        for each in RESULTS.glob(f"*-{told['containerId']}-*"):
            each.unlink(missing_ok=True)


def _is(name: str, address: str) -> bool:
    try:
        return Path("/sys/class/net", name, "address").read_text().strip() == address
    except OSError:
        return False
