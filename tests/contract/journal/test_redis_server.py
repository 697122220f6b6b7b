"""Redis as people run it: with TLS and passwords, with what it may lose, with what it refuses."""

from __future__ import annotations

import asyncio
import functools
import json
import logging
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import msgspec
import pytest

from kadre.base import errors
from kadre.base.clock import SystemClock
from kadre.engine import events as ev
from kadre.engine.memory.port import NewRun
from kadre.engine.memory.redis import RedisJournal
from kadre.engine.memory.redis_server import Address
from kadre.engine.memory.remote_journal import RemoteJournal
from kadre.local.hosting import Journals
from kadre.plan.types import MemoryPlan, RedisPlan, SecretRef
from tests.cluster.certificates import Authority
from tests.contract.journal.story import AGENT, START, Teller, numbers, said, whole_run
from tests.support.redis import RedisServer
from tests.support.upping import free_port, up

pytestmark = [pytest.mark.stores, pytest.mark.needs("redis")]
SECRET = "hush-9f2"
HERE = "127.0.0.1"


class Secrets:
    """A SecretReader over a mapping of keys."""

    def __init__(self, values: dict[str, str]) -> None:
        self.values = values

    def read(self, ref: SecretRef) -> str | None:
        """See SecretReader."""
        return self.values.get(ref.key)


def ref(key: str) -> SecretRef:
    return SecretRef(namespace="team", name="redis", key=key)


@pytest.fixture
async def ours(redis: RedisServer, space: str) -> AsyncIterator[RemoteJournal]:
    journal = await RedisJournal.open(redis.url, prefix=f"{space}:")
    yield journal
    await journal.aclose()


@pytest.fixture
def encrypted(tmp_path: Path) -> Iterator[tuple[RedisServer, Authority]]:
    """A server that is reached over TLS alone, with a password."""
    authority = Authority(tmp_path, "ca")
    certificate = authority.server("redis", [HERE])
    key = certificate.with_suffix(".key")
    files = ("--tls-cert-file", str(certificate), "--tls-key-file", str(key), "--tls-auth-clients", "no")
    with RedisServer("--requirepass", SECRET, *files, address=HERE, tls=True) as server:
        yield server, authority


async def refused(tmp_path: Path, values: dict[str, str], plan: RedisPlan) -> errors.KadreError:
    with pytest.raises((errors.ProblemError, errors.Unavailable)) as found:
        await Journals(tmp_path, Secrets(values), SystemClock()).of(MemoryPlan(type="redis", redis=plan))
    assert SECRET not in str(found.value)
    return found.value


@pytest.mark.requirement("memory-redis")
async def test_the_plan_of_a_server_with_tls_and_a_password_leads_there(
    encrypted: tuple[RedisServer, Authority], tmp_path: Path
) -> None:
    server, authority = encrypted
    strange = Authority(tmp_path, "other")
    values = {"password": SECRET, "wrong": "another"}
    values |= {"ca.crt": authority.certificate.read_text(), "other.crt": strange.certificate.read_text()}
    journals = Journals(tmp_path, Secrets(values), SystemClock())
    plan = RedisPlan(host=HERE, port=server.port, database=2, password=ref("password"), tls=True, ca=ref("ca.crt"))
    journal = await journals.of(MemoryPlan(type="redis", redis=plan))
    await whole_run(journal, "run-1", "s")
    assert said(await journal.history(AGENT, "s", 2, 9)) == ["message of run-1", "answer of run-1"]
    await journal.aclose()
    stranger = await refused(tmp_path, values, msgspec.structs.replace(plan, ca=ref("other.crt")))
    assert "cannot be encrypted" in str(stranger)
    wrong = await refused(tmp_path, values, msgspec.structs.replace(plan, password=ref("wrong")))
    assert "refuses this user or its password" in str(wrong)
    none = await refused(tmp_path, values, msgspec.structs.replace(plan, password=None))
    assert "asks for a password, and none is given" in str(none)
    missing = await refused(tmp_path, values, msgspec.structs.replace(plan, password=ref("missing")))
    assert "there is no value in key missing of Secret team/redis, which the Redis journal needs" in str(missing)


MANIFEST = """
apiVersion: v1
kind: Secret
metadata: {{name: redis-credentials}}
stringData: {{password: {password}}}
---
apiVersion: v1
kind: Secret
metadata: {{name: redis-tls-cert}}
stringData: {{ca.crt: {authority}}}
---
apiVersion: kagent.dev/v1alpha1
kind: MemoryStore
metadata: {{name: agent-memory-redis}}
spec:
  type: redis
  redis:
    host: redis-master.ai-data.svc.cluster.local
    tls: {{enabled: true, secretRef: {{name: redis-tls-cert}}}}
    auth: {{secretRef: {{name: redis-credentials, passwordKey: password}}}}
  policy: {{sessionTTL: 3600, maxConversationHistory: 100}}
---
apiVersion: kagent.dev/v1alpha1
kind: Agent
metadata: {{name: helper}}
spec: {{model: {{provider: scripted, name: m}}, memory: {{storeRef: agent-memory-redis}}}}
"""


