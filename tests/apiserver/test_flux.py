"""The example for Flux: what it names is there, the chart takes its values, and its job is the chart's."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from kadre.kube.kinds import Object
from tests.apiserver import chart

pytestmark = pytest.mark.requirement("flux-example")

FLUX = chart.CHART.parents[1] / "examples" / "flux"
RELEASE = "helm.toolkit.fluxcd.io/v2", "HelmRelease"


def objects(path: Path) -> list[Object]:
    return [each for each in yaml.safe_load_all(path.read_text(encoding="utf-8")) if each is not None]


def release() -> Any:
    (found,) = objects(FLUX / "apps" / "base" / "kagent" / "release.yaml")
    return found


def test_the_release_is_where_the_document_edits_it() -> None:
    made = release()
    assert (made["apiVersion"], made["kind"]) == RELEASE
    # kubectl edit helmrelease kagent -n kagent
    assert (made["metadata"]["namespace"], made["metadata"]["name"]) == ("kagent", "kagent")
    source = made["spec"]["chart"]["spec"]["sourceRef"]
    (repository,) = objects(FLUX / "apps" / "base" / "kagent" / "repository.yaml")
    assert (source["kind"], source["name"]) == (repository["kind"], repository["metadata"]["name"])
    assert repository["metadata"]["namespace"] == made["metadata"]["namespace"]
    (chart_file,) = objects(chart.CHART / "Chart.yaml")
    assert made["spec"]["chart"]["spec"]["chart"] == chart_file["name"]
    assert chart_file["version"].startswith(made["spec"]["chart"]["spec"]["version"].rstrip("x"))


def test_the_chart_takes_its_values_and_makes_what_the_document_looks_at(tmp_path: Path) -> None:
    values = tmp_path / "values.yaml"
    values.write_text(yaml.safe_dump(release()["spec"]["values"]))
    made = chart.rendered("kagent", "kagent", values=str(values))
    # kubectl describe externalsecret kagent-openai -n kagent; kubectl get secret kagent-openai -n kagent
    (external,) = [each for each in made if each["kind"] == "ExternalSecret"]
    assert (external["metadata"]["namespace"], external["metadata"]["name"]) == ("kagent", "kagent-openai")
    assert external["spec"]["target"]["name"] == "kagent-openai"


@pytest.mark.parametrize("folder", ["kagent", "agents"])
def test_every_file_that_flux_is_to_apply_is_there(folder: str) -> None:
    base = FLUX / "apps" / "base" / folder
    (listed,) = objects(base / "kustomization.yaml")
    assert listed["resources"]
    assert [name for name in listed["resources"] if not objects(base / name)] == []
    applied = [each for path in sorted((FLUX / "clusters").rglob("*.yaml")) for each in objects(path)]
    assert f"./apps/base/{folder}" in [each["spec"]["path"] for each in applied]


def test_the_definitions_by_hand_are_applied_by_the_charts_own_job() -> None:
    written = objects(FLUX / "apps" / "base" / "kagent" / "release-crds.yaml")
    made = [
        each
        for each in chart.rendered("kagent", "kagent", "image.repository=registry.example.com/kadre", hooks=True)
        if each["metadata"]["name"] == "kagent-crds"
    ]
    for each in made:
        del each["metadata"]["annotations"]
        if each["kind"] == "Job":
            each["spec"]["ttlSecondsAfterFinished"] = 60
    assert sorted(written, key=lambda each: each["kind"]) == sorted(made, key=lambda each: each["kind"])
