"""Has kubectl do what it does best: it knows every way to log in to a cluster."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator

from kadre.base.errors import KadreError, shorten

_FORWARDING = re.compile(r"Forwarding from (127\.0\.0\.1:\d+)")


def run(*words: str, stdin: str = "") -> str:
    """What it prints. Raises KadreError with what it complains of."""
    command = [_program(), *words]
    done = subprocess.run(command, check=False, input=stdin, capture_output=True, text=True)  # noqa: S603 - kubectl's
    if done.returncode:
        complaint = shorten(done.stderr.strip().removeprefix("error: ") or done.stdout.strip())
        raise KadreError(f"kubectl {' '.join(words[:2])}: {complaint}")
    return done.stdout


def become(*words: str) -> None:
    """Be kubectl from here on: its output, its exit code."""
    program = _program()
    sys.stdout.flush()
    os.execv(program, [program, *words])  # noqa: S606 - the words are the person's own


@contextlib.contextmanager
def forwarded(namespace: str, target: str, port: int) -> Iterator[str]:
    """The address on this machine at which a port of the cluster answers meanwhile. Raises KadreError."""
    words = [_program(), "port-forward", *(["-n", namespace] if namespace else []), target, f":{port}"]
    pipe = subprocess.PIPE
    with subprocess.Popen(words, stdout=pipe, stderr=pipe, text=True) as process:  # noqa: S603 - kubectl's own words
        try:
            found = _FORWARDING.match(process.stdout.readline() if process.stdout else "")
            if found is None:
                complaint = process.stderr.read() if process.stderr else ""
                raise KadreError(f"{target} cannot be reached: {shorten(complaint.strip().removeprefix('error: '))}")
            yield f"http://{found[1]}"
        finally:
            process.terminate()


def _program() -> str:
    found = shutil.which("kubectl")
    if found is None:
        raise KadreError("kubectl is not on the PATH: install it (kubernetes.io/docs/tasks/tools), it reaches clusters")
    return found
