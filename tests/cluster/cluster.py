"""A cluster as its administrator sees it: one of ours, or one that is there (KADRE_TEST_KUBECONFIG)."""

from __future__ import annotations

import subprocess
from pathlib import Path


class Cluster:
    """`kubeconfig`: of the cluster's administrator."""

    def __init__(self, kubeconfig: Path) -> None:
        self.kubeconfig = kubeconfig

    def kubectl(self, *words: str, stdin: str = "") -> str:
        """What kubectl prints. Raises OSError with what it complains of."""
        command = ["kubectl", f"--kubeconfig={self.kubeconfig}", *words]
        done = subprocess.run(command, check=False, input=stdin, capture_output=True, text=True, timeout=120)
        if done.returncode:
            raise OSError(done.stderr.strip())
        return done.stdout
