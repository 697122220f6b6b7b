"""The documents' three Tools and MemoryStore, as written, with every server they name: under `kadre up`."""

from __future__ import annotations

import os
import signal
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.docs.test_documents import manifests
from tests.support import desk as desks
from tests.support.upping import Upped, free_port, up

pytestmark = [pytest.mark.timeout(150), pytest.mark.needs("redis")]


@pytest.mark.requirement("support-desk", "tool-retrieval", "tool-api", "memory-redis", "memory-long-term")
def test_a_customer_is_helped_and_remembered_though_the_process_is_killed(seeds: Path, tmp_path: Path) -> None:
    files, authority = tmp_path / "files", tmp_path / "authority"
    files.mkdir()
    authority.mkdir()
    port = free_port()
    with desks.desk(authority) as desk, ExitStack() as stack:
        text = manifests(seeds, "001", "^kind: Tool", "^kind: MemoryStore")
        (files / "support.yaml").write_text(text + desk.manifests)
        desk.ingest(tmp_path, files)

        def started() -> Upped:
            serving = up(files, desk.maps, port=port, OPENAI_API_KEY=desks.KEY, OPENAI_BASE_URL=desk.model.url)
            return stack.enter_context(desks.beside(serving))

        running = started()

        def die() -> None:
            nonlocal running
            os.kill(running.process.pid, signal.SIGKILL)
            stack.pop_all().close()
            running = started()

        door = desks.Door(lambda: running.url, f"/agents/{desks.NAME}")
        desks.story(desk, door, die)
        assert not [secret for secret in (desks.PASSWORD, desks.KEY) if secret in running.said]
