"""Whom a gateway vouches for: each has their own runs and sessions, and decides only with the right to."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

from kadre.base.clock import SystemClock
from kadre.engine import events as ev
from kadre.server.identity import Right, Signer, Verifier, key_id
from tests.support.scene import Asking, Scene
from tests.support.serving import serving
from tests.support.unsteady import Unsteady

HOST = "default/a"
pytestmark = pytest.mark.requirement("callers-apart")

As = Callable[..., aiohttp.ClientSession]


@pytest.fixture
def signer(tmp_path: Path) -> Signer:
    private = Ed25519PrivateKey.generate()
    (tmp_path / "key").write_bytes(private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    public = private.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    (tmp_path / f"{key_id(private.public_key())}.pem").write_bytes(public)
    return Signer((tmp_path / "key").read_bytes, SystemClock())


@pytest.fixture
async def caller(scene: Scene, signer: Signer, tmp_path: Path) -> AsyncIterator[As]:
    """A client of the host for whom the gateway vouches, by name."""
    sessions: list[aiohttp.ClientSession] = []
    async with serving(scene, Verifier(tmp_path, HOST.__eq__)) as url:

        def make(name: str, *rights: Right, host: str = HOST) -> aiohttp.ClientSession:
            headers = {"X-Kadre-Identity": signer.sign(name, host, rights), "X-Forwarded-For": "10.0.0.9"}
            sessions.append(aiohttp.ClientSession(url, headers=headers))
            return sessions[-1]

        yield make
        for session in sessions:
            await session.close()


async def answered(request: Any) -> tuple[int, dict[str, Any]]:
    async with request as answer:
        return answer.status, await answer.json()


async def test_a_caller_sees_their_own_runs_and_sessions_only(scene: Scene, caller: As) -> None:
    await scene.says("one", "two")
    ada, bob, auditor = caller("user:ada"), caller("user:bob"), caller("user:eve", "see-all")
    status, reply = await answered(ada.post("/chat", json={"message": "hi", "session_id": "s"}))
    assert (status, reply["response"]) == (200, "one")
    status, told = await answered(bob.post("/chat", json={"message": "hi", "session_id": "s"}))
    assert (status, told["error"]["reason"]) == (409, "NotYourSession")
    run = reply["run_id"]
    for path in (f"/runs/{run}", f"/runs/{run}/events", "/sessions/s"):
        status, told = await answered(bob.get(path))
        assert status == 404, path
    for path in (f"/runs/{run}/cancel", f"/runs/{run}/approve"):
        status, told = await answered(bob.post(path, json={"decision": "allow"}))
        assert status == 404, path
    assert (await answered(bob.get("/runs")))[1]["runs"] == []
    assert (await answered(bob.get("/sessions")))[1]["sessions"] == []
    for client in (ada, auditor):
        assert [each["run_id"] for each in (await answered(client.get("/runs")))[1]["runs"]] == [run]
        assert [each["session_id"] for each in (await answered(client.get("/sessions")))[1]["sessions"]] == ["s"]
        assert (await answered(client.get(f"/runs/{run}")))[1]["caller"] == "user:ada"


@pytest.mark.requirement("session-keeping")
async def test_nobody_names_forks_or_forgets_anothers_session(scene: Scene, caller: As) -> None:
    await scene.says("one", "two")
    ada, bob, auditor = caller("user:ada"), caller("user:bob"), caller("user:eve", "see-all")
    _, reply = await answered(ada.post("/chat", json={"message": "the kettle", "session_id": "s"}))
    fork = f"/runs/{reply['run_id']}/fork"
    for refused in (bob.patch("/sessions/s", json={"title": "x"}), bob.delete("/sessions/s"), bob.post(fork, json={})):
        assert (await answered(refused))[0] == 404
    assert (await answered(bob.get("/sessions?q=kettle")))[1]["sessions"] == []
    status, made = await answered(auditor.post(fork, json={"session_id": "f"}))
    assert (status, made["caller"]) == (201, "user:eve")
    assert [each["session_id"] for each in (await answered(ada.get("/sessions?q=kettle")))[1]["sessions"]] == ["s"]
    assert (await answered(ada.patch("/sessions/s", json={"title": "mine"})))[1]["title"] == "mine"
    _, offer = await answered(ada.get("/agents/default/a/offer"))
    assert "prompt" not in offer
    assert "prompt" in (await answered(auditor.get("/agents/default/a/offer")))[1]


async def test_deciding_a_call_is_a_right_of_its_own(scene: Scene, caller: As) -> None:
    def write() -> str:
        """Write."""
        return "written"

    await scene.says([("write", {})], "done", tools=[Asking(write)])
    ada, boss = caller("user:ada"), caller("user:boss", "see-all", "approve")
    status, waiting = await answered(ada.post("/chat", json={"message": "write it"}))
    assert (status, waiting["status"]) == (202, "waiting")
    decide = f"/runs/{waiting['run_id']}/approve"
    status, told = await answered(ada.post(decide, json={"decision": "allow"}))
    assert (status, told["error"]["reason"]) == (403, "MayNotApprove")
    status, _ = await answered(boss.post(decide, json={"decision": "allow"}))
    assert status == 200
    live = await scene.host.open(waiting["run_id"])
    await live.wait()
    assert [event.by for event in live.events if isinstance(event, ev.ApprovalDecided)] == ["user:boss"]


async def test_a_word_for_another_host_is_refused_and_without_one_a_stranger_is_nobody(
    scene: Scene, caller: As
) -> None:
    await scene.says("never")
    status, told = await answered(caller("user:ada", host="default/b").post("/chat", json={"message": "hi"}))
    assert (status, told["error"]["reason"]) == (401, "UnprovenIdentity")
    stranger = caller("user:ada")
    status, told = await answered(stranger.post("/chat", json={"message": "hi"}, headers={"X-Kadre-Identity": ""}))
    assert (status, told["error"]["reason"]) == (401, "NotLocal")
    status, _ = await answered(stranger.get("/health", headers={"X-Kadre-Identity": ""}))
    assert status == 200


async def test_the_dead_store_of_another_agent_is_nothing_to_a_caller_of_this_one(scene: Scene, caller: As) -> None:
    await scene.says("one")
    scene.host.journals = (Unsteady("is down", 1), *scene.host.journals)
    ada = caller("user:ada")
    status, run = await answered(ada.post("/runs", json={"message": "hi", "run_id": "run-1", "session_id": "s"}))
    assert (status, run["run_id"]) == (202, "run-1")
    await (await scene.host.open("run-1")).wait()
    assert (await answered(ada.get("/runs/run-1")))[1]["response"] == "one"
    for path in ("/runs", "/sessions", "/sessions/s"):
        assert (await answered(ada.get(path)))[0] == 200, path
