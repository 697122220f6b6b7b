"""Servers that `kadre up` starts: an author's functions with their limits, packages, commands."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import zipfile
from collections.abc import AsyncIterator
from contextlib import suppress
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import yaml

from kadre.base.errors import ToolError
from kadre.engine.tools.mcp import McpPool, McpToolset
from kadre.engine.tools.port import ToolOutput
from kadre.local import servers
from kadre.local.servers import Servers
from kadre.plan.types import LaunchPlan, McpTools, SecretRef
from tests.contract.tools.conftest import SERVER, Secrets, call, children, until


class Laptop:
    """What `kadre up` makes of the servers its plans name."""

    def __init__(self, environ: dict[str, str] | None = None) -> None:
        self.secrets = Secrets(TOKEN="t-1")
        self.servers = Servers(self.secrets, environ)
        self.pool = McpPool(self.secrets, self.servers.start)

    def tools(self, launch: LaunchPlan) -> McpToolset:
        return self.pool.toolset(McpTools(name="mine", launch=launch, timeout=20))

    def functions(self, source: str, **env: str) -> McpToolset:
        return self.tools(LaunchPlan(kind="source", source=source, env=env))

    async def aclose(self) -> None:
        await self.pool.aclose()
        await self.servers.aclose()


@pytest.fixture
async def laptop() -> AsyncIterator[Laptop]:
    here = Laptop()
    yield here
    await here.aclose()


async def test_the_documents_functions_are_tools(laptop: Laptop, seeds: Path) -> None:
    sources = {
        document["metadata"]["name"]: document["spec"]["config"]["tools"]["fromString"]
        for document in _mcp_servers(seeds / "004_be962f8f163eb85c.txt")
        if "tools" in document["spec"]["config"]
    }
    calculator, search = laptop.functions(sources["calculator"]), laptop.functions(sources["search-tools"])
    (spec,) = await calculator.specs()
    assert (spec.name, spec.description) == ("calculate", "Evaluate a mathematical expression.")
    assert await call(calculator, "calculate", expression="2+2*3") == ToolOutput("8")
    assert await call(search, "web_search", query="kadre") == ToolOutput("Results for: kadre")


def _mcp_servers(document: Path) -> list[Any]:
    blocks = document.read_text(encoding="utf-8").split("```yaml")[1:]
    found = [part for block in blocks for part in block.partition("```")[0].split("\n---\n") if "fromString" in part]
    return [yaml.safe_load(part) for part in found]


async def test_what_a_function_raises_is_read_by_the_model(laptop: Laptop) -> None:
    tools = laptop.functions("def divide(a: int, b: int) -> float:\n    return a / b\n")
    output = await call(tools, "divide", a=1, b=0)
    assert output.is_error
    assert "ZeroDivisionError: division by zero" in output.content
    assert (await call(tools, "divide", a="one", b=1)).is_error
    assert await call(tools, "divide", a=1, b=2) == ToolOutput("0.5")


async def test_prints_and_exits_of_an_author_do_not_harm_the_protocol(laptop: Laptop) -> None:
    tools = laptop.functions(
        "print('loading')\n\ndef f() -> str:\n    print('called')\n    return 'ok'\n\ndef g():\n    exit(3)\n"
    )
    assert await call(tools, "f") == ToolOutput("ok")
    assert (await call(tools, "g")).is_error
    assert await call(tools, "f") == ToolOutput("ok")


async def test_a_function_sees_no_secret_of_this_process(laptop: Laptop, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-very-secret")
    tools = laptop.functions("import os\n\ndef env() -> str:\n    return repr(dict(os.environ))\n", MODE="given")
    seen = (await call(tools, "env")).content
    assert "'MODE': 'given'" in seen
    assert "sk-very-secret" not in seen
    assert f"'HOME': {str(Path.home())!r}" not in seen


@pytest.mark.parametrize(
    "body",
    [
        pytest.param("while True: pass", id="a loop"),
        pytest.param("return str(len(str(10 ** 10 ** 8)))", id="a loop that never lets go of the interpreter"),
    ],
)
async def test_a_function_that_never_ends_is_ended_and_the_next_call_works(
    laptop: Laptop, body: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(servers, "CALL_SECONDS", 0.5)
    tools = laptop.functions(
        f"def f() -> str:\n    {body}\n\ndef pid() -> str:\n    import os\n    return str(os.getpid())\n"
    )
    before = asyncio.all_tasks()
    first = await call(tools, "pid")
    with suppress(ToolError):
        assert "took longer than 0.5 s" in (await call(tools, "f")).content
    await until(lambda: asyncio.all_tasks() == before)
    assert first.content not in children()
    assert await call(tools, "pid") != first


@pytest.mark.parametrize("does", ["return '\\ud800'", "return ['\\ud800']", "raise ValueError('\\ud800')"])
async def test_halves_of_characters_do_not_keep_an_answer_back(laptop: Laptop, does: str) -> None:
    tools = laptop.functions(f"def f():\n    {does}\n")
    assert "d800" in (await call(tools, "f")).content


async def test_a_function_has_a_bounded_memory(laptop: Laptop) -> None:
    tools = laptop.functions("def f() -> str:\n    return str(len(bytearray(2 << 30)))\n")
    output = await call(tools, "f")
    assert output.is_error
    assert "MemoryError" in output.content


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("def f(:\n", "line 1: invalid syntax"),
        ("import nothing_of_this_name", "ModuleNotFoundError: No module named 'nothing_of_this_name'"),
        ("x = 1", "the source defines no function"),
        ("import sys\nsys.exit(3)", "the source raises SystemExit: 3"),
        ("def f(x: 'Nope') -> str: ...", "the function f cannot be a tool: "),
    ],
)
async def test_a_source_that_cannot_be_served_says_why(laptop: Laptop, source: str, said: str) -> None:
    with pytest.raises(ToolError) as caught:
        await laptop.functions(source).specs()
    assert said in str(caught.value)


async def test_a_command_is_run_with_the_secrets_its_author_gave_it(laptop: Laptop) -> None:
    ref = SecretRef(env="TOKEN")
    launch = LaunchPlan(kind="command", command=(sys.executable, SERVER, "stdio"), secret_env={"ORDERS_TOKEN": ref})
    assert (await laptop.servers.start("mine", launch)).env["ORDERS_TOKEN"] == "t-1"
    assert await call(laptop.tools(launch), "echo", text="x") == ToolOutput("x")
    laptop.secrets.values.clear()
    with pytest.raises(ToolError, match="mine: no value for ORDERS_TOKEN"):
        await laptop.servers.start("mine", launch)


async def test_the_bundled_echo_server_stands_in_where_no_uvx_is_at_hand(monkeypatch: pytest.MonkeyPatch) -> None:
    laptop = Laptop({"PATH": "", "HOME": ""})
    monkeypatch.setattr(servers, "find_uv", lambda _: "")
    launch = LaunchPlan(kind="package", package="test-mcp-echo-server")
    (notice,) = await laptop.servers.prepare("echo-tools", launch)
    tools = laptop.tools(launch)
    (spec,) = await tools.specs()
    assert notice.reason == "StandIn"
    assert (spec.name, list(spec.parameters["properties"])) == ("echo", ["text"])
    assert await call(tools, "echo", text="hello") == ToolOutput("hello")
    await laptop.aclose()


@pytest.mark.needs("uvx")
@pytest.mark.timeout(180)
async def test_the_documents_echo_package_is_installed_and_run_as_it_is(laptop: Laptop) -> None:
    launch = LaunchPlan(kind="package", package="test-mcp-echo-server")
    told: list[str] = []
    notices = await laptop.servers.prepare("echo-tools", launch, told.append)
    assert notices or told == ["echo-tools: installing test-mcp-echo-server"]
    assert await call(laptop.tools(launch), "echo", text="hello") == ToolOutput("hello")


@pytest.mark.needs("uvx")
def _index(folder: Path) -> None:
    """An index with one package, which says that it runs."""
    wheel = folder / "simple" / "tiny-demo" / "tiny_demo-1.0-py3-none-any.whl"
    wheel.parent.mkdir(parents=True)
    about = "tiny_demo-1.0.dist-info"
    with zipfile.ZipFile(wheel, "w") as made:
        made.writestr("tiny_demo.py", "def main(): print('it runs')")
        made.writestr(f"{about}/METADATA", "Metadata-Version: 2.1\nName: tiny-demo\nVersion: 1.0\n")
        made.writestr(f"{about}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        made.writestr(f"{about}/entry_points.txt", "[console_scripts]\ntiny-demo=tiny_demo:main\n")
        made.writestr(f"{about}/RECORD", "")


@pytest.mark.needs("uvx")
async def test_a_package_of_another_index_is_run_from_the_cache_without_the_index_and_its_password(
    tmp_path: Path,
) -> None:
    _index(tmp_path)
    handler = partial(SimpleHTTPRequestHandler, directory=str(tmp_path))
    launch = LaunchPlan(kind="package", package="tiny-demo")
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as index:
        serving = asyncio.create_task(asyncio.to_thread(index.serve_forever))
        address = f"127.0.0.1:{index.server_port}/simple"
        own = {"UV_DEFAULT_INDEX": f"http://me:secret@{address}", "UV_CACHE_DIR": str(tmp_path / "cache")}
        laptop = Laptop({**os.environ, "NO_PROXY": "127.0.0.1", "no_proxy": "127.0.0.1", **own})
        try:
            assert await laptop.servers.version("mine", launch) == "tiny-demo==1.0"
        finally:
            index.shutdown()
            await serving
    command = await laptop.servers.start("mine", launch)
    assert "secret" not in str(command.env)
    started = await asyncio.create_subprocess_exec(
        command.command, *command.args, env={"PATH": os.environ["PATH"], **command.env}, stdout=asyncio.subprocess.PIPE
    )
    said, _ = await started.communicate()
    assert (said.decode().strip(), started.returncode) == ("it runs", 0)
    await laptop.aclose()


async def test_a_package_that_does_not_exist_is_told_with_what_uv_said() -> None:
    laptop = Laptop({**os.environ, "UV_OFFLINE": "1"})
    with pytest.raises(ToolError, match="mine: the package kadre-no-such-server cannot be installed: "):
        await laptop.servers.prepare("mine", LaunchPlan(kind="package", package="kadre-no-such-server"))
    await laptop.aclose()


@pytest.mark.parametrize("kind", ["source", "command"])
async def test_a_server_ends_when_this_process_is_killed(kind: str) -> None:
    parent = await asyncio.create_subprocess_exec(
        sys.executable, str(Path(__file__).parent / "parent.py"), kind, stdout=asyncio.subprocess.PIPE
    )
    assert parent.stdout is not None
    async with asyncio.timeout(30):
        child = int(await parent.stdout.readline())
    parent.send_signal(signal.SIGKILL)
    await parent.wait()
    await until(lambda: not _runs(child))


def _runs(process: int) -> bool:
    """Whether it runs: one that has ended may remain as a zombie where nobody adopts it."""
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False
