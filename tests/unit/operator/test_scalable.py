"""Whether there is KEDA, by what the cluster tells of its APIs."""

from __future__ import annotations

import pytest

from kadre.kube.kinds import Object
from kadre.operator.scalable import by_keda, has_keda

EXTERNAL = "external.metrics.k8s.io"
KINDS = "keda.sh"


class Apis:
    """A cluster that serves some API groups, and names KEDA for some. `shown`: whether we may see that."""

    def __init__(self, served: set[str], kedas: set[str], *, shown: bool = True) -> None:
        self._served, self._kedas, self._shown = served, kedas, shown

    def serves(self, group: str) -> bool | None:
        return group in self._served if self._shown else None

    def is_kedas(self, group: str) -> bool | None:
        return group in self._kedas if self._shown else None


CLUSTERS = {
    "KEDA": (Apis({KINDS, EXTERNAL}, {EXTERNAL}), True, True),
    "KEDA that restarts": (Apis({KINDS}, {EXTERNAL}), False, True),
    "kinds that KEDA left": (Apis({KINDS}, set()), False, False),
    "kinds that KEDA left, and another adapter": (Apis({KINDS, EXTERNAL}, set()), False, False),
    "another adapter alone": (Apis({EXTERNAL}, set()), False, False),
    "one that we are not shown": (Apis(set(), set(), shown=False), False, True),
}


@pytest.mark.parametrize(("apis", "new", "scaled"), CLUSTERS.values(), ids=CLUSTERS)
def test_an_agent_becomes_and_stays_kedas_where_there_is_keda(apis: Apis, new: bool, scaled: bool) -> None:
    assert (has_keda(apis, scaled=False), has_keda(apis, scaled=True)) == (new, scaled)


NAMED: dict[str, tuple[Object, bool]] = {
    "as its chart names it": ({"spec": {"service": {"name": "keda-operator-metrics-apiserver"}}}, True),
    "as OpenShift names it": ({"spec": {"service": {"name": "keda-metrics-apiserver"}}}, True),
    "another name and its labels": (
        {
            "metadata": {"labels": {"app.kubernetes.io/part-of": "keda-operator"}},
            "spec": {"service": {"name": "autoscaling-metrics-apiserver"}},
        },
        True,
    ),
    "another adapter beside it": ({"spec": {"service": {"name": "prometheus-adapter", "namespace": "keda"}}}, False),
    "nobody": ({}, False),
}


@pytest.mark.parametrize(("told", "keda"), NAMED.values(), ids=NAMED)
def test_an_api_is_kedas_by_its_service_or_its_labels(told: Object, keda: bool) -> None:
    assert by_keda({"metadata": {}, **told}) is keda
