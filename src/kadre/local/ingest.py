"""`kadre ingest`: files into the collection that a retrieval tool searches.

A passage's id is a digest of it, its place, its metadata and the embedding model: what is there already is neither
embedded nor written again, so a second run goes on where the first was interrupted. What a file once was is forgotten
when what it is now is written, and only what was written as a part of the same whole.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import itertools
import time
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import msgspec

from kadre.api.kinds.tool import Tool
from kadre.base.errors import KadreError, ProblemError
from kadre.base.problems import Problem, Source, did_you_mean, errors
from kadre.engine import http_client
from kadre.engine.models import embedding
from kadre.engine.vectors.port import HIDDEN, MODEL, Item, Scalar, VectorsRefused, VectorStore, check_items, encoded
from kadre.engine.vectors.stores import VectorStores
from kadre.local import chunks, documents, maps, resolve
from kadre.local.console import Console
from kadre.local.secrets import LocalSecrets
from kadre.local.settings import Mapped, UpSettings
from kadre.plan.build import plan_all, plan_tool
from kadre.plan.types import RetrievalTool, ToolPlan

CHUNK = 1000
"""Characters of a passage: what the smallest embedding models read of it, and little enough to answer with five."""
OVERLAP = 150
CHUNK_RANGE = (100, 16_000)
BATCH = 32
"""Passages embedded and written at once."""
LOOKED_UP = 500
SAY_SECONDS = 5.0
"""Between two words on a file that takes long."""
SOURCE, PASSAGE = "source", "passage"
"""Metadata of our own: the file, and which passage of it."""
ORIGIN = f"{HIDDEN}origin"
"""More of it: a digest of the whole that the file is a part of. No other whole's passages are touched."""


@dataclass(frozen=True, slots=True, kw_only=True)
class IngestSettings:
    """What `kadre ingest` is told."""

    tool: str
    files: tuple[str, ...]
    manifests: tuple[str, ...] = (".",)
    namespace: str = ""
    """Where the tool is; empty: wherever there is one of that name."""
    chunk: int = CHUNK
    overlap: int = OVERLAP
    metadata: Mapping[str, Scalar] = field(default_factory=dict)
    """Of every passage, on top of what its file says."""
    origin: str = ""
    """The name of the whole that the files are a part of; empty: the path of the first manifest's folder."""
    prune: bool = False
    """Whether what is gone from the folders among `files` is forgotten."""
    data_dir: str = ""
    maps: tuple[Mapped, ...] = ()
    color: bool = True


class Counts(msgspec.Struct):
    """Passages: in all, and those that were not there yet."""

    all: int = 0
    new: int = 0


def run(settings: IngestSettings) -> int:
    """Do it; the exit code. Raises ProblemError with all that is wrong, before anything is written."""
    console = Console(color=settings.color)
    secrets = LocalSecrets()
    plan, problems = _tool(settings, secrets)
    files, unreadable = documents.found(map(Path, settings.files), may_be_empty=settings.prune)
    with console.step(f"reading {_number(len(files), 'file')}"):
        problems += unreadable + [problem for file in files for problem in documents.check(file)]
    if plan is None or problems:
        raise ProblemError(problems)
    work = _Ingest(settings, plan, console)
    with console.step("checking what is to be kept"):
        problems = [problem for file in files for problem in work.check(file)]
    if problems:
        raise ProblemError(problems)
    try:
        return asyncio.run(work.all(files, secrets))
    except KeyboardInterrupt:
        console.warn("interrupted; what was written is kept: run it again to go on")
        return 130
    except KadreError as error:
        console.say(f"{console.style('error', 'red')}: {error}")
        console.say("what was written is kept: run it again to go on")
        return 1


