"""KAOS's agent server, from PyPI, in an environment of its own: it needs Python 3.12."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar

from benchmarks import apps
from benchmarks.load import Shot
from benchmarks.scenarios import LAST_WORDS, SCENARIOS, TOOL_NAME, USER_TEXT
from benchmarks.systems import Launch, System, World, post

PACKAGE = "pydantic-ai-server"
VERSIONS = f"""
import importlib.metadata as m, json, platform, sys
packages = {{n: m.version(n) for n in ({PACKAGE!r}, "pydantic-ai", "fastapi", "uvicorn")}}
print(json.dumps({{"python": sys.executable, "versions": {{"python": platform.python_version(), **packages}}}}))
"""


class Kaos(System):
    """`pais run`, with its session memory in the process."""

    name = "kaos"
    title = f"KAOS {PACKAGE}"
    slow_to_start = True
    cannot: ClassVar[Mapping[str, str]] = {
        "history": "it sends the model at most its last 6 events, and preparing its sessions takes minutes"
    }

    def __init__(self) -> None:
        self._python = ""
        self._versions: dict[str, str] = {}

    def missing(self) -> str:
        """Have uvx build the environment, once, and remember its Python."""
        uvx = shutil.which("uvx", path=os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")]))
        if uvx is None:
            return "there is no uvx"
        command = [uvx, "--python", "3.12", "--from", PACKAGE, "python", "-c", VERSIONS]
        try:
            found = subprocess.run(command, env=_with_pyenv(), capture_output=True, text=True, timeout=300, check=True)
        except subprocess.TimeoutExpired:
            return f"uvx did not install {PACKAGE} within 300 s"
        except subprocess.CalledProcessError as error:
            return f"uvx could not install {PACKAGE} on Python 3.12: {error.stderr.strip()[-200:]}"
        answer = json.loads(found.stdout)
        self._python, self._versions = answer["python"], answer["versions"]
        return ""

    def versions(self) -> dict[str, str]:
        """Of the environment that uvx made."""
        return self._versions

    def process(self, scenario: str) -> str:
        """One agent a process, so one for each set of tools."""
        return scenario if scenario in ("tool", "mcp") else "main"

    def launch(self, process: str, port: int, world: World) -> Launch:
        """Start `pais run` by the environment's Python, without uvx as a parent that would be measured too."""
        agent = Path(apps.__file__).with_name("kaos_agent.py")
        env = {"AGENT_NAME": "bench", "MODEL_API_URL": world.model_url, "MODEL_NAME": "mock", "OPENAI_API_KEY": "none"}
        if process == "tool":
            env["BENCH_TOOLS"] = "1"
        if process == "mcp":
            env |= {"MCP_SERVERS": TOOL_NAME, f"MCP_SERVER_{TOOL_NAME}_URL": world.mcp_url}
        run = ["run", str(agent), "--host", "127.0.0.1", "--port", str(port)]
        return Launch([self._python, "-c", "from pais.cli import app; app()", *run], env)

    def shot(self, scenario: str, session: str = "") -> Shot:
        """Its only door is OpenAI's."""
        streamed = SCENARIOS[scenario].streamed
        body = {"model": "bench", "messages": [{"role": "user", "content": USER_TEXT}], "stream": streamed}
        headers = [f"X-Session-ID: {session}"] if session else []
        return post("/v1/chat/completions", body, "[DONE]" if streamed else LAST_WORDS, headers)


def _with_pyenv() -> dict[str, str]:
    """The environment with pyenv's interpreters, which uv does not find by itself, at the end of PATH."""
    root = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv"))
    found = [str(path) for path in root.glob("versions/3.12*/bin")]
    return {**os.environ, "PATH": os.pathsep.join([os.environ.get("PATH", ""), *found])}
