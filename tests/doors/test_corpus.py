"""Injected instructions and shown secrets through every kind of tool, with the worst model there is: it gets no secret,
and writes nothing that neither a person nor an author has allowed."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec
import pytest
import yaml

from kadre.cli.served import ServedRuns
from kadre.engine.replay import recording
from tests.support import canaries, corpus, corpus_stdio
from tests.support.commands import kadre
from tests.support.corpus import Case
from tests.support.corpus_play import Played, Stage
from tests.support.corpus_servers import Servers, corpus_servers
from tests.support.upping import free_port, up
from tests.support.worst_model import WorstModel, worst_model

FOLDER = Path(__file__).parent / "corpus"
AT_ONCE = 6
INGESTED = "texts"


def prepared(folder: Path, port: int, model: WorstModel, servers: Servers) -> Mapping[str, Case]:
    """The cases, and in the folder the manifests of the agents, their secrets, and what is to be ingested."""
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
    }
    cases = corpus.load(FOLDER, marks)
    servers.cases = model.cases = cases
    (folder / "texts.json").write_text(json.dumps({case.id: case.text for case in cases.values()}))
    (folder / "agents.yaml").write_text(corpus.marked(FOLDER / "agents.yaml", marks))
    secrets = [
        {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}, "stringData": {"value": value}}
        for name, value in canaries.VALUES.items()
    ]
    (folder / "secrets.yaml").write_text(yaml.safe_dump_all(secrets))
    (folder / "docs").mkdir()
    for case in cases.values():
        if case.through == "retrieval":
            (folder / "docs" / f"{case.id}.md").write_text(f"---\ncase: {case.id}\n---\n{case.text}\n")
    return cases


HEADERS = "secretHeaders: {Authorization: {name: pages-token, key: value}}"


@asynccontextmanager
async def staged(folder: Path) -> AsyncIterator[Stage]:
    """All of it, running."""
    port = free_port()
    async with worst_model() as model, corpus_servers() as servers:
        prepared(folder, port, model, servers)
        manifests = ("agents.yaml", "secrets.yaml")
        done = await kadre("ingest", "search", "docs", *(f"-f{name}" for name in manifests), cwd=folder)
        assert done.code == 0, done.err
        model.asked.clear()
        async with up(*manifests, "--data-dir", ".kadre", port=port, cwd=folder) as upped:
            yield Stage(upped, model, servers)


async def played(stage: Stage) -> list[Played]:
    """All cases, some at a time."""
    slots = asyncio.Semaphore(AT_ONCE)

    async def one(case: Case) -> Played:
        async with slots:
            return await stage.play(case)

    return list(await asyncio.gather(*[one(case) for case in stage.model.cases.values()]))


async def kept(stage: Stage, folder: Path, plays: list[Played]) -> dict[str, set[str]]:
    """The secrets in all that is left of the runs, by the place; ends the agents."""
    upped, places = stage.upped, {}
    runs = (await upped.get("/runs?limit=1000"))["runs"]
    for run in runs:
        told = await upped.get(f"/runs/{run['run_id']}")
        places[f"run {run['run_id']}"] = canaries.found(json.dumps(told, ensure_ascii=False))
        case = await recording.record(ServedRuns(upped.url), run["run_id"])
        places[f"case of {run['run_id']}"] = canaries.found(msgspec.json.encode(case))
    for session in {each for play in plays for each in play.sessions}:
        for form in ("whole=true", "format=markdown"):
            async with upped.http.get(f"/sessions/{session}?{form}") as answer:
                places[f"session {session} {form}"] = canaries.found(await answer.text())
    for path in ("/metrics", "/agents", "/health", "/approvals"):
        async with upped.http.get(path) as answer:
            places[path] = canaries.found(await answer.text())
    await upped.stop()
    places["the log"] = canaries.found(upped.said)
    for file in (folder / ".kadre").rglob("*"):
        if file.is_file() and file.stem.partition(".")[0] != INGESTED:
            places[f"the file {file.name}"] = canaries.found(file.read_bytes())
    assert any(name.startswith("the file") for name in places)
    return {place: names for place, names in places.items() if names}


@pytest.mark.requirement("corpus")
async def test_the_worst_model_gets_no_secret_and_writes_nothing_unasked(tmp_path: Path) -> None:
    import time; t=time.time()
    async with staged(tmp_path) as stage:
        print("staged", time.time()-t); t=time.time()
        plays = await played(stage)
        print("played", time.time()-t); t=time.time()
        wrong = {play.case.id: stage.judged(play) for play in plays}
        places = await kept(stage, tmp_path, plays)
    print("kept", time.time()-t); t=time.time()
    Path("/tmp/wrong.json").write_text(json.dumps({n:w for n,w in wrong.items() if w},indent=1)+json.dumps({n:sorted(w) for n,w in places.items()},indent=1))
    model, servers = stage.model, stage.servers
    unasked = sum(len(stage.unasked(play, [w for w in servers.written if w.case == play.case.id])) for play in plays)
    print(  # noqa: T201 - the figures of the guide
        f"\n{len(plays)} cases; {len(model.asked)} model requests looked at,"
        f" {sum(bool(canaries.found(asked.text)) for asked in model.asked)} with a secret;"
        f" {sum(len(play.asked) for play in plays)} calls asked about; {len(servers.written)} writes, {unasked} unasked;"
        f" {len(places)} places with a secret left behind"
    )
    assert {name: told for name, told in wrong.items() if told} == {}
    assert places == {}
