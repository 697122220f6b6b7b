"""How a server is run is decided without running anything."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from kadre.base.errors import ToolError
from kadre.engine.tools.mcp_target import Command
from kadre.local.servers import Programs, Recipe, recipe_of
from kadre.plan.types import LaunchPlan

FOLDER = Path("servers", "one")
SECRETS = {"OPENAI_API_KEY": "sk-1", "UV_INDEX_MINE_PASSWORD": "pass", "AWS_SECRET_ACCESS_KEY": "x"}
ENVIRON = {"HOME": "here", "PATH": "bin", "LANG": "C.UTF-8", "UV_CACHE_DIR": "cache", **SECRETS}
UV = Programs(uv="uv", python="python3.12")


def run(launch: LaunchPlan, programs: Programs = UV) -> Recipe:
    return recipe_of(launch, FOLDER, programs, ENVIRON)


def program(command: Command) -> tuple[str, ...]:
    """What is run, without what ties it to this process."""
    assert command.args[:3] == ("-I", "-S", str(Path(sys.modules["kadre.local.servers"].HERE, "launcher.py")))
    return command.args[5:]


def test_a_package_is_installed_and_then_run_without_the_network() -> None:
    recipe = run(LaunchPlan(kind="package", package="mcp-server-fetch==1.2"), Programs(uv="uv"))
    uvx = ("uv", "tool", "run", "--from", "mcp-server-fetch==1.2")
    assert recipe.install == (*uvx, "python", "-c", "")
    assert program(recipe.command) == (*uvx, "mcp-server-fetch")
    assert recipe.command.env["UV_OFFLINE"] == "1"
    assert (recipe.command.serves, recipe.notices) == ("stdio", ())


def test_the_catalogue_knows_what_the_echo_server_needs() -> None:
    recipe = run(LaunchPlan(kind="package", package="test-mcp-echo-server"))
    assert program(recipe.command)[3:] == (
        "--python", "python3.12", "--with", "mcp<2", "--from", "test-mcp-echo-server", "test-mcp-echo-server"
    )  # fmt: skip
    assert (recipe.command.serves, recipe.notices) == ("http", ())


@pytest.mark.parametrize(("programs", "lacking"), [(Programs(uv="uv"), "Python >=3.12"), (Programs(), "uvx")])
def test_where_the_echo_server_cannot_run_another_stands_in_and_it_is_said(programs: Programs, lacking: str) -> None:
    recipe = run(LaunchPlan(kind="package", package="test-mcp-echo-server"), programs)
    assert program(recipe.command) == (sys.executable, "-I", "-m", "kadre.local.echo_server")
    assert recipe.install == ()
    (notice,) = recipe.notices
    assert notice.reason == "StandIn"
    assert f"test-mcp-echo-server needs {lacking}" in notice.message


def test_a_package_without_uvx_says_what_to_install() -> None:
    with pytest.raises(ToolError, match=r"kadre\[local\]"):
        run(LaunchPlan(kind="package", package="mcp-server-fetch"), Programs())


@pytest.mark.parametrize("package", ["", "--index-url=x", "two words", "git+https://example.com/x", "../here"])
def test_only_a_package_of_the_index_is_a_package(package: str) -> None:
    with pytest.raises(ToolError, match="does not name a package"):
        run(LaunchPlan(kind="package", package=package))


def test_functions_run_in_a_folder_of_their_own_and_end_with_this_process() -> None:
    recipe = run(LaunchPlan(kind="source", source="def f(): ..."))
    executable, isolated, runner, file, _ = program(recipe.command)
    assert (executable, isolated, Path(runner).name) == (sys.executable, "-I", "source_runner.py")
    assert (recipe.command.cwd, Path(file)) == (str(FOLDER), FOLDER / "tools.py")
    assert recipe.command.args[3] == "SIGKILL"


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


def test_a_package_is_looked_for_in_what_came_from_its_index_and_the_password_stays_with_the_installer() -> None:
    environ = {**ENVIRON, "UV_DEFAULT_INDEX": "https://user:pass@packages/simple", "UV_INDEX": "a=https://x:y@a b"}
    env = recipe_of(LaunchPlan(kind="package", package="p"), FOLDER, UV, environ).command.env
    assert (env["UV_DEFAULT_INDEX"], env["UV_INDEX"]) == ("https://packages/simple", "a=https://a b")


def test_a_command_that_is_empty_is_refused() -> None:
    with pytest.raises(ToolError, match="no command"):
        run(LaunchPlan(kind="command"))
