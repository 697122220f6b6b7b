"""Objects of other people's kinds, judged by those kinds: those the chart makes, and those of the guide."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

from kadre.kube.kinds import Object
from tests.apiserver import chart
from tests.cluster import addons
from tests.cluster.control_plane import ControlPlane

STRICTLY = ["apply", "--validate=strict", "-f", "-"]
SECRETS = ("providers.openai.existingSecret=openai", "providers.openai.externalSecret.key=keys/openai")


@pytest.fixture(scope="module")
def neighbours(api: ControlPlane) -> ControlPlane:
    """An API with the kinds of the Prometheus operator and of External Secrets."""
    addons.crds(api, "prometheus-operator", "servicemonitors", "prometheusrules")
    addons.crds(api, "external-secrets", "externalsecrets")
    return api


def of(objects: list[Object], *kinds: str) -> list[Object]:
    return [each for each in objects if each["kind"] in kinds]


@pytest.mark.requirement("service-monitor", "external-secret")
def test_their_kinds_take_what_the_chart_makes(neighbours: ControlPlane) -> None:
    made = chart.rendered("default", "kagent", "monitoring.serviceMonitor.enabled=true", *SECRETS)
    theirs = of(made, "ServiceMonitor", "ExternalSecret")
    neighbours.kubectl(*STRICTLY, stdin=yaml.safe_dump_all(theirs))
    assert neighbours.kubectl("get", "servicemonitors", "-o", "name").split() == [
        "servicemonitor.monitoring.coreos.com/kagent-agents",
        "servicemonitor.monitoring.coreos.com/kagent-controller",
        "servicemonitor.monitoring.coreos.com/kagent-gateway",
    ]
    assert "openai" in neighbours.kubectl("describe", "externalsecret", "openai")


@pytest.mark.requirement("service-monitor")
def test_their_kinds_take_the_guides_monitor_and_alerts(neighbours: ControlPlane, seeds: Path) -> None:
    (page,) = seeds.glob("001_*.txt")
    blocks = re.findall(r"^```yaml\n(.*?)^```", page.read_text("utf-8"), re.MULTILINE | re.DOTALL)
    (guide,) = [block for block in blocks if "kind: PrometheusRule" in block]
    neighbours.kubectl("create", "namespace", "observability")
    neighbours.kubectl(*STRICTLY, stdin=guide)
    found = neighbours.kubectl("get", "servicemonitor,prometheusrule", "-n", "observability", "-o", "name")
    assert len(found.split()) == 2
