"""How MCP servers are started on a laptop: packages by uvx, an author's functions, any command.

`kadre up` makes one `Servers`, prepares what its plans name (installing takes a while and is shown), and hands `start`
to the pool of sessions, which runs the command it gets and runs it again where it ended. Every server speaks over stdin
and stdout unless the catalogue knows better, gets none of this process's environment that it was not given, and ends
with it.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import os
import re
import shutil
import sys
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path

import msgspec

from kadre.base.errors import ToolError, shorten
from kadre.base.urls import without_login
from kadre.engine.secrets import SecretReader, describe
from kadre.engine.tools.mcp_target import Command
from kadre.local.mcp_catalogue import CATALOGUE, Entry
from kadre.plan.types import LaunchPlan, Notice

INSTALL_TIMEOUT = 120.0
"""Seconds a package may take to be installed."""
CALL_SECONDS = 30.0
"""Seconds one call of an author's function may take."""
HERE = Path(__file__).parent
Progress = Callable[[str], None]
"""Told, in words, of what takes a while."""

_NAME = r"[A-Za-z0-9][A-Za-z0-9._-]*"
_REQUIREMENT = re.compile(rf"({_NAME})(\[[A-Za-z0-9,._-]*\])?([=<>!~].*)?")
# What a program needs to find its way about, and uv its cache; none of it is a secret.
_PLAIN = ("HOME", "LANG", "LC_ALL", "TMPDIR", "XDG_CACHE_HOME", "XDG_CONFIG_HOME", "XDG_DATA_HOME")
_NETWORK = ("SSL_CERT_DIR", "SSL_CERT_FILE", "NO_PROXY", "no_proxy")
_UV_RUN = ("UV_CACHE_DIR", "UV_PYTHON_INSTALL_DIR", "UV_TOOL_DIR")
# uv finds in its cache what it has from the same indexes; it takes one with a password for the same as without.
_UV_INDEXES = ("UV_DEFAULT_INDEX", "UV_EXTRA_INDEX_URL", "UV_FIND_LINKS", "UV_INDEX", "UV_INDEX_URL", "UV_NO_INDEX")
# Installing may need an index and a proxy, with their passwords: uv gets them, the server does not.
_UV_INSTALL = re.compile(r"UV_.*|.*_(PROXY|proxy)|PIP_INDEX_URL|NETRC")


class Programs(msgspec.Struct, frozen=True):
    """What this machine has to run servers with. `python`: the path of an interpreter an entry asks for, or empty."""

    uv: str = ""
    python: str = ""


class Recipe(msgspec.Struct, frozen=True):
    """How a server is run: its command, what installs it first (or nothing), what people should know."""

    command: Command
    install: tuple[str, ...] = ()
    notices: tuple[Notice, ...] = ()


def recipe_of(
    launch: LaunchPlan, folder: Path, programs: Programs, environ: Mapping[str, str], *, stand_ins: bool = True
) -> Recipe:
    """The way to run it, without running anything. `folder`: the server's own; `stand_ins`: whether one of ours may
    take the place of a package that this machine lacks something for. Raises ToolError where there is none."""
    match launch.kind:
        case "source":
            args = ("-I", str(HERE / "source_runner.py"), str(folder / "tools.py"), f"{CALL_SECONDS:g}")
            # Two arenas: each more reserves address space, of which the process has little.
            env = {"HOME": str(folder), "MALLOC_ARENA_MAX": "2", **launch.env}
            return Recipe(_bound("SIGKILL", (sys.executable, *args), env, str(folder)))
        case "command":
            if not launch.command:
                raise ToolError("no command to start the MCP server with is given")
            return Recipe(_bound("SIGTERM", launch.command, {**_given(environ, _PLAIN + _NETWORK), **launch.env}))
        case "package":
            return _package(launch, programs, environ, stand_ins=stand_ins)


