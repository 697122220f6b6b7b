"""What a killed test run has left is ended by its record, and what others run is not."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cluster import leftovers, processes
from tests.cluster.processes import Process

ROOT = Path(__file__).parents[2]
KILLED = """
import os, sys
from pathlib import Path
from tests.cluster.processes import Process
left = Process("left", ["sleep", "600"], Path(sys.argv[1]))
left.start()
print(left.pid, flush=True)
os.kill(os.getpid(), 9)
"""


def test_a_program_of_a_run_that_was_killed_is_ended_and_that_of_a_run_that_goes_on_is_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KADRE_CACHE", str(tmp_path))
    mine = Process("mine", ["sleep", "600"], tmp_path / "mine.log")
    mine.start()
    try:
        command = [sys.executable, "-c", KILLED, str(tmp_path / "left.log")]
        killed = subprocess.run(command, cwd=ROOT, check=False, capture_output=True, text=True)
        handle = os.pidfd_open(int(killed.stdout))
        os.close(handle)
        assert leftovers.end_programs() == ["left"]
        assert not processes.running(tmp_path / "left.log")
        assert not mine.ended
        assert [record.pid for record in processes.records()] == [mine.pid]
    finally:
        mine.stop()
    assert processes.records() == []


@pytest.mark.needs("own-cluster")
def test_the_network_of_a_pod_that_is_no_more_is_taken_down_and_nobody_elses(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(leftovers, "RESULTS", tmp_path)
    # No namespace is added: `ip netns add` mounts over those of a node that runs here, whose pods then never end.
    ours, others = f"veth{os.getpid() % 100000}a", f"veth{os.getpid() % 100000}b"
    for name in (ours, others):
        ip("link", "add", name, "type", "veth", "peer", "name", f"{name}x")
    try:
        address = Path("/sys/class/net", ours, "address").read_text().strip()
        made = [
            {"name": ours, "mac": address},
            {"name": others, "mac": "00:00:00:00:00:01"},  # it has had the name since
            {"name": "eth0", "mac": "00:00:00:00:00:02", "sandbox": f"/var/run/netns/kadre-{os.getpid()}-gone"},
        ]
        note = json.dumps({"containerId": "c1", "result": {"interfaces": made}})
        for name in ("ours-c1-eth0", "cni-loopback-c1-lo"):
            (tmp_path / name).write_text(note)
        (tmp_path / "theirs-c2-eth0").write_text(note)
        leftovers.take_down_pods("ours")
        assert [each.name for each in tmp_path.iterdir()] == ["theirs-c2-eth0"]
        assert not Path("/sys/class/net", ours).exists()
        assert Path("/sys/class/net", others).exists()
    finally:
        ip("link", "delete", others)


def ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True, capture_output=True)
