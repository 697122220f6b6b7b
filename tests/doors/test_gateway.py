"""One door to every agent: requests reach the host they are for, as whoever calls, and come back as they are."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import aiohttp
import openai
import pytest

from kadre.plan.types import AgentKey
from kadre.server.gateway import runs, upstream
from kadre.server.gateway.crowd import Crowd
from kadre.server.gateway.visitors import Deed, Reception, Visitor
from kadre.server.identity import Verifier
from tests.support.gateway import NOWHERE, gateway
from tests.support.scene import Asking, Scene
from tests.support.serving import serving

pytestmark = pytest.mark.requirement("gateway")
A, B = AgentKey("default", "a"), AgentKey("default", "b")


class Fixed:
    """API keys that a test gives out."""

    def __init__(self, **keys: str) -> None:
        self.keys = keys

    def current(self) -> dict[str, str]:
        """See Keys."""
        return self.keys


class Person:
    """Somebody whom the cluster knows: what they may is a list of deeds and agents."""

    via = ""

    def __init__(self, name: str, *may: tuple[Deed, AgentKey]) -> None:
        self.name = name
        self._may = may

    async def may(self, deed: Deed, agent: AgentKey) -> bool:
        """See Visitor."""
        return (deed, agent) in self._may


class People:
    """A Reviewer: the token is the person's name."""

    def __init__(self, *people: Person) -> None:
        self._people: dict[str, Visitor] = {f"token-{person.name}": person for person in people}

    async def who(self, token: str, for_whom: str = "", asking: str = "") -> Visitor | None:
        """See Reviewer."""
        del for_whom
        return self._people.get(token)


async def answered(request: Any) -> tuple[int, dict[str, Any]]:
    async with request as answer:
        return answer.status, await answer.json()


