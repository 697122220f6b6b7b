"""A real API server for every test of reconciling, and a controller beside it; no node, so pods stay pending."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import aclosing, asynccontextmanager, contextmanager
from http import HTTPStatus
from itertools import count
from pathlib import Path
from typing import Any

import pytest
import yaml

from kadre.api.crd import crds
from kadre.base.clock import SystemClock
from kadre.base.tasks import Tasks
from kadre.kube import access, kinds
from kadre.kube.access import Access
from kadre.kube.client import ALL, Client, Scope
from kadre.kube.errors import ApiError
from kadre.kube.kinds import Key, Kind, Object, key_of
from kadre.operator import install
from kadre.operator.children.common import MANAGER, Settings
from kadre.operator.cluster import our_kinds
from kadre.operator.controller import Operator
from tests.cluster.control_plane import ControlPlane

OURS = {(kind.api_version, kind.kind): kind for kind in our_kinds()}
KNOWN = {(kind.api_version, kind.kind): kind for kind in vars(kinds).values() if isinstance(kind, Kind)} | OURS
AGENT = OURS["kagent.dev/v1alpha1", "Agent"]
MODEL_CONFIG = OURS["kagent.dev/v1alpha1", "ModelConfig"]
SECONDS = 60.0
"""Everything these tests wait for takes less than one; a machine that does much else needs more."""
AGAIN = 0.1
"""Between two looks at what is not there yet."""
_numbers = count()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Several waits, each as long as it may be, fit into a test here."""
    for item in items:
        if Path(__file__).parent in item.path.parents and item.get_closest_marker("timeout") is None:
            item.add_marker(pytest.mark.timeout(4 * SECONDS))


@pytest.fixture(scope="session")
def api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ControlPlane]:
    plane = ControlPlane(tmp_path_factory.mktemp("api"))
    plane.start()
    try:
        asyncio.run(_prepare(plane))
        yield plane
    finally:
        plane.stop()


async def _prepare(plane: ControlPlane) -> None:
    """Have our kinds served: for a moment the storage of one that was accepted is "(re)initializing"."""
    found = access.by_kubeconfig(plane.kubeconfig)
    await install.apply_crds(crds(), found)
    async with Client(found, "tests") as client:
        for kind in our_kinds():

            async def listed(kind: Kind = kind) -> None:
                await client.list(kind)

            await install._patiently(listed, SystemClock())


def has(condition: str, reason: str) -> Callable[[Object], bool]:
    """Whether an object has that condition, for that reason."""
    return lambda obj: any(
        entry["type"] == condition and entry["reason"] == reason
        for entry in obj.get("status", {}).get("conditions") or ()
    )


def is_true(obj: Object, condition: str) -> bool:
    """Whether an object has that condition."""
    found = obj.get("status", {}).get("conditions") or ()
    return any(entry["type"] == condition and entry["status"] == "True" for entry in found)


async def when(client: Client, kind: Kind, obj: Object, holds: Callable[[Object], bool]) -> Object:
    """The object as soon as that holds of it."""
    async with asyncio.timeout(SECONDS):
        while True:
            with suppress_busy():
                found = await _once(client, kind, key_of(obj), holds)
                if found is not None:
                    return found
            await SystemClock().sleep(AGAIN)


async def _once(client: Client, kind: Kind, wanted: Key, holds: Callable[[Object], bool]) -> Object | None:
    """The same; None where the server has ended the watch."""
    scope = Scope(wanted.namespace)
    page = await client.list(kind, scope)
    for item in page.items:
        if key_of(item) == wanted and holds(item):
            return item
    async with aclosing(client.watch(kind, page.version, scope)) as events:
        async for event in events:
            if event.type in {"ADDED", "MODIFIED"} and key_of(event.object) == wanted and holds(event.object):
                return event.object
    return None


@contextmanager
def suppress_busy() -> Iterator[None]:
    """Let "try again" pass: an API server says so of a kind it was just given, to a watch after a list too."""
    try:
        yield
    except ApiError as error:
        if error.status != HTTPStatus.TOO_MANY_REQUESTS:
            raise


