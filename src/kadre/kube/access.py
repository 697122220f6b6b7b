"""How the API is reached, and as whom: from within a pod, else by a kubeconfig."""

from __future__ import annotations

import base64
import os
import ssl
import tempfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

POD_FOLDER = Path("/var/run/secrets/kubernetes.io/serviceaccount")
"""Where Kubernetes puts a pod's identity."""


@dataclass(frozen=True)
class Access:
    """An API server and our identity there. `token_file` is read again as the kubelet renews it."""

    server: str
    tls: ssl.SSLContext | None
    namespace: str = "default"
    token: str = field(default="", repr=False)
    token_file: Path | None = field(default=None)

    def headers(self) -> dict[str, str]:
        """What says who we are."""
        token = self.token_file.read_text().strip() if self.token_file is not None else self.token
        return {"Authorization": f"Bearer {token}"} if token else {}


def found(environ: Mapping[str, str] = os.environ, pod: Path = POD_FOLDER) -> Access:
    """The API of the cluster we run in, else that of the kubeconfig's current context. Raises LookupError."""
    host, port = environ.get("KUBERNETES_SERVICE_HOST", ""), environ.get("KUBERNETES_SERVICE_PORT", "443")
    if host and (pod / "token").exists() and "KUBECONFIG" not in environ:
        shown = f"[{host}]" if ":" in host else host
        tls = ssl.create_default_context(cafile=str(pod / "ca.crt"))
        return Access(f"https://{shown}:{port}", tls, (pod / "namespace").read_text().strip(), "", pod / "token")
    return by_kubeconfig(Path(environ.get("KUBECONFIG") or Path("~/.kube/config").expanduser()))


def by_kubeconfig(path: Path) -> Access:
    """The current context of a kubeconfig. Raises LookupError where it cannot be used."""
    try:
        config = yaml.safe_load(path.read_text())
        context = _named(config["contexts"], config["current-context"])["context"]
        cluster = _named(config["clusters"], context["cluster"])["cluster"]
        user = _named(config.get("users") or [], context.get("user") or "").get("user") or {}
        server = str(cluster["server"]).rstrip("/")
    except yaml.YAMLError as error:  # which would quote the line, and that may be one with a secret
        mark = getattr(error, "problem_mark", None)
        where = f"line {mark.line + 1}: {getattr(error, 'problem', '')}" if mark is not None else "it is no YAML"
        raise LookupError(f"no cluster to work with: {path} is no usable kubeconfig ({where})") from None
    except (OSError, KeyError, TypeError) as error:
        raise LookupError(f"no cluster to work with: {path} is no usable kubeconfig ({error})") from error
    if "exec" in user or "auth-provider" in user:
        raise LookupError(f"{path}: a user that logs in by a program is not supported; use a token or a certificate")
    tls = _trust(cluster, path.parent)
    if "client-certificate-data" in user:
        _present(tls, _decoded(user["client-certificate-data"]), _decoded(user["client-key-data"]))
    elif "client-certificate" in user:
        tls.load_cert_chain(path.parent / user["client-certificate"], path.parent / user["client-key"])
    file = path.parent / user["tokenFile"] if "tokenFile" in user else None
    secure = tls if server.startswith("https:") else None
    return Access(server, secure, context.get("namespace") or "default", user.get("token") or "", file)


def _trust(cluster: Mapping[str, Any], folder: Path) -> ssl.SSLContext:
    if "certificate-authority-data" in cluster:
        return ssl.create_default_context(cadata=_decoded(cluster["certificate-authority-data"]).decode())
    if "certificate-authority" in cluster:
        return ssl.create_default_context(cafile=folder / cluster["certificate-authority"])
    tls = ssl.create_default_context()
    if cluster.get("insecure-skip-tls-verify"):
        tls.check_hostname, tls.verify_mode = False, ssl.CERT_NONE
    return tls


def _named(entries: Iterable[Mapping[str, Any]], name: str) -> Mapping[str, Any]:
    return next((entry for entry in entries if entry["name"] == name), {})


def _decoded(text: str) -> bytes:
    return base64.b64decode(text)


def _present(tls: ssl.SSLContext, certificate: bytes, key: bytes) -> None:
    """Show this certificate to the server. `ssl` takes it from a file only."""
    with tempfile.NamedTemporaryFile() as file:
        file.write(certificate + b"\n" + key)
        file.flush()
        tls.load_cert_chain(file.name)
