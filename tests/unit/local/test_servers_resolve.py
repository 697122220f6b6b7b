"""How a server is run is decided without running anything."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from kadre.base.errors import ToolError
from kadre.engine.tools.mcp import Command
from kadre.local.servers import Resolved, Tools, resolve
from kadre.plan.types import LaunchPlan

FOLDER = Path("servers", "one")
SECRETS = {"OPENAI_API_KEY": "sk-1", "UV_INDEX_URL": "https://user:pass@index", "AWS_SECRET_ACCESS_KEY": "x"}
ENVIRON = {"HOME": "here", "PATH": "bin", "LANG": "C.UTF-8", "UV_CACHE_DIR": "cache", **SECRETS}
UV = Tools(uv="uv", python="python3.12")


def run(launch: LaunchPlan, tools: Tools = UV) -> Resolved:
    return resolve(launch, FOLDER, tools, ENVIRON)


def program(command: Command) -> tuple[str, ...]:
    """What is run, without what ties it to this process."""
    assert command.args[:3] == ("-I", "-S", str(Path(sys.modules["kadre.local.servers"].HERE, "launcher.py")))
    return command.args[5:]


def test_a_package_is_installed_and_then_run_without_the_network() -> None:
    resolved = run(LaunchPlan(kind="package", package="mcp-server-fetch==1.2"), Tools(uv="uv"))
    uvx = ("uv", "tool", "run", "--from", "mcp-server-fetch==1.2")
    assert resolved.install == (*uvx, "python", "-c", "")
    assert program(resolved.command) == (*uvx, "mcp-server-fetch")
    assert resolved.command.env["UV_OFFLINE"] == "1"
    assert (resolved.command.serves, resolved.notices) == ("stdio", ())


def test_the_catalogue_knows_what_the_echo_server_needs() -> None:
    resolved = run(LaunchPlan(kind="package", package="test-mcp-echo-server"))
    assert program(resolved.command)[3:] == (
        "--python", "python3.12", "--with", "mcp<2", "--from", "test-mcp-echo-server", "test-mcp-echo-server"
    )  # fmt: skip
    assert (resolved.command.serves, resolved.notices) == ("http", ())


@pytest.mark.parametrize(("tools", "lacking"), [(Tools(uv="uv"), "Python 3.12"), (Tools(), "uvx")])
def test_where_the_echo_server_cannot_run_a_bundled_one_stands_in_and_it_is_said(tools: Tools, lacking: str) -> None:
    resolved = run(LaunchPlan(kind="package", package="test-mcp-echo-server"), tools)
    assert program(resolved.command) == (sys.executable, "-I", "-m", "kadre.local.echo_server")
    assert resolved.install == ()
    (notice,) = resolved.notices
    assert notice.reason == "StandIn"
    assert f"test-mcp-echo-server needs {lacking}" in notice.message


def test_a_package_without_uvx_says_what_to_install() -> None:
    with pytest.raises(ToolError, match=r"kadre\[local\]"):
        run(LaunchPlan(kind="package", package="mcp-server-fetch"), Tools())


@pytest.mark.parametrize("package", ["", "--index-url=x", "two words", "git+https://example.com/x", "../here"])
def test_only_a_package_of_the_index_is_a_package(package: str) -> None:
    with pytest.raises(ToolError, match="does not name a package"):
        run(LaunchPlan(kind="package", package=package))


def test_functions_run_in_a_folder_of_their_own_and_end_with_this_process() -> None:
    resolved = run(LaunchPlan(kind="source", source="def f(): ..."))
    executable, isolated, runner, file, _ = program(resolved.command)
    assert (executable, isolated, Path(runner).name) == (sys.executable, "-I", "source_runner.py")
    assert (resolved.command.cwd, Path(file)) == (str(FOLDER), FOLDER / "tools.py")
    assert resolved.command.args[3] == "SIGKILL"


@pytest.mark.parametrize(
    "launch",
    [
        LaunchPlan(kind="source", source="def f(): ...", env={"MODE": "fast"}),
        LaunchPlan(kind="command", command=("server", "--stdio"), env={"MODE": "fast"}),
        LaunchPlan(kind="package", package="mcp-server-fetch", env={"MODE": "fast"}),
    ],
)
def test_a_server_gets_what_its_author_gave_it_and_no_secret_of_ours(launch: LaunchPlan) -> None:
    env = run(launch).command.env
    assert env["MODE"] == "fast"
    assert SECRETS.keys().isdisjoint(env)


def test_a_command_that_is_empty_is_refused() -> None:
    with pytest.raises(ToolError, match="no command"):
        run(LaunchPlan(kind="command"))
