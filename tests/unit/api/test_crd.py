"""The CRDs are what Kubernetes 1.25 accepts, and say everything the models know."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from kadre.api import crd
from kadre.api.registry import KINDS
from kadre.api.resource import Spec

pytestmark = pytest.mark.requirement("crds-generated", "crds-of-kagent")

GOLDEN = Path(__file__).parents[2] / "golden" / "crds"
DEFINITIONS = {definition["metadata"]["name"]: definition for definition in crd.crds()}
KNOWN_KEYWORDS = {
    "type",
    "format",
    "description",
    "properties",
    "required",
    "items",
    "additionalProperties",
    "enum",
    "default",
    "minimum",
    "maximum",
    "minLength",
    "maxLength",
    "x-kubernetes-preserve-unknown-fields",
    "x-kubernetes-int-or-string",
    "x-kubernetes-list-type",
    "x-kubernetes-list-map-keys",
}


def schema(name: str) -> dict[str, Any]:
    found: dict[str, Any] = DEFINITIONS[name]["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
    return found


def nodes(node: dict[str, Any], path: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    yield path, node
    for name, part in node.get("properties", {}).items():
        yield from nodes(part, f"{path}.{name}")
    for keyword in ("items", "additionalProperties"):
        if keyword in node:
            yield from nodes(node[keyword], f"{path}[]")


@pytest.mark.parametrize("name", DEFINITIONS)
def test_the_golden_file_is_current(name: str) -> None:
    golden = (GOLDEN / f"{name}.yaml").read_text(encoding="utf-8")
    assert golden == crd.dump(DEFINITIONS[name]), "renew with: make gen"


def test_there_is_a_golden_file_for_each_kind_and_no_other() -> None:
    assert {path.stem for path in GOLDEN.glob("*.yaml")} == set(DEFINITIONS)
    assert len(DEFINITIONS) == len(KINDS)


@pytest.mark.parametrize("name", DEFINITIONS)
def test_every_schema_is_structural(name: str) -> None:
    for path, node in nodes(schema(name)):
        assert set(node) <= KNOWN_KEYWORDS, path
        typeless = node.get("x-kubernetes-preserve-unknown-fields") or node.get("x-kubernetes-int-or-string")
        assert bool(node.get("type")) != bool(typeless) or node.get("type") == "object", path
        assert not ("properties" in node and "additionalProperties" in node), path
        assert set(node.get("required", ())) <= set(node.get("properties", ())), path
        if node.get("type") == "array":
            assert "items" in node, path
        if "default" in node and "enum" in node:
            assert node["default"] in node["enum"], path


@pytest.mark.parametrize("name", DEFINITIONS)
def test_every_field_is_described(name: str) -> None:
    for path, node in nodes(schema(name)):
        if path and not path.endswith("[]") and path != ".metadata":
            assert node.get("description"), path


@pytest.mark.parametrize("name", DEFINITIONS)
def test_every_definition_is_small_and_has_what_kubectl_shows(name: str) -> None:
    definition = DEFINITIONS[name]
    assert len(crd.dump(definition)) <= 100 * 1024
    [version] = definition["spec"]["versions"]
    assert version["subresources"] == {"status": {}}
    assert version["additionalPrinterColumns"][-1]["name"] == "Age"
    assert definition["spec"]["names"]["kind"] in {kind for _, kind in KINDS}


@pytest.mark.parametrize("name", ["agents.kagent.dev", "agenttemplates.kagent.dev", "agents.kaos.tools"])
def test_what_a_template_is_merged_into_has_no_defaults(name: str) -> None:
    assert not [path for path, node in nodes(schema(name)) if "default" in node]


def test_other_kinds_have_their_defaults() -> None:
    defaults = {path: node["default"] for path, node in nodes(schema("tools.kagent.dev")) if "default" in node}
    assert defaults[".spec.api.method"] == "GET"
    assert defaults[".spec.api.timeout"] == 30
    assert isinstance(defaults[".spec.api.timeout"], int)


def test_no_short_name_is_used_twice() -> None:
    taken = [
        name
        for definition in DEFINITIONS.values()
        for name in [*definition["spec"]["names"].get("shortNames", ()), definition["spec"]["names"]["plural"]]
    ]
    assert sorted(name for name in taken if taken.count(name) > 1) == ["agents", "agents"]


def test_every_spelling_is_in_the_schema_so_that_no_cluster_drops_it() -> None:
    properties = schema("agents.kagent.dev")["properties"]["spec"]["properties"]
    assert properties["systemMessage"]["description"] == "Another spelling of systemPrompt."
    scaling = properties["scaling"]["properties"]
    assert "targetCPUUtilization" in scaling
    assert "cpu" in scaling["metrics"]["items"]["properties"]["type"]["enum"]
    assert properties["tools"]["items"]["x-kubernetes-preserve-unknown-fields"] is True
    policy = schema("memorystores.kagent.dev")["properties"]["spec"]["properties"]["policy"]["properties"]
    assert {"ttl", "sessionTTL", "maxHistory", "maxConversationHistory"} <= set(policy)


@pytest.mark.parametrize("model", list(KINDS.values()), ids=lambda kind: kind.__name__)
def test_every_field_of_a_model_is_in_its_schema(model: type[Any]) -> None:
    spec: type[Spec] = model.model_fields["spec"].annotation
    properties = crd.root_schema(model)["properties"]["spec"]["properties"]
    expected = {info.alias or name for name, info in spec.model_fields.items()}
    assert set(properties) == expected | set(spec.spellings) | set(spec.accepts)


def test_the_stream_is_one_document_a_kind() -> None:
    assert [document["metadata"]["name"] for document in yaml.safe_load_all(crd.crd_yaml(crd.crds()))] == list(
        DEFINITIONS
    )