@pytest.mark.requirement("memory-redis")
async def test_a_laptop_reaches_a_memory_store_with_tls_and_finds_its_conversations_again(
    encrypted: tuple[RedisServer, Authority], tmp_path: Path
) -> None:
    server, authority = encrypted
    pem = json.dumps(authority.certificate.read_text())
    files = tmp_path / "files"
    files.mkdir()
    (files / "helper.yaml").write_text(MANIFEST.format(password=SECRET, authority=pem))
    there = f"--map=redis-master.ai-data.svc.cluster.local:6379={HERE}:{server.port}"
    for word in ("one", "two"):
        async with up(files, there) as upped:
            assert (await upped.post("/chat", {"message": word, "session_id": "s"}))[0] == 200
            session = await upped.get("/sessions/s")
            assert SECRET not in upped.said
    assert [message["content"] for message in session["messages"] if message["role"] == "user"] == ["one", "two"]


async def test_a_password_that_is_changed_is_used_for_the_next_connection() -> None:
    with RedisServer("--requirepass", "old", address=HERE) as server:
        secrets = {"password": "old"}
        journal = await RedisJournal.open(lambda: Address(HERE, server.port, password=secrets["password"]))
        run = Teller("run-1", "s")
        await run.create(journal)
        secrets["password"] = "new"
        await server.asked("-a", "old", "--no-auth-warning", "CONFIG", "SET", "requirepass", "new")
        await server.asked("-a", "new", "--no-auth-warning", "CLIENT", "KILL", "TYPE", "normal")
        await run.end(journal)
        assert numbers(await journal.events("run-1")) == [1, 2, 3, 4, 5]
        await journal.aclose()


async def test_a_user_who_may_only_do_what_is_needed_is_enough(
    redis: RedisServer, caplog: pytest.LogCaptureFixture
) -> None:
    rights = ("~kadre:*", "&kadre:*", "+@all", "-@admin", "-@dangerous")
    await redis.asked("ACL", "SETUSER", "ann", "on", f">{SECRET}", *rights)
    journal = await RedisJournal.open(lambda: Address(str(redis.socket), 0, 5, "ann", SECRET))
    assert "the server does not say whether it keeps what it acknowledged" in caplog.text
    assert not journal.durable
    await whole_run(journal, "run-1", "s")
    assert len(await journal.events("run-1")) == 5
    await journal.aclose()
    await redis.asked("ACL", "SETUSER", "ann", "+info")
    journal = await RedisJournal.open(lambda: Address(str(redis.socket), 0, 5, "ann", SECRET))
    assert journal.durable
    await journal.aclose()
    await redis.asked("ACL", "SETUSER", "bob", "on", f">{SECRET}", "~other:*", "+@all")
    with pytest.raises(errors.ProblemError, match="may not do what Kadre needs"):
        await RedisJournal.open(lambda: Address(str(redis.socket), 0, 5, "bob", SECRET))


async def test_a_cluster_is_refused_in_words() -> None:
    bus = ("--cluster-port", str(free_port()))  # its own is 10,000 above the other, which may be none
    with (
        RedisServer("--cluster-enabled", "yes", *bus, address=HERE) as server,
        pytest.raises(errors.ProblemError) as found,
    ):
        await RedisJournal.open(f"redis://{HERE}:{server.port}")
    assert "one of a Redis Cluster, which is not supported" in str(found.value)


@pytest.mark.parametrize(
    ("settings", "durable", "told"),
    [
        ("--appendfsync always", True, ""),
        ("--appendfsync everysec", True, "appendfsync is everysec: up to a second of what it acknowledged is lost"),
        ("--appendfsync no", True, "appendfsync is no: "),
        ("--appendonly no", False, "the server writes no file (appendonly no)"),
        ("--maxmemory 99mb --maxmemory-policy allkeys-lru", False, "throws conversations away when its memory is full"),
        ("--maxmemory-policy allkeys-lfu", True, "throws conversations away once maxmemory is set and that is full"),
        (
            "--maxmemory 99mb --maxmemory-policy volatile-ttl",
            True,
            "throws large values that wait for their event away",
        ),
        ("--maxmemory 99mb --maxmemory-policy noeviction", True, ""),
    ],
)
async def test_what_the_server_may_lose_is_told(
    caplog: pytest.LogCaptureFixture, settings: str, durable: bool, told: str
) -> None:
    with RedisServer(*settings.split()) as server:
        journal = await RedisJournal.open(server.url)
        assert journal.durable == durable
        await journal.aclose()
    warnings = [record.message for record in caplog.records if record.levelno == logging.WARNING]
    assert len(warnings) == bool(told)
    assert told in "".join(warnings)


