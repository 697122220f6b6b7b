"""Kadre: `kadre up` on files written for the run."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any, ClassVar

from benchmarks.load import Shot
from benchmarks.scenarios import HISTORY_TURNS, LAST_WORDS, SCENARIOS, SYSTEM_PROMPT, TOOL_NAME, USER_TEXT
from benchmarks.systems import Launch, System, World, post

COMMAND = Path(sys.executable).with_name("kadre")


class Kadre(System):
    """With the journal in memory."""

    name = "kadre"
    title = "Kadre, journal in memory"
    packages = ("kadre", "uvicorn", "uvloop", "httptools", "starlette", "aiohttp", "msgspec", "mcp")
    journal: ClassVar[str] = "in-memory"

    def missing(self) -> str:
        """Whether the command is there and knows `up`."""
        if not COMMAND.exists():
            return "the kadre command is not installed"
        tried = subprocess.run([COMMAND, "up", "--help"], capture_output=True, timeout=60, check=False)
        return "" if tried.returncode == 0 else "this kadre has no `up` command"

    def process(self, scenario: str) -> str:
        """Tools have processes of their own, so that what they load is not in the others' memory."""
        return scenario if scenario in ("tool", "mcp") else "main"

    def launch(self, process: str, port: int, world: World) -> Launch:
        """`kadre up` on a file; for the tool, with a function put in. Data go to the scratch folder."""
        count = int(process.removeprefix("fleet-")) if process.startswith("fleet-") else 0
        names = [f"agent-{index}" for index in range(count)] or ["assistant"]
        tools = [{"name": TOOL_NAME, "endpoint": world.mcp_url}] if process == "mcp" else []
        file = world.scratch / "manifests" / "agents.yaml"  # not beside the data: making those changes the folder
        file.parent.mkdir(exist_ok=True)
        file.write_text("\n---\n".join([_model(world), *(self._agent(name, tools) for name in names)]))
        kadre = [sys.executable, "-m", "benchmarks.apps.kadre_tool"] if process == "tool" else [str(COMMAND)]
        data = str(world.scratch / "data")
        return Launch([*kadre, "up", str(file), "--port", str(port), "--data-dir", data], {"OPENAI_API_KEY": "none"})

    def shot(self, scenario: str, session: str = "") -> Shot:
        """The chat door."""
        return self._chat("assistant", SCENARIOS[scenario].streamed, session)

    def fleet(self, count: int) -> list[Shot]:
        """A hello for each agent of the process `fleet-<count>`."""
        return [self._chat(f"agent-{index}", False, "") for index in range(count)]

    def _chat(self, agent: str, streamed: bool, session: str) -> Shot:
        body = {"message": USER_TEXT, **({"session_id": session} if session else {})}
        headers, expect = (["Accept: text/event-stream"], '"completed"') if streamed else ([], LAST_WORDS)
        return post(f"/agents/{agent}/chat", body, expect, headers)

    def _agent(self, name: str, tools: list[dict[str, str]]) -> str:
        memory: dict[str, Any] = {"type": self.journal, "config": {"maxHistory": 2 * HISTORY_TURNS}}
        spec = {"modelConfig": "mock", "systemPrompt": SYSTEM_PROMPT, "tools": tools, "memory": memory}
        return _resource("Agent", name, spec)


class KadreSqlite(Kadre):
    """As it comes: every event on the disk before the answer goes out."""

    name = "kadre-sqlite"
    title = "Kadre, journal in SQLite (default)"
    journal = "sqlite"


def _model(world: World) -> str:
    return _resource("ModelConfig", "mock", {"provider": "openai", "model": "mock", "endpoint": world.model_url})


def _resource(kind: str, name: str, spec: dict[str, Any]) -> str:
    """One document; JSON is YAML."""
    metadata = {"name": name, "namespace": "bench"}
    return json.dumps({"apiVersion": "kagent.dev/v1alpha1", "kind": kind, "metadata": metadata, "spec": spec}, indent=1)
