"""What waits for a person, at every door: listed, changed, bound to what was seen, answered."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import aiohttp
import openai
import pytest
from a2a import types

from kadre.engine import events as ev
from kadre.engine.tools.agent import AgentToolset
from kadre.engine.tools.functions import Functions
from kadre.engine.tools.human import HumanToolset
from kadre.engine.tools.port import Toolset
from kadre.plan.types import AgentKey, AgentTool, ApprovalPlan, ApprovalRule, HumanTool
from kadre.server.gateway.visitors import Reception
from kadre.server.identity import HEADER, Signer
from tests.doors.test_a2a import a2a, answer, ids, message, states
from tests.doors.test_afar import apart, asks
from tests.doors.test_gateway import A, B, People, Person, answered, bearing
from tests.support.gateway import gateway
from tests.support.scene import Asking, Scene, Turn
from tests.support.serving import serving
from tests.support.upping import free_port, up

pytestmark = pytest.mark.requirement("approvals-everywhere")
Http = aiohttp.ClientSession
DESK = HumanToolset(HumanTool(name="ask_desk", prompt="A guest is waiting"))
ASK: Turn = [("ask_desk", {"question": "Which room?"})]
CALL: Turn = [("write", {"text": "hi"})]


class Pen:
    """Counts what was written."""

    def __init__(self) -> None:
        self.written: list[str] = []
        self.tools = [Asking(self.write)]

    def write(self, text: str) -> str:
        """Write it down."""
        self.written.append(text)
        return f"wrote {text}"


@pytest.fixture
def pen() -> Pen:
    return Pen()


async def decided(http: Http, run: str, **said: Any) -> tuple[int, dict[str, Any]]:
    status, told = await answered(http.post(f"/runs/{run}/approve", json=said))
    return status, told.get("error", told)


@pytest.mark.requirement("approval-decisions")
async def test_a_call_is_changed_and_bound_to_what_was_seen_over_http(scene: Scene, http: Http, pen: Pen) -> None:
    await scene.says(CALL, "done", tools=pen.tools)
    status, waiting = await answered(http.post("/agents/a/chat", json={"message": "write"}))
    assert status == 202
    (approval,) = waiting["approvals"]
    run = waiting["run_id"]
    for said, expected in (
        ({"decision": "allow", "digest": "sha256:0"}, (409, "DigestMismatch")),
        ({"decision": "allow", "arguments": {"text": 7}}, (400, "InvalidArguments")),
        ({"decision": "allow", "arguments": ["x"]}, (400, "InvalidBody")),
        ({"decision": "allow", "answer": "x"}, (400, "BadDecision")),
        ({"decision": "deny", "arguments": {"text": "x"}}, (400, "BadDecision")),
    ):
        status, error = await decided(http, run, **said)
        assert (status, error["reason"]) == expected
    assert not pen.written
    said = {"decision": "allow", "digest": approval["digest"], "arguments": {"text": "bye"}}
    assert (await decided(http, run, **said))[0] == 200
    await asyncio.wait_for((await scene.host.open(run)).wait(), 5)
    assert pen.written == ["bye"]
    _, told = await answered(http.get(f"/runs/{run}"))
    (event,) = [each for each in told["events"] if each["type"] == "approval_decided"]
    assert (event["arguments"], event["answer"]) == ({"text": "bye"}, None)


@pytest.mark.requirement("tool-human")
async def test_a_question_is_answered_over_http(scene: Scene, http: Http) -> None:
    await scene.says(ASK, "room 12 it is", tools=[DESK])
    _, waiting = await answered(http.post("/agents/a/chat", json={"message": "a room"}))
    (approval,) = waiting["approvals"]
    assert (approval["kind"], approval["reason"]) == ("question", "A guest is waiting")
    status, error = await decided(http, waiting["run_id"], decision="allow")
    assert (status, error["reason"]) == (400, "AnswerMissing")
    assert (await decided(http, waiting["run_id"], decision="allow", answer="Room 12"))[0] == 200
    live = await scene.host.open(waiting["run_id"])
    await asyncio.wait_for(live.wait(), 5)
    assert live.answer() == "room 12 it is"


@pytest.mark.requirement("tool-human")
async def test_clients_of_openais_and_of_a2a_are_told_how_a_question_is_answered(scene: Scene, url: str) -> None:
    await scene.says(ASK, ASK, "room 12", tools=[DESK])
    client = openai.AsyncOpenAI(base_url=f"{url}/v1", api_key="any", max_retries=0)
    said = await client.chat.completions.create(model="a", messages=[{"role": "user", "content": "a room"}])
    text = said.choices[0].message.content or ""
    assert text.startswith("This needs a person's answer: A guest is waiting ask_desk(")
    assert "with POST" in text
    assert '{"decision": "allow", "answer": …}' in text
    await client.close()
    async with a2a(url, stream=False) as other:
        told = [each async for each in other.send_message(message("a room"))]
        assert states(told)[-1] == "INPUT_REQUIRED"
        task = await other.get_task(types.GetTaskRequest(id=ids(told)))
        assert "to answer, allow or deny: ask_desk" in task.status.message.parts[0].text
        assert task.status.message.metadata["approvals"][0]["kind"] == "question"
        async with aiohttp.ClientSession() as http:
            sent = {"decision": "allow", "answer": "Room 12"}
            assert (await answered(http.post(task.status.message.metadata["approve"], json=sent)))[0] == 200
        await asyncio.wait_for((await scene.host.open(task.id)).wait(), 5)
        assert answer(await other.get_task(types.GetTaskRequest(id=task.id))) == "room 12"


async def test_what_waits_is_listed_over_all_runs_the_oldest_first(scene: Scene, http: Http, pen: Pen) -> None:
    worker = AgentToolset(AgentTool(name="worker", agent=AgentKey("default", "b")), scene.host, 5)
    await scene.says([("worker", {"message": "write"})], ASK, "done", tools=[worker, DESK])
    await scene.says(CALL, "done", name="b", tools=pen.tools)
    first = await scene.start()
    await scene.approval(first)
    await scene.clock.advance(1)
    second = await scene.start()
    await scene.approval(second)
    _, told = await answered(http.get("/approvals"))
    assert not told["more"]
    below, own = told["approvals"]
    assert (below["agent"], below["root_run_id"], below["tool_call"]["name"]) == (
        "default/b",
        first.info.run_id,
        "write",
    )
    assert below["run_id"] != below["root_run_id"]
    assert (own["agent"], own["kind"], own["root_run_id"]) == ("default/a", "question", second.info.run_id)
    assert below["asked"] < own["asked"]
    _, told = await answered(http.get("/approvals?limit=1"))
    assert ([each["id"] for each in told["approvals"]], told["more"]) == ([below["id"]], True)
    _, told = await answered(http.get("/approvals?agent=b"))
    assert [each["id"] for each in told["approvals"]] == [below["id"]]
    status, _ = await decided(http, below["root_run_id"], decision="deny", approval_id=below["id"])
    assert status == 200
    _, told = await answered(http.get("/approvals?agent=b"))
    assert told["approvals"] == []


async def test_at_the_gateway_they_are_of_the_agents_that_the_caller_may_decide_about(tmp_path: Path, pen: Pen) -> None:
    one, other = Scene(), Scene()
    await one.says(CALL, "done", tools=pen.tools)
    await other.says(ASK, "done", name="b", tools=[DESK])
    ada = Person("user:ada", ("chat", A), ("chat", B), ("runs", A))
    boss = Person("user:boss", ("approve", A))
    all_ = Person("user:all", ("approve", A), ("approve", B))
    reception = Reception(reviewer=People(ada, boss, all_), trust_local=False)
    async with gateway(tmp_path, {"a": [one], "b": [other]}, reception) as (http, _):
        for name in "ab":
            await answered(http.post(f"/agents/{name}/chat", json={"message": "x"}, headers=bearing("token-user:ada")))

        async def listed(who: str, query: str = "") -> Any:
            return await answered(http.get(f"/approvals{query}", headers=bearing(f"token-user:{who}")))

        _, told = await listed("all")
        assert sorted(each["agent"] for each in told["approvals"]) == ["default/a", "default/b"]
        _, told = await listed("boss")
        (item,) = told["approvals"]
        assert (item["agent"], told.get("missing")) == ("default/a", None)
        assert (await listed("ada"))[1]["approvals"] == []
        status, told = await listed("ada", "?agent=a")
        assert (status, told["error"]["reason"]) == (403, "NotAllowed")
        sent = {"decision": "allow", "digest": item["digest"], "arguments": {"text": "changed"}}
        decide = f"/runs/{item['root_run_id']}/approve"
        assert (await answered(http.post(decide, json=sent, headers=bearing("token-user:boss"))))[0] == 200
        await asyncio.wait_for((await one.host.open(item["run_id"])).wait(), 5)
    assert pen.written == ["changed"]


async def test_a_caller_who_may_not_decide_is_shown_no_list(scene: Scene, tmp_path: Path) -> None:
    await scene.says("hi")
    ada = Person("user:ada", ("chat", A))
    async with (
        gateway(tmp_path, {"a": [scene]}, Reception(reviewer=People(ada), trust_local=False)) as (http, fleet),
        aiohttp.ClientSession(f"http://{fleet.at[A][0]}") as direct,
    ):
        _, told = await answered(http.get("/approvals", headers=bearing("token-user:ada")))
        assert told["approvals"] == []
        word = Signer((tmp_path / "key").read_bytes).sign("user:ada", str(A))
        status, told = await answered(direct.get("/approvals", headers={HEADER: word}))
        assert (status, told["error"]["reason"]) == (403, "MayNotApprove")


@pytest.mark.requirement("approval-decisions")
async def test_a_call_of_an_agent_at_another_host_is_changed_at_the_run_that_people_watch(
    tmp_path: Path, pen: Pen
) -> None:
    worker = Scene()
    rules = ApprovalPlan(rules=(ApprovalRule(action="deny", tools=("write",), arguments={"text": "never"}),))
    await worker.says(CALL, ASK, "done", name="worker", tools=[*pen.tools, DESK], approvals=rules)
    async with apart(tmp_path, {"worker": [worker]}) as (scene, _, _), serving(scene) as url, Http(url) as http:
        await scene.says([("worker", {"message": "write"})], "all done", name="boss", tools=asks(scene))
        live = await scene.start(name="boss", caller="user:ada")
        approval = await scene.approval(live)
        run = live.info.run_id
        refused: list[tuple[dict[str, Any], tuple[int, str]]] = [
            ({"digest": "sha256:0"}, (409, "DigestMismatch")),
            ({"arguments": {"text": 7}}, (400, "InvalidArguments")),
            ({"arguments": {"text": "never"}}, (400, "DeniedByPolicy")),
        ]
        for said, expected in refused:
            status, error = await decided(http, run, decision="allow", **said)
            assert (status, error["reason"]) == expected
        far = {"text": "far"}
        assert (await decided(http, run, decision="allow", digest=approval.digest, arguments=far))[0] == 200
        await scene.until(live, lambda: bool(live.pending_approvals()) and live.pending_approvals() != [approval])
        assert (await decided(http, run, decision="allow", answer="Room 12"))[0] == 200
        await asyncio.wait_for(live.wait(), 5)
        assert pen.written == ["far"]
        told = [event for event in live.events if isinstance(event, ev.ApprovalDecided)]
        assert [(each.arguments, each.answer) for each in told] == [({"text": "far"}, None), (None, "Room 12")]


@pytest.mark.requirement("text-from-outside")
async def test_text_from_outside_goes_along_to_an_agent_at_another_host(tmp_path: Path) -> None:
    def read() -> str:
        """Read."""
        return "please write"

    worker = Scene()
    await worker.says("done", name="worker")
    async with apart(tmp_path, {"worker": [worker]}) as (scene, _, _):
        turns: list[Turn] = [[("read", {})], [("worker", {"message": "write"})], "all done"]
        tools: list[Toolset] = [Functions(read, server="tickets"), *asks(scene)]
        await scene.says(*turns, name="boss", tools=tools)
        live = await scene.ask(name="boss", caller="user:ada")
        (child,) = [event.child_run_id for event in live.events if isinstance(event, ev.DelegateStart)]
        started = (await worker.host.open(child)).events[0]
        assert isinstance(started, ev.RunStarted)
        assert started.outside == "tickets"


AGENT = """
apiVersion: kagent.dev/v1alpha1
kind: Tool
metadata: {name: ask-desk, namespace: hotel}
spec:
  type: human
  description: Ask the front desk.
  human: {prompt: A guest is waiting, timeout: 10m}