async def test_a_server_whose_memory_is_full_refuses_whole_writes_and_goes_on_when_it_has_room() -> None:
    with RedisServer("--maxmemory-policy", "noeviction") as server:
        journal = await RedisJournal.open(server.url)
        run = Teller("run-1", "s")
        await run.create(journal)
        before = await server.asked("DBSIZE")
        await server.asked("CONFIG", "SET", "maxmemory", "1mb")
        last = run.last()
        for call in (Teller("run-2", "t").create(journal), run.append(journal, *last), journal.put_blob(b"x")):
            with pytest.raises(errors.Unavailable, match="the server's memory is full; raise its maxmemory"):
                await call
        assert (await server.asked("DBSIZE"), len(await journal.events("run-1"))) == (before, 2)
        await server.asked("CONFIG", "SET", "maxmemory", "0")
        await run.append(journal, *last)
        assert [info.status for info in await journal.runs()] == ["completed"]
        await journal.aclose()


async def test_scripts_that_the_server_has_forgotten_are_told_again(redis: RedisServer, ours: RemoteJournal) -> None:
    await whole_run(ours, "run-1", "s")
    await redis.asked("SCRIPT", "FLUSH")
    await asyncio.gather(*(whole_run(ours, f"run-{index}", f"s{index}") for index in range(2, 40)))
    assert len(await ours.runs()) == 39


async def test_databases_of_one_server_are_journals_of_their_own(redis: RedisServer, space: str) -> None:
    places = [functools.partial(Address, str(redis.socket), database=number) for number in (6, 7)]
    journals = [await RedisJournal.open(place, prefix=f"{space}:") for place in places]
    for journal in journals:
        await whole_run(journal, "run-1", "s")
        assert [info.order for info in await journal.runs()] == [1]
        await journal.aclose()


async def test_one_server_that_forgets_all_gives_nobodys_runs_away(redis: RedisServer, space: str) -> None:
    """Two that go on: what is new is its creator's, and no lease is taken for one that was given up."""
    here, there = [await RedisJournal.open(redis.url, prefix=f"{space}:", lease=1.5) for _ in range(2)]
    await Teller("run-1", "s").create(here)
    for key in (await redis.asked("KEYS", f"{space}:*")).splitlines():
        await redis.asked("DEL", key)
    assert await here.run("run-1") is None
    await Teller("run-2", "s").create(here)
    assert await there.abandoned({AGENT}) == []
    for _ in range(3):
        await there.news()
    assert await there.abandoned({AGENT}) == []
    assert [info.run_id for info in await here.held()] == ["run-2"]
    for journal in (here, there):
        await journal.aclose()


async def test_a_session_can_be_deleted_from_a_server_whose_memory_is_full() -> None:
    with RedisServer("--maxmemory-policy", "noeviction") as server:
        journal = await RedisJournal.open(server.url)
        await whole_run(journal, "run-1", "s")
        await server.asked("CONFIG", "SET", "maxmemory", "1mb")
        with pytest.raises(errors.Unavailable, match="memory is full"):
            await journal.put_blob(b"large")
        await journal.delete_session(AGENT, "s")
        assert await journal.run("run-1") is None
        await server.asked("CONFIG", "SET", "maxmemory", "0")
        await journal.aclose()


async def test_connections_are_two_whatever_is_asked_at_once(redis: RedisServer, space: str) -> None:
    async def connected() -> int:
        return (await redis.asked("CLIENT", "LIST")).count("name=kadre")

    before = await connected()
    journal = await RedisJournal.open(redis.url, prefix=f"{space}:")
    await asyncio.gather(*(whole_run(journal, f"run-{index}", f"s{index}") for index in range(2000)))
    assert await connected() == before + 2
    await journal.aclose()


async def test_blobs_go_when_nothing_names_them(redis: RedisServer, ours: RemoteJournal, space: str) -> None:
    async def lasts(digest: str) -> bool:
        return await redis.asked("TTL", f"{space}:blob:{digest}") == "-1"

    digest, stray = await ours.put_blob(b"large"), await ours.put_blob(b"its event never came")
    assert (await lasts(digest), await lasts(stray)) == (False, False)
    for minute in (1, 2):
        run = Teller(f"run-{minute}", f"s{minute}", minute=minute)
        await run.create(ours)
        named = run.event(ev.System, reason="R", message="m")
        await run.append(ours, msgspec.structs.replace(named, blobs={"message": digest}), *run.last())
    await ours.put_blob(b"large")
    assert await lasts(digest)
    assert await ours.delete_sessions_before(AGENT, START.replace(minute=2)) == 1
    assert await lasts(digest)
    assert await ours.delete_sessions_before(AGENT, START.replace(minute=9)) == 1
    assert not await lasts(digest)
    assert await ours.get_blob(digest) == b"large"  # somebody may have put it just now
    assert set(await _kinds(redis, space)) == {"blob", "version", "leases"}