class _Ingest:
    """One run of it."""

    def __init__(self, settings: IngestSettings, plan: RetrievalTool, console: Console) -> None:
        self._settings = settings
        self._plan = plan
        self._console = console
        first = Path(settings.manifests[0]) if settings.manifests and settings.manifests[0] != "-" else Path()
        self._root = (first if first.is_dir() else first.parent).resolve()
        whole = settings.origin or self._root.as_posix()
        self._whole: dict[str, Scalar] = {ORIGIN: hashlib.sha256(whole.encode(errors="replace")).hexdigest()[:16]}
        self._model = embedding.named(plan.embedding)
        self._folders = [folder.resolve() for folder in map(Path, settings.files) if folder.is_dir()]
        self._labels = documents.scalars(settings.metadata)

    def check(self, file: Path) -> list[Problem]:
        """What of a file no store could hold."""
        try:
            for item in self._items(file):
                check_items([item])
        except (VectorsRefused, documents.Unreadable) as error:
            message = f"it cannot be kept: {error}"
            return [Problem("UnfitFile", message, "mend it, or leave it out", source=Source(str(file)))]
        return []

    async def all(self, files: Sequence[Path], secrets: LocalSecrets) -> int:
        """Every file, one after the other; the exit code."""
        began, counts, collection = time.monotonic(), Counts(), self._plan.store.collection
        async with self._opened(secrets) as (store, embedder):
            size = self._plan.embedding.dimension or len((await embedder.embed(["size"]))[0])
            await store.ensure(size)
            failed = 0
            for file in files:
                try:
                    made = await self._one(file, store, embedder)
                except documents.Unreadable as error:  # it was well when it was checked
                    failed += 1
                    self._console.warn(f"{file}: it cannot be read any more: {error}")
                    continue
                counts.all += made.all
                counts.new += made.new
                self._console.done(f"{file}: {_number(made.all, 'passage')} ({made.new} new)")
            if self._settings.prune:
                await self._prune(files, store)
            foreign = await store.count() - await store.count({MODEL: self._model})
            if foreign > 0:  # a store that counts later than it finds has fewer in all
                few = (
                    f"{_number(foreign, 'passage')} in {collection} were embedded with another model, or not by ingest"
                )
                self._console.warn(f"{few}: ingest their files again, or use another collection for {self._model}")
        there = counts.all - counts.new
        took = f"{time.monotonic() - began:.1f} s"
        what = f"{_number(len(files), 'file')}, {_number(counts.all, 'passage')} in {collection}"
        self._console.done(f"{what}: {counts.new} new, {there} there already ({took})")
        return 1 if failed else 0

    @contextlib.asynccontextmanager
    async def _opened(self, secrets: LocalSecrets) -> AsyncIterator[tuple[VectorStore, embedding.Embedder]]:
        data = UpSettings(paths=self._settings.manifests, data_dir=self._settings.data_dir).data_path()
        stores = VectorStores(data, secrets)
        async with http_client.session() as http:
            store, embedder = stores.take(self._plan.store), embedding.build(self._plan.embedding, secrets, http)
            try:
                yield store, embedder
            finally:
                await embedder.aclose()
                await stores.leave(self._plan.store)

    async def _one(self, file: Path, store: VectorStore, embedder: embedding.Embedder) -> Counts:
        ids = [made.id for made in self._items(file)]
        there = await _present(store, ids)
        counts, said = Counts(len(ids)), time.monotonic()
        missing = (item for item in self._items(file) if item.id not in there)
        while batch := list(itertools.islice(missing, BATCH)):
            vectors = await embedder.embed([item.text for item in batch])
            pairs = zip(batch, vectors, strict=True)
            await store.upsert([Item(item.id, vector, item.text, item.metadata) for item, vector in pairs])
            counts.new += len(batch)
            if time.monotonic() - said > SAY_SECONDS:
                said = time.monotonic()
                self._console.begun(f"{file}: {len(there) + counts.new} of {_number(len(ids), 'passage')}")
        await self._forget_old(file, set(ids), store)
        return counts

    async def _forget_old(self, file: Path, ids: set[str], store: VectorStore) -> None:
        """Forget passages of what the file once was: not before those of what it is now are there."""
        own = {SOURCE: self._source(file), **self._whole}
        if await store.count(own) > len(ids):
            old = [document.id async for document in store.walk(own) if document.id not in ids]
            for start in range(0, len(old), LOOKED_UP):
                await store.delete(old[start : start + LOOKED_UP])

    async def _prune(self, files: Sequence[Path], store: VectorStore) -> None:
        """Forget files that were in the folders that are read, and are not any more."""
        there = {self._source(file) for file in files}
        kept = {str(document.metadata[SOURCE]) async for document in store.walk({PASSAGE: 1, **self._whole})}
        for source in sorted(kept - there):
            if any((self._root / source).is_relative_to(folder) for folder in self._folders):
                await store.delete(equal={SOURCE: source, **self._whole})
                self._console.done(f"{source}: it is gone, and forgotten")

    def _source(self, file: Path) -> str:
        """The file's name wherever this runs: from the first manifest's folder on, or the whole path outside of it."""
        whole = file.resolve()
        return (whole.relative_to(self._root) if whole.is_relative_to(self._root) else whole).as_posix()

    def _items(self, file: Path) -> Iterator[Item]:
        """The passages of a file, without their vectors: read anew each time, so that none need be remembered."""
        source, numbers = self._source(file), itertools.count(1)
        for text, metadata in documents.read(file):
            for passage in chunks.passages(text, self._settings.chunk, self._settings.overlap):
                own: dict[str, Scalar] = {SOURCE: source, PASSAGE: next(numbers), MODEL: self._model}
                labels = {**metadata, **self._labels, **own, **self._whole}
                digest = hashlib.sha256(f"{encoded(labels)}\0{passage}".encode())
                yield Item(digest.hexdigest()[:32], (), passage, labels)


