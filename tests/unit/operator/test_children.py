"""The objects an agent becomes."""

from __future__ import annotations

import json

import pytest
import yaml

from scripts import children

TEXTS = children.texts()
MADE = {name: list(yaml.safe_load_all(text)) for name, text in TEXTS.items()}


@pytest.mark.requirement("operator-resources", "operator-health-check")
@pytest.mark.parametrize("name", TEXTS)
def test_the_golden_file_is_current(name: str) -> None:
    assert (children.FOLDER / name).read_text(encoding="utf-8") == TEXTS[name], "renew with: make gen"


@pytest.mark.parametrize("name", TEXTS)
def test_no_secret_is_in_any_object(name: str) -> None:
    assert "sk-never-shown" not in TEXTS[name]


@pytest.mark.parametrize("name", TEXTS)
def test_pods_keep_to_the_restricted_standard(name: str) -> None:
    (deployment,) = [made for made in MADE[name] if made["kind"] == "Deployment"]
    pod = deployment["spec"]["template"]["spec"]
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    for container in (*pod["containers"], *pod.get("initContainers", ())):
        assert container["securityContext"] == {
            "allowPrivilegeEscalation": False,
            # Images of others may need to write.
            "readOnlyRootFilesystem": container["image"] == children.SETTINGS.image,
            "capabilities": {"drop": ["ALL"]},
        }
    assert pod["automountServiceAccountToken"] is False


def test_a_pod_has_time_for_its_longest_run() -> None:
    (deployment,) = [made for made in MADE["scaled.yaml"] if made["kind"] == "Deployment"]
    (plan_map,) = [made for made in MADE["scaled.yaml"] if made["kind"] == "ConfigMap"]
    deadline = json.loads(plan_map["data"]["plan.json"])["limits"]["deadline"]
    assert deployment["spec"]["template"]["spec"]["terminationGracePeriodSeconds"] == deadline + 15


def test_the_number_of_pods_is_left_to_an_autoscaler_where_there_is_one() -> None:
    def replicas(name: str) -> int | None:
        (deployment,) = [made for made in MADE[name] if made["kind"] == "Deployment"]
        found: int | None = deployment["spec"].get("replicas")
        return found

    assert (replicas("minimal.yaml"), replicas("scaled.yaml")) == (1, None)