def _package(launch: LaunchPlan, programs: Programs, environ: Mapping[str, str], *, stand_ins: bool) -> Recipe:
    requirement, name = _named(launch)
    if not name:
        raise ToolError(f"{shorten(launch.package, 80)!r} does not name a package: expected NAME or NAME==VERSION")
    entry = _entry(launch)
    if not (programs.uv and (programs.python or not entry.python)):
        lacking = f"Python {entry.python}" if programs.uv else "uvx"
        why = f"the package {name} needs {lacking}, which is not at hand"
        if entry.stand_in and stand_ins:
            return _stand_in(entry, launch, why)
        if programs.uv:
            raise ToolError(why)
    if not programs.uv:
        raise ToolError(f"the package {name} is run by uvx, which is not installed; install kadre[local], or uv")
    beside = [part for other in entry.beside for part in ("--with", other)]
    python = ["--python", programs.python] if programs.python else []
    run = (programs.uv, "tool", "run", *python, *beside, "--from", requirement)
    indexes = {name: without_login(value) for name, value in _given(environ, _UV_INDEXES).items()}
    surroundings = {**_given(environ, _PLAIN + _NETWORK + _UV_RUN), **indexes}
    env = {**surroundings, "UV_OFFLINE": "1", "UV_NO_PROGRESS": "1", **launch.env}
    command = _bound("SIGTERM", (*run, name), env)
    return Recipe(msgspec.structs.replace(command, serves=entry.serves), (*run, "python", "-c", ""))


def _named(launch: LaunchPlan) -> tuple[str, str]:
    """The requirement and the name in it, which is empty where it names none."""
    requirement = launch.package.strip()
    matched = _REQUIREMENT.fullmatch(requirement)
    return requirement, matched.group(1) if matched else ""


def _entry(launch: LaunchPlan) -> Entry:
    return CATALOGUE.get(_named(launch)[1], Entry())


def _stand_in(entry: Entry, launch: LaunchPlan, why: str) -> Recipe:
    notice = Notice(reason="StandIn", message=f"{why}: Kadre's own server with the same tools is used in its place")
    return Recipe(_bound("SIGKILL", (sys.executable, "-I", "-m", entry.stand_in), dict(launch.env)), (), (notice,))


def _bound(signal: str, command: tuple[str, ...], env: dict[str, str], cwd: str = "") -> Command:
    """The command such that it ends with this process."""
    launcher = ("-I", "-S", str(HERE / "launcher.py"), signal, str(os.getpid()))
    return Command(sys.executable, (*launcher, *command), env, cwd)


def _given(environ: Mapping[str, str], names: tuple[str, ...]) -> dict[str, str]:
    return {name: environ[name] for name in names if name in environ}


class Servers:
    """Prepares servers and says how they are run. One a process; closed after the sessions are."""

    def __init__(
        self, secrets: SecretReader, environ: Mapping[str, str] | None = None, *, stand_ins: bool = True
    ) -> None:
        self._secrets = secrets
        self._stand_ins = stand_ins
        self._environ = os.environ if environ is None else environ
        self._folder: Path | None = None
        self._prepared: dict[bytes, Recipe] = {}
        self._locks: dict[bytes, asyncio.Lock] = {}

    async def prepare(self, name: str, launch: LaunchPlan, progress: Progress | None = None) -> tuple[Notice, ...]:
        """Have all in place that `start` needs, installing a package once. Raises ToolError."""
        recipe = await self._recipe(name, launch, progress or (lambda _: None))
        return recipe.notices

    async def version(self, name: str, launch: LaunchPlan) -> str:
        """A package in the version that is installed, `NAME==VERSION`. Raises ToolError."""
        recipe = await self._recipe(name, launch, lambda _: None)
        package = _named(launch)[1]
        script = f"import importlib.metadata as m; print(m.version({package!r}))"
        env = {**_given(self._environ, ("PATH",)), **recipe.command.env}
        status, found, said = await _run((*recipe.install[:-1], script), env, INSTALL_TIMEOUT)
        if status != 0:
            raise ToolError(f"the package {package} does not say its version: {_tail(said)}")
        return f"{package}=={found.strip()}"

    async def start(self, name: str, launch: LaunchPlan) -> Command:
        """How to run the server now, with its secrets read anew. The pool's `Launch`. Raises ToolError."""
        recipe = await self._recipe(name, launch, lambda _: None)
        secret = {}
        for variable, ref in launch.secret_env.items():
            value = self._secrets.read(ref)
            if value is None:
                raise ToolError(f"{name}: no value for {variable}: it is to come from {describe(ref)}")
            secret[variable] = value
        return msgspec.structs.replace(recipe.command, env={**recipe.command.env, **secret})

    async def _recipe(self, name: str, launch: LaunchPlan, progress: Progress) -> Recipe:
        key = msgspec.json.encode(launch, order="sorted")
        async with self._locks.setdefault(key, asyncio.Lock()):
            if key not in self._prepared:
                try:
                    self._prepared[key] = await self._prepare(key, launch, progress, name)
                except ToolError as error:
                    raise ToolError(f"{name}: {error}") from error
            return self._prepared[key]

    async def _prepare(self, key: bytes, launch: LaunchPlan, progress: Progress, name: str) -> Recipe:
        folder = self._own_folder(key) if launch.kind == "source" else Path()
        programs = await _programs(launch, self._environ) if launch.kind == "package" else Programs()
        recipe = recipe_of(launch, folder, programs, self._environ, stand_ins=self._stand_ins)
        if launch.kind == "source":
            (folder / "tools.py").write_text(launch.source, encoding="utf-8")
        if recipe.install:
            progress(f"{name}: installing {launch.package}")
            try:
                await _install(recipe.install, launch.package, self._environ)
            except ToolError as error:
                entry = _entry(launch)
                if not (entry.stand_in and self._stand_ins):
                    raise
                return _stand_in(entry, launch, str(error))
        return recipe

    def _own_folder(self, key: bytes) -> Path:
        if self._folder is None:
            self._folder = Path(tempfile.mkdtemp(prefix="kadre-servers-"))
        folder = self._folder / hashlib.sha256(key).hexdigest()[:16]
        folder.mkdir(exist_ok=True)
        return folder

    async def aclose(self) -> None:
        """Remove the servers' folders."""
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)
            self._folder = None