---
apiVersion: kaos.tools/v1alpha1
kind: MCPServer
metadata: {name: book, namespace: hotel}
spec:
  type: python-runtime
  config:
    tools:
      fromString: |
        def reserve(room: str) -> str:
            '''Reserve a room.'''
            return f"reserved {room}"

        def erase(room: str) -> str:
            '''Forget a room.'''
            return "gone"
---
apiVersion: kagent.dev/v1alpha1
kind: AgentTemplate
metadata: {name: careful, namespace: hotel}
spec:
  model: {provider: scripted, name: any}
  approvals:
    policy:
      - {action: deny, tools: [book/erase]}
      - {action: ask, tools: [book/reserve], arguments: {room: "^1"}, message: the first floor is being painted}
---
apiVersion: kagent.dev/v1alpha1
kind: Agent
metadata: {name: porter, namespace: hotel}
spec:
  templateRef: careful
  tools: [ask-desk, book]
"""


@pytest.mark.requirement("tool-human")
@pytest.mark.requirement("approval-policy")
async def test_an_agent_of_yaml_asks_waits_over_a_kill_and_goes_on(tmp_path: Path) -> None:
    (tmp_path / "agents").mkdir()
    (tmp_path / "agents" / "porter.yaml").write_text(AGENT)
    port = free_port()
    async with up(tmp_path / "agents", port=port) as upped:
        status, reply = await upped.post("/chat", {"message": 'call reserve {"room": "201"}'})
        assert (status, reply["response"].endswith("reserved 201")) == (200, True)
        said = f"call ask-desk {json.dumps({'question': 'Which room?'})}"
        status, question = await upped.post("/chat", {"message": said})
        assert (status, question["approvals"][0]["reason"]) == (202, "A guest is waiting")
        status, call = await upped.post("/chat", {"message": 'call reserve {"room": "101"}'})
        assert (status, call["approvals"][0]["reason"]) == (202, "the first floor is being painted")
        status, reply = await upped.post("/chat", {"message": 'call erase {"room": "101"}'})
        assert (status, "gone" in reply["response"]) == (200, False)  # it is not offered
        await upped.stop(9)
    async with up(tmp_path / "agents", port=port) as upped:
        waiting = (await upped.get("/approvals"))["approvals"]
        assert [each["root_run_id"] for each in waiting] == [question["run_id"], call["run_id"]]
        for run, more in ((question, {"answer": "Room 12"}), (call, {"arguments": {"room": "202"}})):
            decision = {"decision": "allow", "digest": run["approvals"][0]["digest"], **more}
            status, _ = await upped.post(f"/runs/{run['run_id']}/approve", decision)
            assert status == 200
            async with upped.http.get(f"/runs/{run['run_id']}/events") as events:
                await events.read()
        answers = [(await upped.get(f"/runs/{run['run_id']}"))["response"] for run in (question, call)]
    assert answers[0].endswith("Room 12")
    assert answers[1].endswith("reserved 202")


SAFE = """
apiVersion: v1
kind: Secret
metadata: {name: safe}
stringData: {code: c4n4ry-4711}
---
apiVersion: kaos.tools/v1alpha1
kind: MCPServer
metadata: {name: safe}
spec:
  type: python-runtime
  config:
    env:
      - name: CODE
        valueFrom: {secretKeyRef: {name: safe, key: code}}
    tools:
      fromString: |
        import os

        def show() -> str:
            '''Show the code.'''
            return "the code is " + os.environ["CODE"]

        def open_safe(code: str) -> str:
            '''Open it.'''
            return "open" if code == os.environ["CODE"] else "shut"
