"""Agents that ask agents of other hosts, through a gateway: what happens there is as if it happened here."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import msgspec
import pytest
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route, Router

from kadre.base.clock import FakeClock, SystemClock
from kadre.base.errors import ToolError, Unavailable
from kadre.base.retry import Backoff
from kadre.engine import afar, http_client
from kadre.engine import events as ev
from kadre.engine.accepting import Ask, Parent
from kadre.engine.afar import ASKING, ON_BEHALF, Afar
from kadre.engine.live import Live
from kadre.engine.memory.port import RunInfo
from kadre.engine.tools.agent import AgentToolset
from kadre.plan.types import KAOS_GROUP, AgentKey, AgentTool, Limits
from kadre.server.gateway.visitors import Deed, Reception, Visitor
from tests.support.gateway import NOWHERE, Hosts, gateway
from tests.support.scene import Asking, Scene, Turn
from tests.support.serving import answering

pytestmark = pytest.mark.requirement("delegation-between-pods")
BOSS, WORKER, OTHER = (AgentKey("default", name) for name in ("boss", "worker", "other"))
TWIN = AgentKey("default", "worker", KAOS_GROUP)


class Pod:
    """Somebody for whom the agent `boss` asks the agent `worker`."""

    via = str(BOSS)

    def __init__(self, name: str) -> None:
        self.name = name

    async def may(self, deed: Deed, agent: AgentKey) -> bool:
        """See Visitor."""
        return deed == "chat" and agent in {WORKER, TWIN}


class Pods:
    """A Reviewer that knows one pod."""

    async def who(self, token: str, for_whom: str = "", asking: str = "") -> Visitor | None:
        """See Reviewer."""
        return Pod(for_whom) if token == "pod" and asking == str(BOSS) else None


@asynccontextmanager
async def apart(
    folder: Path, workers: Mapping[str, Sequence[Scene]]
) -> AsyncIterator[tuple[Scene, Hosts, aiohttp.ClientSession]]:
    """The scene of an agent `boss` that asks those agents through a gateway; their addresses; a client of its own."""
    token = folder / "token"
    token.write_text("pod\n")
    reception = Reception(reviewer=Pods(), trust_local=False)
    async with gateway(folder, workers, reception) as (http, fleet), http_client.session() as session:
        scene = Scene(clock=SystemClock(), afar=Afar(session, str(http._build_url("/")), token, SystemClock()))
        try:
            yield scene, fleet, http
        finally:
            await scene.host.aclose(0.05)


def asks(scene: Scene, key: AgentKey = WORKER) -> list[AgentToolset]:
    return [AgentToolset(AgentTool(name=key.name, agent=key, description="works"), scene.host, 5)]


async def test_the_other_agents_answer_comes_back_as_the_tools(tmp_path: Path) -> None:
    worker = Scene()
    told = await worker.says("42", name="worker")
    async with apart(tmp_path, {"worker": [worker]}) as (scene, _, _):
        boss = await scene.says([("worker", {"message": "6*7?"})], "it is 42", name="boss", tools=asks(scene))
        live = await scene.ask(name="boss", caller="user:Jürgen")
        assert live.answer() == "it is 42"
        assert told.requests[0].messages[-1].content == "6*7?"
        assert boss.requests[1].messages[-1].content == "42"
        assert [kind for kind in scene.types(live) if kind.startswith("delegate")] == ["delegate_start", "delegate_end"]
        start = next(event for event in live.events if isinstance(event, ev.DelegateStart))
        child = await worker.journal.run(start.child_run_id)
        assert child is not None
        assert (child.parent_run_id, child.caller) == (live.info.run_id, "user:Jürgen")
        first = (await worker.journal.events(child.run_id))[0]
        assert isinstance(first, ev.RunStarted)
        assert first.chain == (str(BOSS),)


async def test_of_two_of_one_name_the_one_that_the_plan_means_is_asked(tmp_path: Path) -> None:
    worker = Scene()
    await worker.says("42", name="worker")
    async with apart(tmp_path, {"worker": [worker]}) as (scene, fleet, _):
        fleet.at[TWIN] = fleet.at[WORKER]
        boss = await scene.says([("worker", {"message": "6*7?"})], "it is 42", name="boss", tools=asks(scene))
        assert (await scene.ask(name="boss")).answer() == "it is 42"
        assert boss.requests[1].messages[-1].content == "42"


async def test_a_call_that_it_asks_about_is_decided_at_the_run_that_people_watch(tmp_path: Path) -> None:
    written = []

    def write() -> str:
        """Write."""
        written.append("x")
        return "written"

    worker = Scene()
    await worker.says([("write", {})], "done", name="worker", tools=[Asking(write)])
    async with apart(tmp_path, {"worker": [worker]}) as (scene, _, _):
        await scene.says([("worker", {"message": "write"})], "all done", name="boss", tools=asks(scene))
        live = await scene.start(name="boss", caller="user:ada")
        approval = await scene.approval(live)
        assert not written
        await scene.host.approve(live.info.run_id, approval.id, "allow", "user:eve", "fine")
        await asyncio.wait_for(live.wait(), 5)
        assert (live.answer(), written) == ("all done", ["x"])
        decided = [event for event in live.events if isinstance(event, ev.ApprovalDecided)]
        assert [(each.by, each.note) for each in decided] == [("user:eve", "fine")]


async def test_a_run_that_is_cancelled_cancels_what_it_delegated(tmp_path: Path) -> None:
    worker = Scene()
    model = await worker.says(asyncio.Event(), name="worker")
    async with apart(tmp_path, {"worker": [worker]}) as (scene, _, _):
        await scene.says([("worker", {"message": "?"})], name="boss", tools=asks(scene))
        live = await scene.start(name="boss")
        await asyncio.wait_for(model.called.wait(), 5)
        await scene.until(live, lambda: "delegate_start" in scene.types(live))
        start = next(event for event in live.events if isinstance(event, ev.DelegateStart))
        await scene.host.cancel(live.info.run_id)
        child = await worker.host.open(start.child_run_id)
        assert (await asyncio.wait_for(child.wait(), 5)).status == "cancelled"


async def test_what_cannot_be_asked_is_an_error_that_the_model_reads(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(afar, "AGAIN", Backoff(attempts=1))
    async with apart(tmp_path, {"worker": [], "other": [Scene()]}) as (scene, _, _):
        turns: list[Turn] = [[("worker", {"message": "?"})], [("other", {"message": "?"})], "sorry"]
        boss = await scene.says(*turns, name="boss", tools=[*asks(scene), *asks(scene, OTHER)])
        assert (await scene.ask(name="boss")).answer() == "sorry"
        first, second = (request.messages[-1].content for request in boss.requests[1:])
        assert "no pod of it answers now" in first
        assert "may not chat with agent default/other" in second


async def test_a_stream_that_breaks_off_is_read_on_where_it_broke(tmp_path: Path) -> None:
    worker, turn = Scene(), asyncio.Event()
    model = await worker.says([("nothing", {})], turn, "42", name="worker")
    async with apart(tmp_path, {"worker": [worker]}) as (scene, fleet, _):
        await scene.says([("worker", {"message": "?"})], "it is 42", name="boss", tools=asks(scene))
        (host,) = fleet.at[WORKER]
        between = await Cut.begin(*host.split(":"))
        fleet.at[WORKER] = [between.address]
        live = await scene.start(name="boss")
        await asyncio.wait_for(model.called.wait(), 5)
        await between.cut()
        fleet.at[WORKER] = [NOWHERE]
        turn.set()
        fleet.at[WORKER] = [host]
        await asyncio.wait_for(live.wait(), 10)
        assert live.answer() == "it is 42"
        assert len(await worker.journal.runs(limit=10)) == 1
        await between.end()


async def test_the_same_call_made_again_finds_the_run_that_is_there(tmp_path: Path) -> None:
    worker = Scene()
    told = await worker.says("once", name="worker")
    async with apart(tmp_path, {"worker": [worker]}) as (scene, _, _):
        ask = Ask(agent=WORKER, message="?", session_id="c", run_id="c", caller="user:ada")
        lives: list[Live] = [await far(scene).start(ask, Parent("run-1", (str(BOSS),))) for _ in range(2)]
        for live in lives:
            await asyncio.wait_for(live.wait(), 5)
            assert live.answer() == "once"
        assert len(told.requests) == 1


async def test_an_answer_too_large_for_an_event_comes_whole(tmp_path: Path) -> None:
    worker, long = Scene(), "long " * 40_000
    await worker.says(long, name="worker")
    async with apart(tmp_path, {"worker": [worker]}) as (scene, _, _):
        limits = Limits(max_output_bytes=1 << 20)
        boss = await scene.says([("worker", {"message": "?"})], "ok", name="boss", tools=asks(scene), limits=limits)
        await scene.ask(name="boss")
        assert boss.requests[1].messages[-1].content == long


async def test_agents_that_ask_each_other_in_a_circle_are_told(tmp_path: Path) -> None:
    worker = Scene()
    model = await worker.says([("boss", {"message": "?"})], "alone", name="worker", tools=asks(worker, BOSS))
    async with apart(tmp_path, {"worker": [worker]}) as (scene, _, _):
        await scene.says([("worker", {"message": "?"})], "ok", name="boss", tools=asks(scene))
        await scene.ask(name="boss")
        assert "already part of this delegation" in model.requests[1].messages[-1].content


async def test_an_agents_pod_sees_what_it_delegates_and_nothing_else(tmp_path: Path) -> None:
    worker = Scene()
    await worker.says("one", "two", name="worker")
    own = await worker.ask(name="worker", caller="user:ada")
    async with apart(tmp_path, {"worker": [worker]}) as (_, _, http):
        as_pod = {"Authorization": "Bearer pod", ASKING: str(BOSS), ON_BEHALF: "user:ada"}
        body: dict[str, Any] = {"agent": "worker", "message": "?"}

        async def status(method: str, path: str, sent: Any = None) -> int:
            async with http.request(method, path, json=sent, headers=as_pod) as answer:
                return answer.status

        assert await status("POST", "/agents/worker/chat", {"message": "?"}) == 403
        assert await status("POST", "/v1/chat/completions", {"model": "worker", "messages": []}) in {400, 403}
        assert await status("GET", f"/runs/{own.info.run_id}") == 404
        _, listed = 0, await status("GET", "/runs")
        assert listed == 200
        async with http.get("/runs", headers=as_pod) as answer:
            assert (await answer.json())["runs"] == []
        assert await status("POST", "/runs", body) == 403  # it does not say for which run
        stranger = {"parent": {"run_id": "run-1", "chain": ["default/stranger"]}}
        assert await status("POST", "/runs", {**body, **stranger}) == 403
        mine = {"parent": {"run_id": "run-1", "chain": [str(BOSS)]}, "run_id": "mine", "session_id": "mine"}
        assert await status("POST", "/runs", {**body, **mine}) == 202
        assert await status("GET", "/runs/mine") == 200


async def test_people_cannot_say_that_an_agent_asks(tmp_path: Path) -> None:
    worker = Scene()
    await worker.says("never", name="worker")
    async with gateway(tmp_path, {"worker": [worker]}) as (http, _):
        body = {"agent": "worker", "message": "?", "parent": {"run_id": "run-1", "chain": [str(BOSS)]}}
        async with http.post("/runs", json=body, headers={ON_BEHALF: "user:eve"}) as answer:
            assert (answer.status, (await answer.json())["error"]["reason"]) == (403, "NotTheParent")


def far(scene: Scene) -> Afar:
    found = scene.host._afar
    assert found is not None
    return found.by(str(BOSS))


class Cut:
    """Stands before a host, hands bytes to and fro, and breaks off."""

    def __init__(self, host: str, port: int) -> None:
        self._to = host, port
        self._open: set[asyncio.StreamWriter] = set()
        self._server: asyncio.Server | None = None

    @classmethod
    async def begin(cls, host: str, port: str) -> Cut:
        made = cls(host, int(port))
        made._server = await asyncio.start_server(made._pass, "127.0.0.1", 0)
        return made

    @property
    def address(self) -> str:
        assert self._server is not None
        return "{}:{}".format(*self._server.sockets[0].getsockname())

    async def _pass(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there, here = await asyncio.open_connection(*self._to)
        self._open |= {writer, here}

        async def hand(source: asyncio.StreamReader, to: asyncio.StreamWriter) -> None:
            while data := await source.read(65536):
                to.write(data)
                await to.drain()
            to.close()

        await asyncio.gather(hand(reader, here), hand(there, writer), return_exceptions=True)

    async def cut(self) -> None:
        """Break off what is open."""
        for each in self._open:
            each.close()
        self._open.clear()

    async def end(self) -> None:
        """Let nobody in any more."""
        assert self._server is not None
        self._server.close()
        await self.cut()
        await self._server.wait_closed()


async def test_a_run_that_its_host_tells_as_lost_is_not_asked_for_without_end(tmp_path: Path) -> None:
    word = b'event: error\ndata: {"type":"error","run_id":"c","message":"its store is away"}\n\n'
    begun = msgspec.json.encode(await a_run())

    async def run(_: Request) -> Response:
        return Response(begun, media_type="application/json")

    async def events(_: Request) -> Response:
        return Response(word, media_type="text/event-stream")

    (tmp_path / "token").write_text("pod")
    clock = FakeClock()
    doors = Router([Route("/runs/c", run), Route("/runs/c/events", events)])
    async with answering(doors) as url, http_client.session() as session:
        ask = Ask(agent=WORKER, message="?", run_id="c", caller="user:ada")
        live = await Afar(session, url, tmp_path / "token", clock).begun(ask)
        waiting = asyncio.create_task(live.changed())
        while not waiting.done():
            await clock.advance(1)
        with pytest.raises(Unavailable, match="its store is away"):
            await waiting


async def a_run() -> RunInfo:
    """One that has begun."""
    scene = Scene()
    await scene.says(asyncio.Event(), name="worker")
    live = await scene.start(name="worker", run_id="c")
    await scene.host.aclose(0.01)
    return live.info


async def test_what_was_begun_and_is_nowhere_any_more_is_not_begun_again(tmp_path: Path) -> None:
    worker = Scene()
    await worker.says("never", name="worker")
    async with apart(tmp_path, {"worker": [worker]}) as (scene, _, _):
        ask = Ask(agent=WORKER, message="?", session_id="c", run_id="c", caller="user:ada")
        with pytest.raises(ToolError, match="whether it was done is not known") as lost:
            await far(scene).begun(ask)
        assert lost.value.unknown


async def test_an_agent_sees_what_it_has_delegated_itself(tmp_path: Path) -> None:
    worker = Scene()
    await worker.says("one", "two", name="worker")
    other = Ask(agent=WORKER, message="?", session_id="theirs", run_id="theirs", caller="user:ada")
    await (await worker.host.start(other, Parent("run-2", ("default/other",)))).wait()
    async with apart(tmp_path, {"worker": [worker]}) as (_, _, http):
        as_pod = {"Authorization": "Bearer pod", ASKING: str(BOSS), ON_BEHALF: "user:ada"}
        async with http.get("/runs/theirs", headers=as_pod) as answer:
            assert answer.status == 404
        # Nor may it go on with a session of the person's.
        parent = {"run_id": "run-1", "chain": [str(BOSS)]}
        said = {"agent": "worker", "message": "?", "run_id": "mine", "session_id": "main", "parent": parent}
        async with http.post("/runs", json=said, headers=as_pod) as answer:
            assert (answer.status, (await answer.json())["error"]["reason"]) == (403, "NotTheParent")


@pytest.mark.parametrize("parent", [{"run_id": "run-x"}, {"chain": ["default/boss"]}])
async def test_half_a_parent_is_none(tmp_path: Path, parent: dict[str, Any]) -> None:
    worker = Scene()
    await worker.says("never", name="worker")
    said = {"agent": "worker", "message": "?", "parent": parent}
    async with gateway(tmp_path, {"worker": [worker]}) as (http, _), http.post("/runs", json=said) as answer:
        assert (answer.status, (await answer.json())["error"]["reason"]) == (403, "NotTheParent")
