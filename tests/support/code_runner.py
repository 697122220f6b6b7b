"""`kadre code-runner` as a process of its own, with no right that a pod's has not, and a cluster's keys for it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple

import jwt
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from jwt.algorithms import ECAlgorithm, RSAAlgorithm

from tests.cluster.processes import free_ports

NAMESPACE = "team"
AUDIENCE = "kagent-code-runner"
WITHOUT_RIGHTS = ("setpriv", "--bounding-set=-all", "--inh-caps=-all", "--no-new-privs")
"""What a pod's container has none of either: else root's processes may do what the kernel keeps others from."""


_HIDING = """
import ctypes, errno, os, struct, sys
steps = [(0x20, 0, 0, 0), (0x15, 0, 1, 444), (0x06, 0, 0, 0x50000 | errno.ENOSYS), (0x06, 0, 0, 0x7FFF0000)]
filtered = b"".join(struct.pack("HBBI", *step) for step in steps)
kernel = ctypes.CDLL(None)
program = struct.pack("HxxxxxxP", len(steps), ctypes.cast(ctypes.c_char_p(filtered), ctypes.c_void_p).value)
assert kernel.prctl(38, 1, 0, 0, 0) == 0 and kernel.prctl(22, 2, program, 0, 0) == 0
os.execv(sys.argv[1], sys.argv[1:])
"""
WITHOUT_LANDLOCK = (sys.executable, "-c", _HIDING)
"""Starts what follows on a kernel that knows no such call, as one before 5.13 does."""


class Cluster:
    """Signs tokens as an API server does, and shows the public keys."""

    def __init__(self) -> None:
        self.rsa = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        self.ec = ec.generate_private_key(ec.SECP256R1())

    def keys(self) -> str:
        """As /openid/v1/jwks has them."""
        shown = [
            {**RSAAlgorithm.to_jwk(self.rsa.public_key(), as_dict=True), "kid": "r", "alg": "RS256", "use": "sig"},
            {**ECAlgorithm.to_jwk(self.ec.public_key(), as_dict=True), "kid": "e", "alg": "ES256", "use": "sig"},
        ]
        return json.dumps({"keys": shown})

    def token(self, account: str = f"{NAMESPACE}:helper", kid: str = "r", key: Any = None, **claims: object) -> str:
        """The token of a pod, as a kubelet projects it."""
        said = {"aud": [AUDIENCE], "exp": int(time.time()) + 600, "sub": f"system:serviceaccount:{account}", **claims}
        known = {name: value for name, value in said.items() if value is not None}
        own, algorithm = (self.rsa, "RS256") if kid == "r" else (self.ec, "ES256")
        return jwt.encode(known, key or own, algorithm=algorithm, headers={"kid": kid})


class Runner(NamedTuple):
    """One that serves. `token`: the file of a pod of its namespace; `folder`: where code writes."""

    url: str
    token: Path
    folder: Path
    cluster: Cluster
    pid: int


@contextmanager
def running(
    place: Path, *flags: str, start: Sequence[str] = (), namespace: str = NAMESPACE, keys: str = ""
) -> Iterator[Runner]:
    """Serve until the block ends. `start`: what starts it; `keys`: in place of those of a cluster of its own."""
    cluster, (port,) = Cluster(), free_ports(1)
    known, folder, token = place / "keys", place / "work", place / "token"
    known.mkdir()
    folder.mkdir()
    (known / "jwks.json").write_text(keys or cluster.keys())
    token.write_text(cluster.token())
    words = [sys.executable, "-m", "kadre", "code-runner", f"--namespace={namespace}", f"--keys={known}"]
    words += [f"--folder={folder}", f"--port={port}", "--host=127.0.0.1", *flags]
    walls = WITHOUT_RIGHTS if os.getuid() == 0 else ()
    env = {**os.environ, "CANARY": "of-the-runner"}
    process = subprocess.Popen([*walls, *start, *words], env=env, stderr=subprocess.PIPE)
    try:
        url = f"http://127.0.0.1:{port}"
        _wait(process, url)
        yield Runner(url, token, folder, cluster, process.pid)
    finally:
        process.kill()
        process.communicate()


def _wait(process: subprocess.Popen[bytes], url: str) -> None:
    """Until it answers, or has ended."""
    for _ in range(600):
        try:
            with urllib.request.urlopen(f"{url}/health", timeout=10):
                return
        except (OSError, urllib.error.URLError):
            with suppress(subprocess.TimeoutExpired):
                process.wait(0.05)
                raise AssertionError((process.stderr.read() if process.stderr else b"").decode()) from None
    raise AssertionError("the runner does not answer")