async def _programs(launch: LaunchPlan, environ: Mapping[str, str]) -> Programs:
    uv = find_uv(environ)
    wanted = _entry(launch).python
    python = await _find_python(uv, wanted, environ) if uv and wanted else ""
    return Programs(uv, python)


def find_uv(environ: Mapping[str, str]) -> str:
    """The uv program: the one installed beside Kadre, else the one on PATH; empty where there is none."""
    with contextlib.suppress(ImportError, FileNotFoundError):
        import uv  # an extra

        return str(uv.find_uv_bin())
    return shutil.which("uv", path=environ.get("PATH")) or ""


async def _find_python(uv: str, version: str, environ: Mapping[str, str]) -> str:
    """An interpreter of that version on this machine; nothing is downloaded."""
    command = (uv, "python", "find", version, "--no-python-downloads", "--no-project")
    status, found, _ = await _run(command, dict(environ), 20.0)
    return found.strip() if status == 0 else _pyenv(version, environ)


def _pyenv(version: str, environ: Mapping[str, str]) -> str:
    """pyenv hides the interpreters that are not chosen, though they are there."""
    root = Path(environ.get("PYENV_ROOT") or Path(environ.get("HOME", "/"), ".pyenv"))
    plain = version.lstrip("<>=~")
    hidden = sorted(root.glob(f"versions/{plain}*/bin/python{plain}"))
    return str(hidden[-1]) if hidden else ""


async def _install(command: tuple[str, ...], package: str, environ: Mapping[str, str]) -> None:
    own = {name: value for name, value in environ.items() if _UV_INSTALL.fullmatch(name)}
    env = {**_given(environ, (*_PLAIN, *_NETWORK, "PATH")), **own, "UV_NO_PROGRESS": "1"}
    try:
        status, _, said = await _run(command, env, INSTALL_TIMEOUT)
    except TimeoutError:
        raise ToolError(f"the package {package} was not installed within {INSTALL_TIMEOUT:g} s") from None
    if status != 0:
        raise ToolError(f"the package {package} cannot be installed: {_tail(said)}")


async def _run(command: tuple[str, ...], env: dict[str, str], seconds: float) -> tuple[int, str, str]:
    process = await asyncio.create_subprocess_exec(
        *command,
        env=env,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        async with asyncio.timeout(seconds):
            out, err = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    return process.returncode or 0, out.decode(errors="replace"), err.decode(errors="replace")


def _tail(said: str) -> str:
    """The end of what uv said, without the user and password an index's address may have."""
    lines = [line.strip() for line in said.strip().splitlines() if line.strip()]
    return shorten(without_login(" | ".join(lines[-6:])))
