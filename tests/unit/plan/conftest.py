"""What the tests of planning share: manifests in, plans and Problems out."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from textwrap import dedent

import pytest

from kadre.api import manifest
from kadre.base.problems import errors
from kadre.plan.build import AllPlanned, plan_all
from kadre.plan.lookup import Resources
from kadre.plan.types import Override


def read(text: str, env: Mapping[str, str] | None = None, exported: Mapping[str, str] | None = None) -> Resources:
    """A Lookup over one file of manifests, all of which must be right by themselves."""
    loaded = manifest.load(dedent(text), "agents.yaml")
    assert not errors(loaded.problems), loaded.problems
    return Resources(
        loaded.resources,
        {(doc.namespace, doc.name): doc.values for doc in loaded.secrets},
        env,
        exported=exported,
        config_maps={(doc.namespace, doc.name): doc.values for doc in loaded.config_maps},
        services=loaded.services,
    )


@pytest.fixture
def lookup() -> Callable[..., Resources]:
    """`lookup(text, env)`: what a plan of these manifests can see."""
    return read


@pytest.fixture
def planned() -> Callable[..., AllPlanned]:
    """`planned(text, env, override, exported)`: all plans of these manifests."""

    def plan(
        text: str,
        env: Mapping[str, str] | None = None,
        override: Override | None = None,
        exported: Mapping[str, str] | None = None,
    ) -> AllPlanned:
        return plan_all(read(text, env, exported), override or Override())

    return plan
