"""What a model writes runs behind real walls: it reads nothing, reaches nothing, and ends."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import time
from pathlib import Path
from typing import Any

import pytest

from kadre.base.errors import ToolError
from kadre.engine.tools.code import MOST_CODE, CodeToolset
from kadre.engine.tools.port import ToolOutput
from kadre.local import code_process
from kadre.local.sandbox import ProcessSandbox
from kadre.plan.types import CodeTool
from tests.contract.tools.conftest import CONTEXT, until

pytestmark = [pytest.mark.timeout(60), pytest.mark.requirement("tool-code")]
WALLS = ProcessSandbox()


async def ran(code: str, seconds: float = 20.0) -> ToolOutput:
    """What the tool answers to that code."""
    return await CodeToolset(CodeTool(name="python", timeout=seconds), WALLS).call("python", {"code": code}, CONTEXT)


async def test_what_is_printed_and_the_last_value_are_the_answer() -> None:
    answer = await ran("import math\nprint('pi')\nround(math.pi, 2)")
    assert answer == ToolOutput("pi\n3.14\n")
    assert await ran("x = 1") == ToolOutput("(it printed nothing)")
    assert await ran("'\\u00e4\\u20ac'") == ToolOutput("'\u00e4\u20ac'\n")


@pytest.mark.parametrize(
    ("code", "told"),
    [
        ("def f(:", "SyntaxError"),
        ("1/0", "ZeroDivisionError"),
        ("import sys; sys.exit('no')", "no"),
        ("import sys; sys.exit(3)", "it failed, and printed nothing"),
        ("open('/etc/passwd')", "No such file or directory: '/etc/passwd'"),
        (f"open({str(Path.home() / '.bashrc')!r})", "No such file or directory"),
        ("open('/usr/x', 'w')", "Read-only file system"),
        ("import socket; socket.create_connection(('127.0.0.1', 80))", "Operation not permitted"),
        ("import socket; socket.socket(socket.AF_UNIX)", "Operation not permitted"),
        ("import os\nwhile True: os.fork()", "Operation not permitted"),
        ("import subprocess; subprocess.run(['/usr/bin/id'])", "Operation not permitted"),
        ("import os; os.execv('/usr/bin/id', ['id'])", "Operation not permitted"),
        ("import os; os.kill(os.getppid(), 9)", "Operation not permitted"),
        ("[bytearray(10**7) for _ in range(1000)]", "MemoryError"),
        ("open('/tmp/x', 'wb').write(bytes(1 << 27))", "File too large"),
        ("for n in range(100): open(f'/tmp/{n}', 'wb').write(bytes(10 << 20))", "No space left on device"),
        ("for n in range(10_000): open(f'/tmp/{n}', 'w')", "No space left on device"),
        ("import threading; threading.Thread(target=print).start()", "can't start new thread"),
        ("import resource; resource.prlimit(2, resource.RLIMIT_CPU, (1, 1))", "Operation not permitted"),
        ("import os, fcntl; fcntl.fcntl(os.pipe()[0], fcntl.F_SETOWN, os.getppid())", "Operation not permitted"),
        ("import os, fcntl; fcntl.ioctl(1, 0x8901, b'1234')", "Operation not permitted"),
        ("import socket; socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)", "Operation not permitted"),
        ("import os; os.sched_setaffinity(os.getppid(), {0})", "Operation not permitted"),
        ("import os; os.abort()", "it was ended: it used more memory or time than it may"),
        ("open('/proc/1/mem', 'r+b')", "Read-only file system"),  # of a process without limits, were there one
        ("open('/proc/sys/kernel/core_pattern', 'w')", "Read-only file system"),  # which root may write from inside
        ("open('/x', 'w')", "Read-only file system"),  # it is memory
        ("open('/dev/shm/x', 'w')", "Read-only file system"),
        ("import os; os.memfd_create('x')", "Operation not permitted"),
        ("import ctypes; ctypes.string_at(0)", "it was ended: it used more memory or time than it may"),
        ("while True: print('x' * 100_000)", "it printed too much"),
    ],
)
async def test_what_it_may_not_do_is_a_clear_error(code: str, told: str) -> None:
    answer = await ran(code)
    assert answer.is_error
    assert told in answer.content
    assert code_process.RUNNER.name not in answer.content  # nothing of what surrounds it


async def test_it_is_alone_and_has_no_rights() -> None:
    status = "dict(line.split(':') for line in open('/proc/self/status') if line.startswith(('Cap', 'Seccomp:')))"
    answer = await ran(f"import os; print([name for name in os.listdir('/proc') if name.isdigit()]); print({status})")
    assert answer.content.startswith("['1']\n")
    assert answer.content.count("0000000000000000") == 5
    assert "'Seccomp': '\\t2\\n'" in answer.content
    assert (await ran("import ctypes; ctypes.CDLL(None).shmget(0, 1 << 20, 0o1666)")).content == "-1\n"


async def test_it_sees_no_variable_of_the_host(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "canary")
    answer = await ran("import os; print(sorted(os.environ)); print(open('/proc/1/environ').read())")
    assert "canary" not in answer.content
    assert "HOME" in answer.content


@pytest.mark.parametrize("code", ["while True: pass", "import time; time.sleep(60)", "import signal; signal.pause()"])
async def test_it_ends_when_its_time_is_up(code: str) -> None:
    began = time.monotonic()
    answer = await ran(f"print('begun', flush=True)\n{code}", 1.0)
    assert (answer.is_error, answer.content) == (True, "begun\nit was ended: it took longer than 1 s")
    assert time.monotonic() - began < 10


async def test_nothing_of_it_is_left() -> None:
    mark = f"kadre-left-{os.getpid()}"
    await ran(f"open('/tmp/{mark}', 'w').write('x'); import time; time.sleep(60)", 1.0)
    assert mark not in (await ran("import os; os.listdir('/tmp')")).content
    assert mark not in os.listdir("/tmp")  # noqa: PTH208
    await until(lambda: not _running(1))


async def test_a_caller_that_leaves_ends_it() -> None:
    running = asyncio.create_task(ran("import time; time.sleep(50)", 51.0))
    await until(lambda: _running(51))
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    await until(lambda: not _running(51))


def _running(seconds: float) -> bool:
    """Whether code runs that has about that much time."""
    mark, found = f"{code_process.RUNNER}\0".encode(), False
    for each in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):  # it has just ended
            _, runs, after = each.read_bytes().rpartition(mark)
            found = found or (bool(runs) and abs(float(after.split(b"\0")[0]) - seconds) < 0.5)
    return found


async def test_pieces_of_code_wait_for_each_other_and_not_for_long(monkeypatch: pytest.MonkeyPatch) -> None:
    walls = ProcessSandbox()
    await walls.check()
    slow = [asyncio.create_task(walls.run("import time; time.sleep(60)", 4.0)) for _ in range(code_process.AT_ONCE)]
    await asyncio.sleep(0)
    with pytest.raises(ToolError, match="it was not run; try again"):
        await walls.run("1", 0.5)
    assert {each.ended for each in await asyncio.gather(*slow)} == {"time"}


async def test_without_bubblewrap_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    toolset = CodeToolset(CodeTool(name="python"), ProcessSandbox())
    with pytest.raises(ToolError, match="install bubblewrap"):
        await toolset.specs()
    assert not toolset.ready
    open_ = CodeToolset(CodeTool(name="python", timeout=20), ProcessSandbox(unsafe=True))
    (spec,) = await open_.specs()
    assert (spec.name, spec.read_only) == ("python", True)
    assert (await open_.call("python", {"code": "2 * 21"}, CONTEXT)).content == "42\n"


async def test_walls_that_have_gone_are_no_reason_to_do_without(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "bwrap").symlink_to(shutil.which("bwrap") or "")
    monkeypatch.setenv("PATH", str(tmp_path))
    walls = ProcessSandbox()
    await walls.check()
    (tmp_path / "bwrap").unlink()
    with pytest.raises(FileNotFoundError):
        await walls.run("1", 5.0)


async def test_walls_that_cannot_be_made_are_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "bwrap").write_text("#!/bin/sh\necho 'bwrap: setting up uid map: Permission denied'; exit 1\n")
    (tmp_path / "bwrap").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    with pytest.raises(ToolError, match="no sandbox can be made on this machine: bwrap: setting up uid map"):
        await ProcessSandbox().check()
    assert (await ProcessSandbox(unsafe=True).run("1 + 1", 20)).output == "2\n"


@pytest.mark.parametrize(
    "arguments", [{}, {"code": ""}, {"code": 1}, {"code": "1", "x": 1}, {"code": "1" * (MOST_CODE + 1)}]
)
async def test_what_is_no_code_is_not_run(arguments: dict[str, Any]) -> None:
    with pytest.raises(ToolError, match="code"):
        await CodeToolset(CodeTool(name="python"), WALLS).call("python", arguments, CONTEXT)
