"""The systems under test: one module each, which says how to start it and how to ask it for a turn. Nothing heavy is
imported here: the harness loads all of them.
"""

from __future__ import annotations

import json
import sys
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path
from typing import Any, ClassVar

from benchmarks.load import Shot
from benchmarks.scenarios import HISTORY_TURNS, LAST_WORDS, SCENARIOS, USER_TEXT


@dataclass(frozen=True)
class World:
    """What a server is started into: the mock model's base URL with its version segment, the MCP server's endpoint, and
    an empty directory of the server's own, deleted after the run."""

    model_url: str
    mcp_url: str
    scratch: Path


@dataclass(frozen=True)
class Launch:
    """A server process to start; `env` is added to the harness's own."""

    command: list[str]
    env: Mapping[str, str] = field(default_factory=dict)


class System(ABC):
    """A server that answers turns."""

    name: ClassVar[str]
    title: ClassVar[str]
    packages: ClassVar[tuple[str, ...]] = ()
    """The libraries that decide its speed."""
    cannot: ClassVar[Mapping[str, str]] = {}
    """Scenarios it cannot be asked for, each with the reason."""
    slow_to_start: ClassVar[bool] = False
    """Too slow for a smoke test."""
    earlier_turns: ClassVar[int] = HISTORY_TURNS
    """How many turns must be sent to a session before the history scenario finds it full."""

    def missing(self) -> str:
        """Why it cannot run on this machine; empty where it can. May install what it needs."""
        return ""

    def versions(self) -> dict[str, str]:
        """The versions of those libraries; only where nothing is missing."""
        return {package: metadata.version(package) for package in self.packages}

    def process(self, scenario: str) -> str:  # noqa: ARG002
        """The name of the process that serves a scenario: those of one name share one. `main` serves hello."""
        return "main"

    @abstractmethod
    def launch(self, process: str, port: int, world: World) -> Launch:
        """How that process is started."""

    @abstractmethod
    def shot(self, scenario: str, session: str = "") -> Shot:
        """The request for one turn, in that session where one is named."""


class WebApp(System):
    """One of the applications in `benchmarks.apps`, served by uvicorn as Kadre is.

    It answers `POST /{scenario} {"message", "session_id"?}`, streamed where the scenario is; a session it does not know
    starts with the earlier turns.
    """

    module: ClassVar[str]
    earlier_turns = 0

    def launch(self, process: str, port: int, world: World) -> Launch:  # noqa: ARG002
        """Start uvicorn on the application."""
        command = [sys.executable, "-m", "uvicorn", "--factory", f"benchmarks.apps.{self.module}:create_app"]
        command += ["--port", str(port), "--loop", "uvloop", "--http", "httptools"]
        command += ["--no-access-log", "--log-level", "warning"]
        return Launch(command, {"BENCH_MODEL_URL": world.model_url, "BENCH_MCP_URL": world.mcp_url})

    def shot(self, scenario: str, session: str = "") -> Shot:
        """Post to the scenario's path."""
        body = {"message": USER_TEXT, **({"session_id": session} if session else {})}
        return post(f"/{scenario}", body, "[DONE]" if SCENARIOS[scenario].streamed else LAST_WORDS)


def post(path: str, body: Mapping[str, Any], expect: str, headers: Iterable[str] = ()) -> Shot:
    """A POST of JSON as it goes over the wire."""
    data = json.dumps(body)
    lines = [f"POST {path} HTTP/1.1", "Host: 127.0.0.1", "Content-Type: application/json", *headers]
    return Shot("\r\n".join([*lines, f"Content-Length: {len(data)}", "", data]), expect)
