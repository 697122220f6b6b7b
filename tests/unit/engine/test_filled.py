"""What is decided about a call is decided about what its tool is given, the tool's defaults included."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from kadre.base.errors import BadRequest
from kadre.engine import events as ev
from kadre.engine import policy
from kadre.engine.agent import HostedAgent
from kadre.engine.approvals import Said
from kadre.engine.masking import Masks
from kadre.engine.messages import ToolSpec
from kadre.engine.tools.api import ApiToolset
from kadre.engine.tools.functions import Functions
from kadre.engine.tools.human import HumanToolset
from kadre.engine.tools.port import CallContext, ToolOutput
from kadre.engine.tools.retrieval import spec_of
from kadre.plan.types import (
    AgentKey,
    AgentPlan,
    ApiTool,
    ApprovalPlan,
    ApprovalRule,
    EmbeddingPlan,
    HumanTool,
    McpTools,
    ModelPlan,
    RetrievalTool,
    SecretRef,
    VectorsPlan,
)
from tests.support.scene import Told, restarted

pytestmark = pytest.mark.requirement("approval-policy")
NOT_TO_PROD = ApprovalPlan(rules=(ApprovalRule(action="deny", tools=("deploy",), arguments={"env": "^prod$"}),))
PROD_ASKS = ApprovalPlan(rules=(ApprovalRule(action="ask", tools=("deploy",), arguments={"env": "^prod$"}),))
LEFT_OUT: Any = [("deploy", {"app": "shop"})]


class Ship:
    """Deploys, to `prod` where nobody says where to."""

    def __init__(self, env: str = "prod") -> None:
        self.deployed: list[tuple[str, str]] = []
        self.deploy = self._made(env)

    def _made(self, default: str) -> Any:
        def deploy(app: str, env: str = default, note: str | None = "none") -> str:
            """Deploy it."""
            self.deployed.append((app, env))
            return f"{app} is in {env}, {note}"

        return deploy


async def ended(live: Any) -> None:
    await asyncio.wait_for(live.wait(), 30)


async def test_a_rule_about_an_argument_holds_where_the_argument_is_left_out_and_its_default_is_meant(
    scene: Any,
) -> None:
    ship = Ship()
    calls = [*LEFT_OUT, ("deploy", {"app": "shop", "env": "dev"})]
    await scene.says(calls, "done", tools=[Functions(ship.deploy)], approvals=NOT_TO_PROD)
    live = await scene.ask()
    assert ship.deployed == [("shop", "dev")]
    assert [end.status for end in scene.tool_ends(live)] == ["error", "complete"]
    assert "is not allowed" in scene.tool_ends(live)[0].error


async def test_what_is_asked_shown_bound_and_told_is_the_call_with_its_defaults(scene: Any) -> None:
    ship = Ship()
    await scene.says(LEFT_OUT, "done", tools=[Functions(ship.deploy)], approvals=PROD_ASKS)
    live = await scene.start()
    approval = await scene.approval(live)
    whole = {"app": "shop", "env": "prod", "note": "none"}
    assert approval.tool_call.arguments == whole
    assert approval.digest == policy.digest("deploy", whole)
    await scene.host.approve(live.info.run_id, approval.id, "allow", "ada")
    await ended(live)
    (started,) = [event for event in live.events if isinstance(event, ev.ToolStart)]
    assert started.tool_call.arguments == whole
    assert ship.deployed == [("shop", "prod")]


async def test_a_default_that_has_defaults_within_it_is_asked_about_whole(scene: Any) -> None:
    how = {"type": "object", "default": {}, "properties": {"force": {"type": "boolean", "default": True}}}
    schema = {"type": "object", "properties": {"how": how}}
    api = ApiToolset(ApiTool(name="send", endpoint="http://t", parameters=schema), Kept())
    rules = ApprovalPlan(rules=(ApprovalRule(action="ask", tools=("send",), arguments={"how.force": "^true$"}),))
    await scene.says([("send", {})], "done", tools=[api], approvals=rules)
    live = await scene.start()
    approval = await scene.approval(live)
    assert approval.tool_call.arguments == {"how": {"force": True}}
    await scene.host.approve(live.info.run_id, approval.id, "deny", "ada")
    await ended(live)


async def test_a_call_is_not_the_one_that_was_allowed_once_its_default_is_another(scene: Any) -> None:
    await scene.says(LEFT_OUT, tools=[Functions(Ship("prod").deploy)], approvals=PROD_ASKS)
    live = await scene.start()
    approval = await scene.approval(live)
    after, other = await restarted(scene), Ship("abroad")
    await after.says("done", tools=[Functions(other.deploy)], approvals=PROD_ASKS)
    await after.host.recover()
    await after.host.approve(live.info.run_id, approval.id, "allow", "ada", said=Said(digest=approval.digest))
    again = await after.host.open(live.info.run_id)
    await ended(again)
    assert not other.deployed
    assert scene.tool_ends(again)[0].error == "this is not the call that was allowed: ask again"


async def test_a_person_who_leaves_an_argument_out_gives_its_default_by_the_same_rules(scene: Any) -> None:
    ship = Ship()
    rules = ApprovalPlan(
        rules=(*NOT_TO_PROD.rules, ApprovalRule(action="ask", tools=("deploy",), arguments={"env": "^dev$"}))
    )
    dev = [("deploy", {"app": "shop", "env": "dev"})]
    await scene.says(dev, "done", tools=[Functions(ship.deploy)], approvals=rules)
    live = await scene.start()
    approval = await scene.approval(live)
    said = Said(arguments={"app": "shop"})
    with pytest.raises(BadRequest) as refused:
        await scene.host.approve(live.info.run_id, approval.id, "allow", "ada", said=said)
    assert refused.value.reason == "DeniedByPolicy"
    said = Said(arguments={"app": "shop", "env": "test"})
    await scene.host.approve(live.info.run_id, approval.id, "allow", "ada", said=said)
    await ended(live)
    (decided,) = [event for event in live.events if isinstance(event, ev.ApprovalDecided)]
    assert decided.arguments == {"app": "shop", "env": "test", "note": "none"}
    assert ship.deployed == [("shop", "test")]


async def test_nobody_is_asked_about_a_call_that_the_tool_would_not_take(scene: Any) -> None:
    ship = Ship()
    await scene.says([("deploy", {"env": "prod"})], "done", tools=[Functions(ship.deploy)], approvals=PROD_ASKS)
    live = await scene.ask()
    assert "app: is required" in scene.tool_ends(live)[0].error
    assert not [event for event in live.events if isinstance(event, ev.ApprovalRequired)]


async def test_what_a_model_leaves_out_as_null_is_left_out_unless_null_is_a_value(scene: Any) -> None:
    ship = Ship()
    call = [("deploy", {"app": "shop", "env": "dev", "note": None}), ("deploy", {"app": "shop", "env": None})]
    await scene.says(call, "done", tools=[Functions(ship.deploy)])
    live = await scene.ask()
    assert [end.output for end in scene.tool_ends(live)] == ["shop is in dev, None", "shop is in prod, none"]


async def test_the_tools_that_kadre_calls_itself_are_filled_and_a_server_s_are_not() -> None:
    schema = {"type": "object", "properties": {"env": {"type": "string", "default": "prod"}}}
    api = ApiToolset(ApiTool(name="t", endpoint="http://t", parameters=schema), Kept())
    assert (await api.specs())[0].filled
    await api.aclose()
    assert (await HumanToolset(HumanTool(name="t", parameters=schema)).specs())[0].filled
    embedding = EmbeddingPlan(model=ModelPlan(provider="local", model="m"))
    store = VectorsPlan(type="sqlite", collection="c")
    assert spec_of(RetrievalTool(name="t", store=store, embedding=embedding)).filled
    assert not ToolSpec(name="t", parameters=schema).filled


class Kept:
    """A SecretReader with one secret."""

    def read(self, ref: SecretRef) -> str | None:
        return "c4n4ry-12345678" if ref.key == "token" else None


class Strict:
    """A tool that takes a token of a certain form, and checks what it is given itself too."""

    ready, notice = True, ""

    def __init__(self, pattern: str) -> None:
        token = {"type": "string", "pattern": pattern}
        schema = {"type": "object", "properties": {"token": token, "to": {"type": "string", "default": "all"}}}
        self.spec = ToolSpec(name="send", parameters=schema, filled=True)
        self.given: list[dict[str, Any]] = []

    async def specs(self) -> list[ToolSpec]:
        return [self.spec]

    async def call(self, name: str, arguments: dict[str, Any], context: CallContext) -> ToolOutput:
        self.given.append(arguments)
        return ToolOutput("sent")

    async def aclose(self) -> None:
        pass


async def sending(scene: Any, pattern: str) -> tuple[Strict, Told]:
    tool, model = Strict(pattern), Told([[("send", {"token": "[secret:keys/token]"})], "done"])
    refs = {"X": SecretRef(namespace="default", name="keys", key="token")}
    plan = AgentPlan(
        key=AgentKey("default", "a"),
        model=ModelPlan(provider="openai", model="m"),
        tools=(McpTools(name="t", secret_headers=refs),),
    )
    agent = HostedAgent(plan, model, [tool], scene.journal, scene.clock, Masks(plan, Kept()))
    await scene.host.replace({plan.key: agent})
    return tool, model


@pytest.mark.requirement("secrets-masked")
async def test_a_secret_is_held_against_the_parameters_as_itself_and_shown_as_its_placeholder(scene: Any) -> None:
    tool, _ = await sending(scene, "^c4n4ry-[0-9]{8}$")
    live = await scene.start()
    approval = await scene.approval(live)
    assert approval.tool_call.arguments == {"token": "[secret:keys/token]", "to": "all"}
    said = Said(arguments={"token": "[secret:keys/token]", "to": "ada"})
    await scene.host.approve(live.info.run_id, approval.id, "allow", "ada", said=said)
    await ended(live)
    assert tool.given == [{"token": "c4n4ry-12345678", "to": "ada"}]
    assert b"c4n4ry" not in b"".join(ev.encode(event) for event in live.events)


@pytest.mark.requirement("secrets-masked")
async def test_what_is_wrong_with_a_secret_is_told_without_it_and_without_a_part_of_it(scene: Any) -> None:
    tool, model = await sending(scene, "^" + "x" * 180)
    live = await scene.ask()
    told = model.requests[1].messages[-1].content
    assert "token: '[secret:keys/token]' does not match" in told
    assert "c4n4ry" not in told
    assert not tool.given
    assert b"c4n4ry" not in b"".join(ev.encode(event) for event in live.events)
