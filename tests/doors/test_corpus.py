"""Injected instructions and shown secrets through every kind of tool, with the worst model there is: it gets no secret,
and writes nothing that neither a person nor an author has allowed."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec
import pytest
import yaml

from kadre.cli.served import ServedRuns
from kadre.engine.replay import recording
from kadre.local.kept import KeptRuns
from tests.support import canaries, corpus, corpus_stdio
from tests.support.commands import kadre
from tests.support.corpus import Case
from tests.support.corpus_play import Played, Stage
from tests.support.corpus_servers import Servers, corpus_servers
from tests.support.redis import RedisServer
from tests.support.upping import Upped, free_port, up
from tests.support.worst_model import WorstModel, worst_model

pytestmark = [pytest.mark.requirement("corpus"), pytest.mark.timeout(180)]
FOLDER = Path(__file__).parent / "corpus"
HEADERS = "secretHeaders: {Authorization: {name: pages-token, key: value}}"
AGENTS = ("agents.yaml", "in-redis.yaml")
IN_REDIS = "in-redis"
AT_ONCE = 6
INGESTED = "texts"
PATHS = ("/metrics", "/agents", "/health", "/approvals", "/sessions?q=token")


def prepared(folder: Path, port: int, model: WorstModel, servers: Servers, more: Mapping[str, str]) -> list[str]:
    """Write the agents' manifests, their secrets and what is to be ingested into the folder; read the cases.

    Returns the files of the manifests. `more`: where what only some cases need is.
    """
    pages = f'name: pages, endpoint: "http://127.0.0.1:{servers.port}/mcp/plain", {HEADERS}'
    marks = {
        "PORT": str(servers.port),
        "FOREIGN": str(servers.foreign),
        "UP": str(port),
        "MODEL": model.url,
        "PAGES": pages,
        "POISONED": pages.replace("plain", "poisoned"),
        "PYTHON": sys.executable,
        "STDIO": str(corpus_stdio.__file__),
        "CASES": str(folder / "texts.json"),
        "FOLDER": str(folder),
        **more,
    }
    cases = corpus.load(FOLDER, marks)
    servers.cases = model.cases = cases
    (folder / "texts.json").write_text(json.dumps({case.id: case.text for case in cases.values()}))
    for name in AGENTS[: 1 + len(more)]:
        (folder / name).write_text(corpus.marked(FOLDER / name, marks))
    secrets = [
        {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}, "stringData": {"value": value}}
        for name, value in canaries.VALUES.items()
    ]
    (folder / "secrets.yaml").write_text(yaml.safe_dump_all(secrets))
    (folder / "docs").mkdir()
    for case in cases.values():
        if case.through == "retrieval":
            (folder / "docs" / f"{case.id}.md").write_text(f"---\ncase: {case.id}\n---\n{case.text}\n")
    return sorted(file.name for file in folder.glob("*.yaml"))


@asynccontextmanager
async def staged(folder: Path, **more: str) -> AsyncIterator[Stage]:
    """All of it, running. `more`: see `prepared`."""
    port = free_port()
    async with worst_model() as model, corpus_servers() as servers:
        manifests = prepared(folder, port, model, servers, more)
        if not more:
            done = await kadre("ingest", "search", "docs", *(f"-f{name}" for name in manifests), cwd=folder)
            assert done.code == 0, done.err
            model.asked.clear()
        async with up(*manifests, "--data-dir", ".kadre", port=port, cwd=folder) as upped:
            yield Stage(upped, model, servers)


async def played(stage: Stage, cases: Iterable[Case]) -> list[Played]:
    """The cases, some at a time."""
    slots = asyncio.Semaphore(AT_ONCE)

    async def one(case: Case) -> Played:
        async with slots:
            return await stage.play(case)

    return list(await asyncio.gather(*[one(case) for case in cases]))


async def left(stage: Stage, folder: Path, plays: Sequence[Played]) -> dict[str, set[str]]:
    """The secrets in all that is left of the runs, by the place."""
    upped = stage.upped
    texts = {f"run {play.runs}": json.dumps(play.events, ensure_ascii=False) for play in plays}
    begun = {run for play in plays for run in play.runs}
    for run in (await upped.get("/runs?limit=1000"))["runs"]:
        if run["run_id"] not in begun:  # another agent was asked in it
            texts[f"run {run['run_id']}"] = json.dumps(await upped.get(f"/runs/{run['run_id']}"), ensure_ascii=False)
    # What an agent gives its model is known to who serves it, what was said to the store.
    served = {play.case.agent: play.runs[-1] for play in plays}
    for runs, names in ((ServedRuns(upped.url), served.values()), (KeptRuns(folder / ".kadre"), begun)):
        for name in names:  # beside this loop, which servers that the agent asks for its tools are in
            case = await asyncio.to_thread(asyncio.run, recording.record(runs, name))
            texts[f"case of {name}"] = msgspec.json.encode(case).decode()
    for session in {each for play in plays for each in play.sessions}:
        texts[f"session {session}"] = await told(upped, f"/sessions/{session}?whole=true")
    for path in (f"/sessions/{plays[0].sessions[0]}?format=markdown", *PATHS):
        texts[path] = await told(upped, path)
    found = {place: canaries.found(text) for place, text in texts.items()}
    for name, data in files(folder / ".kadre").items():
        if not name.startswith(INGESTED):
            found[f"the file {name}"] = canaries.found(data)
    assert "the file journal.db" in found, sorted(found)
    return {place: names for place, names in found.items() if names}


def files(folder: Path) -> dict[str, bytes]:
    """What is in the folder."""
    return {file.name: file.read_bytes() for file in folder.rglob("*") if file.is_file()}


async def told(upped: Upped, path: str) -> str:
    """What is answered there."""
    async with upped.http.get(path) as answer:
        assert answer.status == 200, path
        return await answer.text()


async def test_the_worst_model_gets_no_secret_and_writes_nothing_unasked(tmp_path: Path) -> None:
    async with staged(tmp_path) as stage:
        cases = [case for case in stage.model.cases.values() if case.agent != IN_REDIS]
        plays = await played(stage, [case for case in cases if not case.gap])
        places = await left(stage, tmp_path, plays)
        report = figures(stage, plays, places)
        gaps = await played(stage, [case for case in cases if case.gap])
        wrong = {play.case.id: stage.judged(play) for play in (*plays, *gaps)}
        await stage.upped.stop()
        if names := canaries.found(stage.upped.said):
            places["the log"] = names
    print(f"\n{report}; known gaps: {len(gaps)}")  # noqa: T201 - as the guide says
    assert {play.case.id: wrong[play.case.id] for play in plays if wrong[play.case.id]} == {}
    assert places == {}
    assert [play.case.id for play in gaps if not wrong[play.case.id]] == [], "no gaps any more: take their marks away"


@pytest.mark.stores
@pytest.mark.needs("redis")
async def test_the_password_of_a_journal_is_kept_from_the_model_too(tmp_path: Path) -> None:
    password = canaries.VALUES["journal-password"]
    with RedisServer("--requirepass", password, address="127.0.0.1") as server:
        async with staged(tmp_path, REDIS=str(server.port)) as stage:
            plays = await played(stage, [case for case in stage.model.cases.values() if case.agent == IN_REDIS])
            wrong = {play.case.id: stage.judged(play) for play in plays}
            server.kill()
            status, gone = await stage.upped.post("/runs", {"agent": IN_REDIS, "message": "hello"})
            assert (status, canaries.found(json.dumps(gone))) == (503, set())
            events = [json.dumps(play.events) for play in plays]
            await stage.upped.stop()
        kept = files(server.folder)
    assert any(plays[0].runs[0].encode() in data for data in kept.values())
    assert wrong == {play.case.id: [] for play in plays}
    assert not any(map(canaries.found, (*events, stage.upped.said)))
    assert not any(map(canaries.found, kept.values()))


def figures(stage: Stage, plays: Sequence[Played], places: Mapping[str, set[str]]) -> str:
    """What was played, looked at and found."""
    requests, written = stage.model.asked, stage.servers.written
    leaks = sum(bool(canaries.found(asked.text)) for asked in requests)
    unasked = sum(len(stage.unasked(play, stage.written(play.case))) for play in plays)
    granted = sum(len(stage.written(play.case)) for play in plays if play.case.expect == "granted")
    asked = sum(len(play.asked) for play in plays)
    return (
        f"{len(plays)} cases; {len(requests)} model requests looked at, {leaks} with a secret; {asked} calls asked for;"
        f" {len(written)} writes: {granted} granted by an author, {len(written) - granted - unasked} allowed by a"
        f" person, {unasked} unasked; {len(places)} places with a secret"
    )
