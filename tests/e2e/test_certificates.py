"""The webhook with a certificate of cert-manager, as the guide's values ask for it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.e2e.conftest import CHART, Terminal
from tests.e2e.test_agents import WRONG

pytestmark = pytest.mark.timeout(300)
ISSUER = "kagent-selfsigned-issuer"
VALUES = ["certManager.enabled=true", f"certManager.issuerRef.name={ISSUER}", "certManager.issuerRef.kind=Issuer"]
HOOKS = ("validatingwebhookconfiguration", "mutatingwebhookconfiguration")
SECONDS = 60.0
"""In which the API server trusts the certificate and a replica shows it: Secrets are looked at every few seconds."""


@pytest.fixture
def managed(cert_manager: None, installed: Terminal) -> Iterator[Terminal]:
    """The installation with the guide's values; the others' again afterwards."""
    changed = [f"--set=webhook.{value}" for value in VALUES]
    installed.helm("upgrade", "kagent", str(CHART), "--reuse-values", "--wait", *changed)
    yield installed
    installed.helm("rollback", "kagent", "--wait")
    in_time("the webhook serves again with its own certificate", lambda: refusal(installed))


@pytest.mark.requirement("chart-cert-manager")
def test_the_webhook_answers_with_a_certificate_of_cert_manager(managed: Terminal, terminal: Terminal) -> None:
    managed.kubectl("wait", "--for=condition=Ready", f"issuer/{ISSUER}", "certificate/kagent-webhook", "--timeout=60s")
    authority = managed.get("secret", "kagent-webhook-cert-manager")["data"]["ca.crt"]
    in_time("the API server trusts cert-manager's authority", lambda: trusted(managed) == {authority})
    said = in_time("the webhook serves with its certificate", lambda: refusal(terminal))
    assert 'admission webhook "validate.kagent.dev" denied the request' in said
    assert "minReplicas 3 is more than maxReplicas 2" in said


def trusted(terminal: Terminal) -> set[str]:
    """Whom the API server trusts at the webhooks' address."""
    configurations = [terminal.get(kind, "kagent-webhook") for kind in HOOKS]
    return {hook["clientConfig"].get("caBundle", "") for each in configurations for hook in each["webhooks"]}


def refusal(terminal: Terminal) -> str:
    """What is said of a wrong agent; empty where it is taken as it is."""
    try:
        terminal.kubectl("apply", "--dry-run=server", "-f", "-", stdin=WRONG)
    except AssertionError as error:
        return str(error)
    return ""


def in_time(what: str, look: Callable[[], Any]) -> Any:
    """What is found as soon as something is."""
    end = time.monotonic() + SECONDS
    while time.monotonic() < end:
        if found := look():
            return found
    raise AssertionError(f"not in {SECONDS:.0f} s: {what}")
