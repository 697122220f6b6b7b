"""The rights that the controller works with are those that the chart gives it."""

from __future__ import annotations

import re
from collections.abc import Iterable
from itertools import product
from pathlib import Path
from typing import Any

import yaml

from kadre.kube import kinds
from kadre.operator.owned import KINDS
from kadre.operator.rights import KEEP, MAKE, READ, RULES

CHART = Path(__file__).parents[3] / "charts" / "kadre" / "templates" / "rbac.yaml"
ASKED = {(rule.group, resource, verb) for rule in RULES for resource in rule.resources for verb in rule.verbs}


def given(rules: Iterable[Any]) -> set[tuple[str, str, str]]:
    """Every right that some rules of a role give."""
    return {
        (group, resource, verb)
        for rule in rules
        for group in rule["apiGroups"]
        for resource in rule["resources"]
        for verb in rule["verbs"]
    }


def test_the_chart_gives_the_rights_that_the_controller_asks_for_and_no_others() -> None:
    written = re.findall(r'define "kadre.(rules|clusterRules)" -}}\n(.*?){{- end }}', CHART.read_text(), re.DOTALL)
    rules = {name: given(yaml.safe_load(text)) for name, text in written}
    assert rules["rules"] | rules["clusterRules"] == ASKED
    # What a Role can give is in the first, and nothing else.
    away = {each for rule in RULES if not rule.namespaced for each in product([rule.group], rule.resources, rule.verbs)}
    assert rules["clusterRules"] == away


def test_what_is_followed_may_be_followed() -> None:
    for kind in KINDS:
        verbs = {verb for group, resource, verb in ASKED if (group, resource) == (kind.group, kind.plural)}
        assert verbs in (set(READ), set(MAKE), set(KEEP)), kind


def test_no_secret_may_be_written_and_no_right_given_that_the_controller_has_not() -> None:
    assert {verb for group, resource, verb in ASKED if resource == kinds.SECRET.plural} == {"get", "list", "watch"}
    assert not any(verb in {"*", "escalate", "bind", "impersonate"} for _, _, verb in ASKED)
    assert {resource for group, resource, _ in ASKED if group == kinds.ROLE.group} == {"roles", "rolebindings"}
