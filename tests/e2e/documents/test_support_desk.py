"""The guide's three Tools and MemoryStore, as written, with every server they name: on a cluster, as pods die."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cluster.cluster import Cluster
from tests.docs.test_documents import manifests
from tests.e2e.conftest import RESTRICTED, Terminal, install
from tests.e2e.documents.conftest import PLACE
from tests.support import desk as desks

pytestmark = [pytest.mark.timeout(300), pytest.mark.needs("redis")]
IN = ("-n", desks.NAMESPACE)


@pytest.fixture
def desk(beside: str, testbed: Cluster, tmp_path: Path) -> Iterator[desks.Desk]:
    """The servers, by the names that the Tools and the MemoryStore have for them."""
    with desks.desk(tmp_path, beside) as served:
        places = ""
        for host, (port, here) in served.places.items():
            name, namespace, *_ = host.split(".")
            places += PLACE.format(name=name, namespace=namespace, port=port, here=here, address=served.address)
        testbed.kubectl("apply", "-f", "-", stdin=places)
        yield served
        testbed.kubectl("delete", "-f", "-", "--wait=false", "--ignore-not-found", stdin=places)


@pytest.fixture
def support(installed: Terminal, desk: desks.Desk, seeds: Path, tmp_path: Path) -> Iterator[Terminal]:
    """The agent, ready, where the installation says where models are; nothing of it is left."""
    install(installed, f"providers.openai.endpoint={desk.model.url}")
    installed.run("kubectl", "create", "namespace", desks.NAMESPACE)
    installed.run("kubectl", "label", "namespace", desks.NAMESPACE, RESTRICTED)
    file = tmp_path / "support.yaml"
    file.write_text(manifests(seeds, "001", "^kind: Tool", "^kind: MemoryStore") + desk.manifests)
    key = f"--from-literal=OPENAI_API_KEY={desks.KEY}"
    installed.run("kubectl", *IN, "create", "secret", "generic", "kagent-openai", key)
    installed.run("kubectl", "apply", "-f", str(file))
    desk.ingest(tmp_path, file)
    installed.run("kubectl", *IN, "wait", "--for=condition=Ready", f"agent/{desks.NAME}", "--timeout=90s")
    yield installed
    installed.run("kubectl", "delete", "namespace", desks.NAMESPACE)
    install(installed)


@pytest.mark.requirement("support-desk", "tool-retrieval", "tool-api", "memory-redis", "memory-long-term")
def test_a_customer_is_helped_and_remembered_though_pods_die(support: Terminal, desk: desks.Desk) -> None:
    def die() -> None:
        support.run("kubectl", *IN, "delete", "pod", "-l", f"app={desks.NAME}", "--grace-period=0", "--force")
        support.run("kubectl", *IN, "rollout", "status", f"deployment/{desks.NAME}", "--timeout=90s")

    with support.forwarded("svc/kagent", 80) as url:
        desks.story(desk, desks.Door(lambda: url, f"/agents/{desks.NAMESPACE}/{desks.NAME}"), die)
