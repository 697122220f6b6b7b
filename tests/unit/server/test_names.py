"""Which agent a name in a URL or a body means."""

from __future__ import annotations

import pytest

from kadre.base.errors import Conflict, NotFound
from kadre.plan.types import KAOS_GROUP, AgentKey
from kadre.server.names import Some, resolve

HERE, THERE = AgentKey("team", "helper"), AgentKey("other", "helper")
OF_KAOS = AgentKey("team", "helper", KAOS_GROUP)


@pytest.mark.parametrize(
    ("agents", "name", "namespace", "home", "meant"),
    [
        ([HERE], "helper", "", "", HERE),
        ([HERE, THERE], "other/helper", "", "", THERE),
        ([HERE, THERE], "helper", "team", "", HERE),
        ([HERE, THERE], "helper", "", "other", THERE),
        ([HERE, OF_KAOS], "team/helper.kaos.tools", "", "", OF_KAOS),
        ([HERE, OF_KAOS], "helper.kaos.tools", "team", "", OF_KAOS),
        ([HERE, OF_KAOS], "team/helper.kagent.dev", "", "", HERE),
        ([HERE], "helper.kagent.dev", "", "", HERE),
        ([AgentKey("evil", "helper.kaos.tools"), OF_KAOS], "helper.kaos.tools", "", "", OF_KAOS),
    ],
)
@pytest.mark.requirement("names-resolved")
def test_a_name_is_an_agents(agents: list[AgentKey], name: str, namespace: str, home: str, meant: AgentKey) -> None:
    assert resolve(Some(agents), name, namespace, home) == meant


@pytest.mark.requirement("names-resolved")
def test_a_name_that_several_have_is_answered_with_names_that_one_has() -> None:
    for agents, namespace in (([HERE, THERE], ""), ([HERE, OF_KAOS], "team"), ([HERE, OF_KAOS], "")):
        with pytest.raises(Conflict) as refused:
            resolve(Some(agents), "helper", namespace)
        candidates = refused.value.details["candidates"]
        assert {resolve(Some(agents), each) for each in candidates} == set(agents)
        assert f"as in /agents/{candidates[0]}/chat" in str(refused.value)
    with pytest.raises(NotFound, match=r"there is no agent 'helper\.kaos\.tools'"):
        resolve(Some([HERE]), "helper.kaos.tools")