async def _present(store: VectorStore, ids: Sequence[str]) -> set[str]:
    there: set[str] = set()
    for start in range(0, len(ids), LOOKED_UP):
        there.update(document.id for document in await store.get(ids[start : start + LOOKED_UP]))
    return there


def _tool(settings: IngestSettings, secrets: LocalSecrets) -> tuple[RetrievalTool | None, list[Problem]]:
    """The tool's plan, its secrets put in; or all that is wrong with it."""
    seen = resolve.look(settings.manifests)
    secrets.replace({(doc.namespace, doc.name): doc.values for doc in seen.loaded.secrets}, seen.env, seen.exported)
    own = [
        plan_tool(resource, seen.lookup)
        for resource in seen.loaded.resources
        if isinstance(resource, Tool) and _is_meant(settings, resource.namespace, resource.name)
    ]
    plans: list[ToolPlan] = [made.plan for made in own if made.plan is not None]
    problems = errors(problem for made in own for problem in made.problems)
    names: set[str] = set(seen.lookup.names("Tool", settings.namespace or "default"))
    if not own:  # it may be written in an agent
        inside = [(key, tool) for key, plan in plan_all(seen.lookup).plans.items() for tool in plan.tools]
        plans = [tool for key, tool in inside if _is_meant(settings, key.namespace, tool.name)]
        names.update(tool.name for _, tool in inside if isinstance(tool, RetrievalTool))
        problems = errors([*seen.files.problems, *seen.loaded.problems])
    found: list[RetrievalTool] = []
    for tool in plans:
        if isinstance(tool, RetrievalTool) and all(tool.store != other.store for other in found):
            found.append(tool)
    if len(found) == 1 and not problems:
        return _usable(maps.mapped_tool(found[0], settings.maps))
    if not problems:
        problems = [_unclear(settings, plans, found, names)]
    return None, problems


def _is_meant(settings: IngestSettings, namespace: str, name: str) -> bool:
    return name == settings.tool and settings.namespace in ("", namespace)


def _usable(plan: RetrievalTool) -> tuple[RetrievalTool | None, list[Problem]]:
    if plan.store.type != "in-memory":
        return plan, []
    message = f"{plan.name} searches a store in the memory of whatever process serves it, which nothing else can fill"
    return None, [Problem("NothingKept", message, "write type: sqlite in its vectorStore", f"Tool {plan.name}")]


def _unclear(
    settings: IngestSettings, plans: Sequence[ToolPlan], found: Sequence[RetrievalTool], names: set[str]
) -> Problem:
    if found:
        message = f"{settings.tool} is the name of several tools, which search different stores"
        return Problem("AmbiguousTool", message, "say which by --namespace")
    if plans:
        message = f"{settings.tool} is no tool of type retrieval that can be filled"
        return Problem("WrongTool", message, "name one whose type is retrieval, with a vector store that is built")
    where = ", ".join(settings.manifests)
    message = f"there is no tool {settings.tool} in {where}{did_you_mean(settings.tool, names)}"
    return Problem("MissingTool", message, "check the name, or say by -f where its manifest is")


def _number(count: int, what: str) -> str:
    return f"{count} {what}" if count == 1 else f"{count} {what}s"