def bearing(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


async def two(folder: Path) -> tuple[Scene, Scene]:
    one, other = Scene(), Scene()
    await one.says("from a", "a again")
    await other.says("from b", name="b")
    return one, other


async def test_each_agent_is_reached_by_its_name_at_every_door(tmp_path: Path) -> None:
    one, other = await two(tmp_path)
    async with gateway(tmp_path, {"a": [one], "b": [other]}) as (http, _):
        status, reply = await answered(http.post("/agents/a/chat", json={"message": "hi"}))
        assert (status, reply["response"]) == (200, "from a")
        assert reply["session_id"].startswith("ses-")
        told: dict[str, Any] = {"model": "b", "messages": [{"role": "user", "content": "hi"}]}
        status, completion = await answered(http.post("/v1/chat/completions", json=told))
        assert (status, completion["choices"][0]["message"]["content"]) == (200, "from b")
        told["model"] = ""
        status, completion = await answered(http.post("/default/a/v1/chat/completions", json=told))
        assert (status, completion["choices"][0]["message"]["content"]) == (200, "a again")
        _, models = await answered(http.get("/v1/models"))
        assert [each["id"] for each in models["data"]] == ["a", "b"]
        _, listed = await answered(http.get("/agents"))
        assert [each["name"] for each in listed["agents"]] == ["a", "b"]
        status, told = await answered(http.post("/agents/c/chat", json={"message": "hi"}))
        assert (status, told["error"]["reason"]) == (404, "NoSuchAgent")


async def test_the_openai_library_streams_through_it(tmp_path: Path) -> None:
    one, _ = await two(tmp_path)
    async with gateway(tmp_path, {"a": [one]}) as (http, _):
        client = openai.AsyncOpenAI(base_url=str(http._build_url("/v1")), api_key="any", max_retries=0)
        stream = await client.chat.completions.create(
            model="a", messages=[{"role": "user", "content": "hi"}], stream=True
        )
        said = [chunk.choices[0].delta.content or "" async for chunk in stream if chunk.choices]
        assert "".join(said) == "from a"
        with pytest.raises(openai.NotFoundError, match="no agent 'z'"):
            await client.chat.completions.create(model="z", messages=[{"role": "user", "content": "hi"}])
        await client.close()


async def test_runs_of_all_agents_are_one_list_and_each_is_found_where_it_is(tmp_path: Path) -> None:
    one, other = await two(tmp_path)
    begun = [(await one.ask()).info.run_id, (await other.ask(name="b")).info.run_id]
    async with gateway(tmp_path, {"a": [one], "b": [other]}) as (http, _):
        _, listed = await answered(http.get("/runs"))
        assert sorted(each["run_id"] for each in listed["runs"]) == sorted(begun)
        assert "missing" not in listed
        _, first = await answered(http.get("/runs?limit=1"))
        _, second = await answered(http.get(f"/runs?limit=1&before={first['next']}"))
        assert [each["run_id"] for each in first["runs"] + second["runs"]] == [
            each["run_id"] for each in listed["runs"]
        ]
        for run_id in begun:
            status, run = await answered(http.get(f"/runs/{run_id}"))
            assert (status, run["status"]) == (200, "completed")
            async with http.get(f"/runs/{run_id}/events") as answer:
                assert "event: run_finished" in await answer.text()
        status, _ = await answered(http.get("/runs/run-none"))
        assert status == 404
        _, sessions = await answered(http.get("/sessions"))
        assert len(sessions["sessions"]) == 2
        session = sessions["sessions"][0]["session_id"]
        status, told = await answered(http.get(f"/sessions/{session}"))
        assert (status, told["messages"][0]["content"]) == (200, "hi")
        status, made = await answered(http.post("/runs", json={"agent": "a", "message": "hi"}))
        assert (status, made["agent"]) == (202, "default/a")


async def test_a_stream_is_gone_on_with_from_the_last_event(tmp_path: Path) -> None:
    one, _ = await two(tmp_path)
    run = (await one.ask()).info.run_id
    async with gateway(tmp_path, {"a": [one]}) as (http, _):
        async with http.get(f"/runs/{run}/events") as answer:
            whole = (await answer.text()).split("\n\n")
        async with http.get(f"/runs/{run}/events", headers={"Last-Event-ID": "2"}) as answer:
            rest = (await answer.text()).split("\n\n")
    assert rest == [each for each in whole if not each.startswith(("id: 1\n", "id: 2\n", "id: 2."))]


async def test_a_host_that_is_not_there_is_passed_by_and_one_that_breaks_off_is_told(tmp_path: Path) -> None:
    one, _ = await two(tmp_path)
    async with gateway(tmp_path, {"a": [one]}) as (http, fleet):
        fleet.at[A] = [NOWHERE, *fleet.at[A]]
        for session in ("s", "t"):
            status, _ = await answered(http.post("/agents/a/chat", json={"message": "hi", "session_id": session}))
            assert status == 200
        fleet.at[A] = [NOWHERE]
        status, told = await answered(http.post("/agents/a/chat", json={"message": "hi"}))
        assert (status, told["error"]["reason"]) == (503, "AgentNotReady")
        fleet.at[A] = []
        async with http.post("/agents/a/chat", json={"message": "hi"}) as answer:
            assert (answer.status, answer.headers["Retry-After"]) == (503, "5")
        _, listed = await answered(http.get("/runs"))
        assert listed["missing"] == ["default/a: no pod answers"]
        cut = await asyncio.start_server(lambda _, writer: writer.close(), "127.0.0.1", 0)
        fleet.at[A] = ["{}:{}".format(*cut.sockets[0].getsockname())]
        status, told = await answered(http.post("/agents/a/chat", json={"message": "hi"}))
        assert (status, told["error"]["reason"]) == (502, "HostFailed")
        cut.close()


async def test_a_host_that_is_ending_takes_nothing_and_another_does(tmp_path: Path) -> None:
    one, other = Scene(), Scene()
    await one.says("never")
    await other.says("one", "two", "three")
    async with gateway(tmp_path, {"a": [one, other]}) as (http, _):
        await one.host.aclose(0.05)
        for session in ("s", "t", "u"):
            status, _ = await answered(http.post("/agents/a/chat", json={"message": "hi", "session_id": session}))
            assert status == 200


async def test_a_session_stays_at_one_host(tmp_path: Path) -> None:
    hosts = [Scene(), Scene(), Scene()]
    for each in hosts:
        await each.says(*["text"] * 20)
    async with gateway(tmp_path, {"a": hosts}) as (http, _):
        for _ in range(3):
            for session in ("s", "t", "u", "v", "w"):
                await answered(http.post("/agents/a/chat", json={"message": "hi", "session_id": session}))
    counted = [len(each.models["a"].requests) for each in hosts]
    assert sum(counted) == 15
    assert all(count % 3 == 0 for count in counted)
    assert sum(1 for count in counted if count) > 1


async def test_who_calls_is_known_by_key_or_token_and_may_what_they_may(tmp_path: Path) -> None:
    one, other = await two(tmp_path)
    ada = Person("user:ada", ("chat", A))
    reception = Reception(Fixed(shop="k-1"), reviewer=People(ada), trust_local=False)
    async with gateway(tmp_path, {"a": [one], "b": [other]}, reception) as (http, _):
        for headers, reason in (({}, "NoCredentials"), (bearing("wrong"), "BadToken")):
            status, told = await answered(http.get("/agents", headers=headers))
            assert (status, told["error"]["reason"]) == (401, reason)
        as_ada = bearing("token-user:ada")
        _, listed = await answered(http.get("/agents", headers=as_ada))
        assert [each["name"] for each in listed["agents"]] == ["a"]
        status, told = await answered(http.post("/agents/b/chat", json={"message": "hi"}, headers=as_ada))
        assert (status, told["error"]["reason"]) == (403, "NotAllowed")
        status, reply = await answered(http.post("/agents/a/chat", json={"message": "hi"}, headers=as_ada))
        assert status == 200
        _, runs = await answered(http.get("/runs", headers=as_ada))
        assert [each["caller"] for each in runs["runs"]] == ["user:ada"]
        status, _ = await answered(http.get(f"/runs/{reply['run_id']}", headers={"X-API-Key": "k-1"}))
        assert status == 404
        _, runs = await answered(http.get("/runs", headers={"X-API-Key": "k-1"}))
        assert runs["runs"] == []
        status, _ = await answered(http.get("/health"))
        assert status == 200
    seen = json.dumps([str(each) for each in one.models["a"].requests])
    assert "token-user" not in seen


async def test_deciding_a_call_takes_the_right_to(tmp_path: Path) -> None:
    def write() -> str:
        """Write."""
        return "written"

    scene = Scene()
    await scene.says([("write", {})], "done", tools=[Asking(write)])
    ada = Person("user:ada", ("chat", A))
    boss = Person("user:boss", ("chat", A), ("approve", A), ("runs", A))
    async with gateway(tmp_path, {"a": [scene]}, Reception(reviewer=People(ada, boss), trust_local=False)) as (http, _):
        as_ada, as_boss = bearing("token-user:ada"), bearing("token-user:boss")
        status, waiting = await answered(http.post("/agents/a/chat", json={"message": "write"}, headers=as_ada))
        assert (status, waiting["status"]) == (202, "waiting")
        decide = f"/runs/{waiting['run_id']}/approve"
        status, told = await answered(http.post(decide, json={"decision": "allow"}, headers=as_ada))
        assert (status, told["error"]["reason"]) == (403, "MayNotApprove")
        status, _ = await answered(http.post(decide, json={"decision": "allow"}, headers=as_boss))
        assert status == 200


async def test_nobody_takes_more_than_their_share(tmp_path: Path) -> None:
    scene, go = Scene(), asyncio.Event()
    await scene.says(go, go, go, "one", "two", "three")
    reception = Reception(Fixed(greedy="k-1", other="k-2"), trust_local=False)
    async with gateway(tmp_path, {"a": [scene]}, reception, Crowd(4)) as (http, _):
        greedy, other = bearing("k-1"), bearing("k-2")

        async def ask(headers: dict[str, str]) -> int:
            async with http.post("/agents/a/chat", json={"message": "hi"}, headers=headers) as answer:
                return answer.status

        asked = [asyncio.create_task(ask(greedy)) for _ in range(2)]
        await scene.models["a"].called.wait()
        while len(scene.models["a"].requests) < 2:  # noqa: ASYNC110
            await asyncio.sleep(0)
        assert await ask(greedy) == 429
        asked.append(asyncio.create_task(ask(other)))
        while len(scene.models["a"].requests) < 3:  # noqa: ASYNC110
            await asyncio.sleep(0)
        async with http.get("/metrics") as answer:
            text = await answer.text()
        assert "kagent_gateway_requests_under_way 3.0" in text
        assert "kagent_gateway_requests_refused_total 1.0" in text
        go.set()
        assert await asyncio.gather(*asked) == [200, 200, 200]


async def test_a_client_that_leaves_ends_what_nobody_waits_for(tmp_path: Path) -> None:
    scene, go = Scene(), asyncio.Event()
    await scene.says(go, "never")
    async with gateway(tmp_path, {"a": [scene]}) as (http, _):
        told = {"model": "a", "messages": [{"role": "user", "content": "hi"}]}
        with pytest.raises(TimeoutError):
            async with http.post("/v1/chat/completions", json=told, timeout=aiohttp.ClientTimeout(total=0.3)):
                pass
        (run,) = await scene.journal.runs()
        live = await scene.host.open(run.run_id)
        await asyncio.wait_for(live.wait(), 5)
        assert live.finished is not None
        assert live.finished.status == "cancelled"


async def test_what_agents_have_used_is_one_table(tmp_path: Path) -> None:
    one, other = await two(tmp_path)
    async with gateway(tmp_path, {"a": [one], "b": [other]}) as (http, fleet):
        await one.ask()
        await one.ask()
        _, told = await answered(http.get("/usage"))
        rows = {each["name"]: each for each in told["usage"]}
        assert (rows["a"]["requests"], rows["a"]["prompt_tokens"], rows["b"]["requests"]) == (2, 20, 0)
        fleet.at[B] = [NOWHERE]
        async with http.get("/usage", headers={"Accept": "text/plain"}) as answer:
            header, first, *rest = (await answer.text()).splitlines()
        assert header.split("   ")[0] == "NAMESPACE"
        assert first.split() == ["default", "a", "2", "0", "20", "4"]
        assert rest[-1].startswith("not counted: default/b: its pod cannot be reached")


async def test_a_right_on_one_agent_shows_nothing_of_another_that_shares_its_journal(tmp_path: Path) -> None:
    """Both agents are in one host here, as their runs are in one journal where replicas share one."""
    scene = Scene()
    await scene.says("of a", name="a")
    await scene.says("SECRET of b", name="b")
    run = (await scene.ask(name="b", session_id="s-b")).info.run_id
    eve = Person("user:eve", ("chat", A), ("runs", A), ("approve", A))
    reception = Reception(reviewer=People(eve), trust_local=False)
    async with gateway(tmp_path, {"a": [scene]}, reception) as (http, fleet):
        fleet.at[B] = fleet.at[A]
        as_eve = bearing("token-user:eve")
        for path in (f"/runs/{run}", f"/runs/{run}/events", "/sessions/s-b", "/sessions/s-b%23", "/sessions/s-b%3Fx"):
            async with http.get(path, headers=as_eve) as answer:
                assert answer.status == 404, path
                assert "SECRET" not in await answer.text()
        for deed in ("cancel", "approve"):
            status, _ = await answered(http.post(f"/runs/{run}/{deed}", json={"decision": "allow"}, headers=as_eve))
            assert status == 404
        _, listed = await answered(http.get("/runs", headers=as_eve))
        assert listed["runs"] == []
        status, told = await answered(http.get("/agents/zzz", headers=as_eve))
        assert (status, "b" in told["error"]["message"].partition("there is a")[2]) == (404, False)


async def test_a_run_id_sent_again_is_the_same_run_wherever_it_goes(tmp_path: Path) -> None:
    hosts = [Scene(), Scene(), Scene()]
    for each in hosts:
        await each.says(*["text"] * 20)
    async with gateway(tmp_path, {"a": hosts}) as (http, _):
        for number in range(4):
            said = {"message": "hi", "run_id": f"order-{number}"}
            answers = [await answered(http.post("/agents/a/chat", json=said)) for _ in range(3)]
            assert {status for status, _ in answers} == {200}
    assert sum(len(each.models["a"].requests) for each in hosts) == 4


async def test_an_id_that_another_caller_chose_too_leads_to_ones_own_run(tmp_path: Path) -> None:
    one, other = await two(tmp_path)
    ada = Person("user:ada", ("chat", A))
    eve = Person("user:eve", ("chat", A), ("chat", B))
    reception = Reception(reviewer=People(ada, eve), trust_local=False)
    async with gateway(tmp_path, {"a": [one], "b": [other]}, reception) as (http, _):
        for name, agent in (("ada", "a"), ("eve", "b")):
            said = {"agent": agent, "message": "hi", "run_id": "order-17"}
            status, _ = await answered(http.post("/runs", json=said, headers=bearing(f"token-user:{name}")))
            assert status == 202
        for name, agent in (("ada", "default/a"), ("eve", "default/b")):
            status, run = await answered(http.get("/runs/order-17", headers=bearing(f"token-user:{name}")))
            assert (status, run["agent"]) == (200, agent)


async def test_a_pod_that_hangs_or_talks_nonsense_is_missing_in_lists_and_no_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runs, "LOOK_SECONDS", 0.2)
    one, _ = await two(tmp_path)
    run = (await one.ask()).info.run_id

    async def hang(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    async def babble(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\n{}")
        writer.close()

    servers = [await asyncio.start_server(each, "127.0.0.1", 0) for each in (hang, babble)]
    async with gateway(tmp_path, {"a": [one]}) as (http, fleet):
        fleet.at[B] = ["{}:{}".format(*server.sockets[0].getsockname()) for server in servers]
        _, listed = await answered(http.get("/runs"))
        assert [each["run_id"] for each in listed["runs"]] == [run]
        assert listed["missing"] == [
            "default/b: its pod answers what cannot be read",
            "default/b: its pod broke off",
        ]
        status, _ = await answered(http.get(f"/runs/{run}"))
        assert status == 200
    for server in servers:
        server.close()


async def test_a_pod_that_does_not_know_the_key_yet_is_no_fault_of_the_callers(tmp_path: Path) -> None:
    one, other = Scene(), Scene()
    await one.says("never")
    await other.says("one", "two")
    (tmp_path / "other").mkdir()
    known_to_nobody = serving(one, Verifier(tmp_path / "other", "default/a".__eq__))
    async with gateway(tmp_path, {"a": [other]}) as (http, fleet), known_to_nobody as url:
        known = fleet.at[A]
        fleet.at[A] = [urlsplit(url).netloc]
        async with http.post("/agents/a/chat", json={"message": "hi"}) as answer:
            assert (answer.status, answer.headers["Retry-After"]) == (503, "5")
            assert "does not know the gateway's key yet" in await answer.text()
        fleet.at[A] = [*fleet.at[A], *known]
        for session in ("s", "t"):
            said = {"message": "hi", "session_id": session}
            assert (await answered(http.post("/agents/a/chat", json=said)))[0] == 200


async def test_who_approves_by_a_key_sees_what_there_is_to_decide_about(tmp_path: Path) -> None:
    def write() -> str:
        """Write."""
        return "written"

    scene = Scene()
    await scene.says([("write", {})], "done", tools=[Asking(write)])
    reception = Reception(Fixed(shop="k-1", oncall="k-2"), frozenset({"oncall"}), trust_local=False)
    async with gateway(tmp_path, {"a": [scene]}, reception) as (http, _):
        status, waiting = await answered(http.post("/agents/a/chat", json={"message": "w"}, headers=bearing("k-1")))
        assert status == 202
        decide = f"/runs/{waiting['run_id']}/approve"
        status, _ = await answered(http.post(decide, json={"decision": "allow"}, headers=bearing("k-2")))
        assert status == 200


async def test_a_key_of_any_letters_is_that_key_and_no_other(tmp_path: Path) -> None:
    one, _ = await two(tmp_path)
    reception = Reception(Fixed(ru="\u043f\u0430\u0440\u043e\u043b\u044c"), trust_local=False)
    async with gateway(tmp_path, {"a": [one]}, reception) as (http, _):
        for key, expected in (("??????", 401), ("\u043f\u0430\u0440\u043e\u043b\u044c", 200)):
            async with http.get("/agents", headers={"X-API-Key": key}) as answer:
                assert answer.status == expected


async def test_what_a_host_would_refuse_of_a_list_or_a_body_is_refused(tmp_path: Path) -> None:
    one, _ = await two(tmp_path)
    async with gateway(tmp_path, {"a": [one]}) as (http, _):
        for query, reason in (("status=bogus", "BadStatus"), ("before=garbage", "BadCursor"), ("limit=0", "BadLimit")):
            status, told = await answered(http.get(f"/runs?{query}"))
            assert (status, told["error"]["reason"]) == (400, reason)
        for body in (b'{"message":"x","agent":"a","z":"\xff"}', b'{"message":"x","agent":"a","z":1e999999}', b"[]"):
            async with http.post("/runs", data=body) as answer:
                assert answer.status == 400
        status, told = await answered(http.post("/agents/a/chat", json={"message": "x", "session_id": "a\nb"}))
        assert (status, told["error"]["reason"]) == (400, "BadId")


async def test_who_may_only_decide_finds_what_there_is_to_decide(tmp_path: Path) -> None:
    def write() -> str:
        """Write."""
        return "written"

    scene = Scene()
    await scene.says([("write", {})], "done", tools=[Asking(write)])
    ada, boss = Person("user:ada", ("chat", A)), Person("user:boss", ("approve", A))
    async with gateway(tmp_path, {"a": [scene]}, Reception(reviewer=People(ada, boss), trust_local=False)) as (http, _):
        as_ada, as_boss = bearing("token-user:ada"), bearing("token-user:boss")
        await answered(http.post("/agents/a/chat", json={"message": "write"}, headers=as_ada))
        _, listed = await answered(http.get("/runs?status=waiting", headers=as_boss))
        (run,) = listed["runs"]
        decide = f"/runs/{run['run_id']}/approve"
        status, _ = await answered(http.post(decide, json={"decision": "allow"}, headers=as_boss))
        assert status == 200
        status, told = await answered(http.post("/agents/a/chat", json={"message": "hi"}, headers=as_boss))
        assert (status, told["error"]["reason"]) == (403, "NotAllowed")


async def test_a_client_of_openais_is_sent_to_the_gateway_to_decide(tmp_path: Path) -> None:
    def write() -> str:
        """Write."""
        return "written"

    scene = Scene()
    await scene.says([("write", {})], "done", tools=[Asking(write)])
    async with gateway(tmp_path, {"a": [scene]}) as (http, _):
        told = {"model": "a", "messages": [{"role": "user", "content": "write"}]}
        _, completion = await answered(http.post("/v1/chat/completions", json=told))
        said = completion["choices"][0]["message"]["content"]
        link = said.rpartition("POST ")[2]
        assert link.startswith(str(http._build_url("/runs/")))
        status, _ = await answered(http.post(link, json={"decision": "allow"}))
        assert status == 200


async def test_a_message_waits_for_a_pod_that_is_about_to_come(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    one, _ = await two(tmp_path)
    async with gateway(tmp_path, {"a": [one]}) as (http, fleet):
        hosts, fleet.at[A] = fleet.at[A], []
        fleet.coming.add(A)
        asked = asyncio.create_task(answered(http.post("/agents/a/chat", json={"message": "hi"})))
        async with asyncio.timeout(5):
            while "kagent_gateway_requests_held 1.0" not in await (await http.get("/metrics")).text():
                pass
        fleet.at[A] = hosts
        fleet.news.set()
        assert (await asked)[0] == 200
        fleet.at[A] = []
        monkeypatch.setattr(upstream, "HOLD_SECONDS", 0.05)
        async with http.post("/agents/a/chat", json={"message": "hi"}) as late:
            assert (late.status, late.headers["Retry-After"]) == (503, "5")
        fleet.coming.clear()  # it crashes, say: nobody waits
        monkeypatch.setattr(upstream, "HOLD_SECONDS", 60.0)
        status, told = await answered(http.post("/agents/a/chat", json={"message": "hi"}))
        assert (status, told["error"]["reason"]) == (503, "AgentNotReady")