class World:
    """One test's namespace, and who speaks to the API in it."""

    def __init__(self, client: Client, namespace: str, plane: ControlPlane) -> None:
        self.client = client
        self.namespace = namespace
        self.plane = plane

    async def apply(self, text: str) -> list[Object]:
        """`kubectl apply -f -` of that YAML into the namespace."""
        made = []
        for document in yaml.safe_load_all(text):
            kind = KNOWN[document["apiVersion"], document["kind"]]
            document["metadata"].setdefault("namespace", self.namespace)
            made.append(await self.client.apply(kind, document))
        return made

    def named(self, name: str) -> Object:
        """Names an object of the namespace."""
        return {"metadata": {"name": name, "namespace": self.namespace}}

    async def get(self, kind: Kind, name: str) -> Object | None:
        """An object, or None."""
        try:
            return await self.client.get(kind, self.namespace, name)
        except ApiError as error:
            if error.missing:
                return None
            raise

    async def change(self, kind: Kind, name: str, how: Callable[[Object], None]) -> None:
        """Change an object as `kubectl edit` does: again, where somebody else has changed it meanwhile."""
        while True:
            obj = await self.client.get(kind, self.namespace, name)
            obj["metadata"].pop("managedFields", None)
            how(obj)
            try:
                await self.client.replace(kind, obj)
            except ApiError as error:
                if not error.conflict:
                    raise
            else:
                return

    async def when(self, kind: Kind, name: str, holds: Callable[[Object], bool]) -> Object:
        """The object as soon as that holds of it."""
        return await when(self.client, kind, self.named(name), holds)

    async def some(self, kind: Kind, holds: Callable[[Object], bool]) -> Object:
        """The first object of a kind of which that holds."""
        scope = Scope(self.namespace)
        async with asyncio.timeout(SECONDS):
            page = await self.client.list(kind, scope)
            for item in page.items:
                if holds(item):
                    return item
            async with aclosing(self.client.watch(kind, page.version, scope)) as events:
                async for event in events:
                    if event.type in {"ADDED", "MODIFIED"} and holds(event.object):
                        return event.object
        raise AssertionError("the watch ended")

    async def every(self, kind: Kind, holds: Mapping[str, Callable[[Object], bool]]) -> None:
        """Wait until of each of these objects that has held which is said of it."""
        scope, left = Scope(self.namespace), dict(holds)

        def take(obj: Object) -> None:
            name = key_of(obj).name
            if name in left and left[name](obj):
                del left[name]

        async with asyncio.timeout(SECONDS):
            page = await self.client.list(kind, scope)
            for item in page.items:
                take(item)
            async with aclosing(self.client.watch(kind, page.version, scope)) as events:
                while left:
                    event = await anext(events)
                    if event.type in {"ADDED", "MODIFIED"}:
                        take(event.object)

    async def gone(self, kind: Kind, *names: str) -> None:
        """Wait until there are no such objects."""
        async with asyncio.timeout(SECONDS):
            scope = Scope(self.namespace)
            page = await self.client.list(kind, scope)
            left = {key_of(item).name for item in page.items} & set(names)
            async with aclosing(self.client.watch(kind, page.version, scope)) as events:
                while left:
                    event = await anext(events)
                    if event.type == "DELETED":
                        left.discard(key_of(event.object).name)

    async def condition(self, kind: Kind, name: str, condition: str, reason: str) -> dict[str, Any]:
        """A condition of an object, as soon as it has that reason."""

        def found(obj: Object) -> dict[str, Any] | None:
            entries = obj.get("status", {}).get("conditions") or ()
            return next((each for each in entries if each["type"] == condition and each["reason"] == reason), None)

        got = found(await self.when(kind, name, lambda obj: found(obj) is not None))
        assert got is not None
        return got


@pytest.fixture
async def world(api: ControlPlane) -> AsyncIterator[World]:
    async with Client(access.by_kubeconfig(api.kubeconfig), "tests") as client:
        yield (here := await made(client, api))
        # The next test's controller would look after what is left here.
        await client.delete(kinds.NAMESPACE, "", here.namespace)


async def made(client: Client, plane: ControlPlane) -> World:
    """A new namespace."""
    namespace = f"test-{next(_numbers)}"
    await client.create(kinds.NAMESPACE, {"metadata": {"name": namespace}})
    return World(client, namespace, plane)


@asynccontextmanager
async def operating(
    found: Path | Access, settings: Settings | None = None, namespaces: Sequence[str] = ALL
) -> AsyncIterator[Operator]:
    """A controller at work. `found`: how it reaches the API, or the kubeconfig that says so."""
    tasks = Tasks("test")
    async with Client(found if isinstance(found, Access) else access.by_kubeconfig(found), MANAGER) as client:
        operator = Operator(client, settings or Settings(image="kadre:test"), namespaces=namespaces)
        tasks.spawn("operator", operator.run())
        try:
            yield operator
        finally:
            await tasks.aclose()


@pytest.fixture
async def operator(api: ControlPlane) -> AsyncIterator[Operator]:
    async with operating(api.kubeconfig) as running:
        yield running