async def test_an_event_that_names_a_value_which_the_server_has_thrown_away_is_not_written(
    redis: RedisServer, ours: RemoteJournal, space: str
) -> None:
    async def puts_and_loses() -> str:
        digest = await ours.put_blob(b"large")
        await redis.asked("DEL", f"{space}:blob:{digest}")  # as a server does that is full, with volatile-lru
        return digest

    run, other = Teller("run-1", "s"), Teller("run-2", "t")
    await run.create(ours)
    digest = await puts_and_loses()
    large = msgspec.structs.replace(run.event(ev.AssistantMessage, content="la…"), blobs={"content": digest})
    started, message = other.first()
    first = [started, msgspec.structs.replace(message, blobs={"content": digest})]
    new = NewRun(run_id="run-2", session_id="t", agent=AGENT, caller="local")
    before = await _kinds(redis, space)
    for call in (run.append(ours, large), ours.create(new, first)):
        with pytest.raises(
            errors.Unavailable, match="set maxmemory-policy noeviction there, and send the message agai"
        ):
            await call
    assert sorted(await _kinds(redis, space)) == sorted(before)
    assert numbers(await ours.events("run-1")) == [1, 2]
    await ours.put_blob(b"large")
    await run.append(ours, large)
    await ours.create(new, first)
    assert await redis.asked("TTL", f"{space}:blob:{digest}") == "-1"
    assert numbers(await ours.events("run-1")) == [1, 2, 3]


async def _kinds(redis: RedisServer, space: str) -> list[str]:
    return [key.split(":")[1] for key in (await redis.asked("KEYS", f"{space}:*")).splitlines()]


async def test_a_value_that_is_no_text_is_refused_as_the_callers(ours: RemoteJournal) -> None:
    with pytest.raises(errors.BadRequest):
        await Teller("run-1", "s", caller="\ud800").create(ours)
    with pytest.raises(errors.BadRequest):
        await ours.run("\ud800")
    await whole_run(ours, "run-1", "s", caller="a\0b")
    assert [info.caller for info in await ours.runs(caller="a\0b")] == ["a\0b"]


async def test_who_answers_that_is_no_redis_is_told_so() -> None:
    async def answer(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        await writer.drain()
        writer.close()

    async with await asyncio.start_server(answer, HERE, 0) as server:
        port = server.sockets[0].getsockname()[1]
        with pytest.raises(errors.Unavailable, match="redis journal"):
            await RedisJournal.open(f"redis://{HERE}:{port}")


@pytest.mark.parametrize(
    "url",
    [
        f"redis://ann:{SECRET}@127.0.0.1:1/0",
        f"rediss://ann:{SECRET}@127.0.0.1:1/0",
        f"redis://ann:{SECRET}/x@127.0.0.1:1/0",
        f"redis://ann:1?{SECRET}@127.0.0.1:1/0",
        f"redis://ann:1#{SECRET}@127.0.0.1:1/0",
        f"redis://ann:[{SECRET}@127.0.0.1:1/0",
        f"redis://127.0.0.1:1/0?password={SECRET}",
        f"redis://127.0.0.1:1/{SECRET}",
        f"mysql://ann:{SECRET}@127.0.0.1:1/0",
        f"{SECRET}",
        "redis:///0",
    ],
)
async def test_no_address_leads_to_an_error_with_its_password(url: str) -> None:
    with pytest.raises((errors.ProblemError, errors.Unavailable)) as found:
        await RedisJournal.open(url)
    assert SECRET not in str(found.value)
    assert SECRET not in repr(found.value)


def test_without_the_library_it_is_said_what_to_install() -> None:
    script = "import sys; sys.modules['hiredis'] = None; import kadre.engine.memory.redis"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert "pip install 'kadre[redis]'" in done.stderr


async def test_a_server_that_becomes_a_replica_is_told_and_gone_back_to_when_it_is_the_primary_again() -> None:
    with RedisServer() as server:
        journal = await RedisJournal.open(server.url)
        await server.asked("REPLICAOF", HERE, "1")
        with pytest.raises(errors.Unavailable, match="may only be read from"):
            await Teller("run-1", "s").create(journal)
        await server.asked("REPLICAOF", "NO", "ONE")
        await whole_run(journal, "run-1", "s")
        await journal.aclose()