---
apiVersion: kagent.dev/v1alpha1
kind: Agent
metadata: {name: guard}
spec:
  model: {provider: scripted, name: any}
  tools: [safe]
"""


@pytest.mark.requirement("secrets-masked")
async def test_a_secret_that_a_tool_shows_is_a_placeholder_that_the_tool_is_called_with(tmp_path: Path) -> None:
    (tmp_path / "guard.yaml").write_text(SAFE)
    async with up(tmp_path / "guard.yaml", "--data-dir", tmp_path / "data") as upped:
        status, shown = await upped.post("/chat", {"message": "call show {}"})
        assert (status, shown["response"].endswith("the code is [secret:safe/code]")) == (200, True)
        status, waiting = await upped.post("/chat", {"message": 'call open_safe {"code": "[secret:safe/code]"}'})
        assert (status, waiting["approvals"][0]["reason"]) == (202, "open_safe would be given [secret:safe/code]")
        await upped.post(f"/runs/{waiting['run_id']}/approve", {"decision": "allow"})
        async with upped.http.get(f"/runs/{waiting['run_id']}/events") as events:
            said = await events.text()
        assert '"output":"open"' in said
        said += json.dumps([await upped.get(f"/runs/{run['run_id']}") for run in (shown, waiting)]) + upped.said
    kept = b"".join(path.read_bytes() for path in (tmp_path / "data").rglob("*") if path.is_file())
    assert "c4n4ry" not in said
    assert b"c4n4ry" not in kept
