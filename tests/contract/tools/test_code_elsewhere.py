"""A code runner runs what a model wrote where no walls can be made: it reads nothing, reaches nothing, and ends."""

from __future__ import annotations

import asyncio
import contextlib
import io
import os
import signal
import time
import urllib.request
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import aiohttp
import msgspec
import pytest

from kadre.base.errors import ToolError
from kadre.engine import http_client
from kadre.engine.tools.code import Asked, CodeToolset, Ran
from kadre.engine.tools.code_elsewhere import RunnerSandbox
from kadre.engine.tools.port import ToolOutput
from kadre.local import code_process, fenced
from kadre.plan.types import CodeTool
from tests.cluster.processes import free_ports
from tests.contract.tools.conftest import CONTEXT, until
from tests.support.code_runner import NAMESPACE, WITHOUT_LANDLOCK, Cluster, Runner, running
from tests.support.commands import kadre

pytestmark = [pytest.mark.timeout(60), pytest.mark.requirement("tool-code-cluster")]


@pytest.fixture(scope="module")
def runner(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Runner]:
    with running(tmp_path_factory.mktemp("runner")) as here:
        yield here


@pytest.fixture
async def sandbox(runner: Runner) -> AsyncIterator[RunnerSandbox]:
    async with http_client.session() as http:
        yield RunnerSandbox(http, runner.url, runner.token)


async def ran(sandbox: RunnerSandbox, code: str, seconds: float = 20.0) -> ToolOutput:
    """What the tool answers to that code."""
    return await CodeToolset(CodeTool(name="python", timeout=seconds), sandbox).call("python", {"code": code}, CONTEXT)


async def test_what_is_printed_and_the_last_value_are_the_answer(sandbox: RunnerSandbox) -> None:
    answer = await ran(sandbox, "import math\nprint('pi')\nround(math.pi, 2)")
    assert answer == ToolOutput("pi\n3.14\n")
    assert await ran(sandbox, "x = 1") == ToolOutput("(it printed nothing)")
    assert await ran(sandbox, "'\\u00e4\\u20ac'") == ToolOutput("'\u00e4\u20ac'\n")
    looping = "import asyncio\nasyncio.run(asyncio.sleep(0, 'slept'))"
    assert await ran(sandbox, looping) == ToolOutput("'slept'\n")
    wrote = (
        "import tempfile\nwith tempfile.TemporaryFile() as f: f.write(b'x'); print(f.tell())\nopen('y', 'w').write('z')"
    )
    assert await ran(sandbox, wrote) == ToolOutput("1\n1\n")
    assert await ran(sandbox, "import sqlite3, decimal, json, ssl, zoneinfo") == ToolOutput("(it printed nothing)")


@pytest.mark.parametrize(
    ("code", "told"),
    [
        ("def f(:", "SyntaxError"),
        ("1/0", "ZeroDivisionError"),
        ("import sys; sys.exit('no')", "no"),
        ("import sys; sys.exit(3)", "it failed, and printed nothing"),
        ("open('/etc/passwd')", "Permission denied: '/etc/passwd'"),
        ("open('/etc/hostname')", "Permission denied: '/etc/hostname'"),
        ("import os; os.listdir('/')", "Permission denied"),
        ("import os; os.listdir('..')", "Permission denied"),
        ("import os; os.listdir('/proc')", "Permission denied"),
        ("open('/proc/self/environ')", "Permission denied"),
        ("open('/usr/x', 'w')", "Permission denied"),
        ("open('/tmp/x', 'w')", "Permission denied"),
        ("open('/dev/shm/x', 'w')", "Permission denied"),
        ("import os; os.mkdir('x')", "Permission denied"),
        ("import os; os.symlink('/etc', 'x')", "Permission denied"),
        ("import os; os.mkfifo('x')", "Permission denied"),
        ("import os; os.link('/usr/bin/env', 'x')", "Invalid cross-device link' or 'Permission denied"),
        ("open('x', 'w'); import os; os.rename('x', '/tmp/x')", "Permission denied"),
        ("import os; os.chmod('..', 0)", "Operation not permitted"),
        ("import os; os.utime('..')", "Operation not permitted"),
        ("import os; os.truncate('/etc/passwd', 0)", "Operation not permitted"),
        ("import socket; socket.create_connection(('127.0.0.1', 80))", "Operation not permitted"),
        ("import socket; socket.socket(socket.AF_UNIX)", "Operation not permitted"),
        ("import os\nwhile True: os.fork()", "Operation not permitted"),
        ("import subprocess; subprocess.run(['/usr/bin/id'])", "Operation not permitted"),
        ("import os; os.execv('/usr/bin/id', ['id'])", "Operation not permitted"),
        ("import os; os.kill(os.getppid(), 9)", "Operation not permitted"),
        ("import os, resource; resource.prlimit(os.getppid(), resource.RLIMIT_CPU, (1, 1))", "Operation not permitted"),
        ("import os, fcntl; fcntl.fcntl(os.pipe()[0], fcntl.F_SETOWN, os.getppid())", "Operation not permitted"),
        ("import os, fcntl; fcntl.ioctl(1, 0x8901, os.getppid().to_bytes(4, 'little'))", "Operation not permitted"),
        ("import os, fcntl; fcntl.ioctl(1, 0x8902, os.getppid().to_bytes(4, 'little'))", "Operation not permitted"),
        ("import socket; socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)", "Operation not permitted"),
        ("import socket; socket.socketpair()[0].bind('\\0x')", "Operation not permitted"),
        ("import socket; socket.socketpair()[0].connect('\\0x')", "Operation not permitted"),
        ("import os; os.sched_setaffinity(os.getppid(), {0})", "Operation not permitted"),
        ("import os; os.setpriority(os.PRIO_PROCESS, os.getppid(), 19)", "Operation not permitted"),
        ("[bytearray(10**7) for _ in range(1000)]", "MemoryError"),
        ("open('x', 'wb').write(bytes(1 << 27))", "File too large"),
        ("while True: open(str(id(object())), 'wb').write(b'')", "it was ended: it took longer than"),
        ("import threading; threading.Thread(target=print).start()", "can't start new thread"),
        ("import os; os.memfd_create('x')", "Operation not permitted"),
        ("import os; os.abort()", "it was ended: it used more memory or time than it may"),
        ("import ctypes; ctypes.string_at(0)", "it was ended: it used more memory or time than it may"),
        ("while True: print('x' * 100_000)", "it printed too much"),
    ],
)
async def test_what_it_may_not_do_is_a_clear_error(sandbox: RunnerSandbox, code: str, told: str) -> None:
    answer = await ran(sandbox, code, 3.0 if "id(object" in code else 20.0)
    assert answer.is_error
    assert any(each in answer.content for each in told.split("' or '"))
    assert code_process.RUNNER.name not in answer.content  # nothing of what surrounds it


@pytest.mark.parametrize(
    "code",
    [
        "n = 0\nwhile True:\n  open(str(n), 'w').close(); n += 1",
        "n = 0\nwhile True:\n  open(str(n), 'wb').write(bytes(8 << 20)); n += 1",
    ],
)
async def test_more_than_it_may_write_ends_it_and_goes_with_it(
    runner: Runner, sandbox: RunnerSandbox, code: str
) -> None:
    answer = await ran(sandbox, code)
    assert (answer.is_error, answer.content) == (True, "it was ended: it wrote more to files than it may")
    assert list(runner.folder.iterdir()) == []


@pytest.mark.parametrize("code", ["while True: pass", "import time; time.sleep(60)", "import signal; signal.pause()"])
async def test_it_ends_when_its_time_is_up(sandbox: RunnerSandbox, code: str) -> None:
    began = time.monotonic()
    answer = await ran(sandbox, f"print('begun', flush=True)\n{code}", 1.0)
    assert (answer.is_error, answer.content) == (True, "begun\nit was ended: it took longer than 1 s")
    assert time.monotonic() - began < 10


async def test_it_sees_nothing_of_the_process_that_serves_and_of_other_code(
    runner: Runner, sandbox: RunnerSandbox
) -> None:
    other = asyncio.create_task(ran(sandbox, "open('secret', 'w').write('x'); import time; time.sleep(50)", 51.0))
    await until(lambda: any(runner.folder.glob("*/secret")))
    (secret,) = runner.folder.glob("*/secret")
    pids = [runner.pid, _pid(51)]
    files = [f"/proc/{pid}/{name}" for pid in pids for name in ("environ", "mem", "maps", "cmdline", "status", "cwd/x")]
    looked = f"""
import ctypes, os
kernel = ctypes.CDLL(None, use_errno=True)
for path in {[*files, str(secret), str(runner.token)]!r}:
    try:
        print(path, open(path, "rb").read(100))
    except PermissionError:
        pass
try:
    print(os.listdir({str(secret.parent)!r}))
except PermissionError:
    pass
for pid in {pids!r}:
    # kill, tkill, tgkill, rt_sigqueueinfo, ptrace, process_vm_readv, pidfd_open, kcmp, prlimit64
    for call in ((62, pid, 0), (200, pid, 0), (234, pid, pid, 0), (129, pid, 0, 0), (101, 16, pid, 0, 0),
                 (310, pid, 0, 0, 0, 0, 0), (434, pid, 0), (312, pid, pid, 0, 0, 0), (302, pid, 7, 0, 0)):
        if kernel.syscall(*call) >= 0:
            print("done", call)
print(sorted(os.environ), "CANARY" in os.environ)
"""
    answer = await ran(sandbox, looked)
    assert answer == ToolOutput("['HOME', 'LANG', 'PATH', 'TMPDIR'] False\n")
    other.cancel()
    with pytest.raises(asyncio.CancelledError):
        await other


def test_no_process_of_its_user_looks_into_the_one_that_serves(runner: Runner) -> None:
    # What is not dumpable is root's, whoever's it is: without capabilities not even who has its uid may look.
    assert Path(f"/proc/{runner.pid}/environ").stat().st_uid == 0
    fields = Path(f"/proc/{runner.pid}/status").read_text()
    assert "CapBnd:\t0000000000000000" in fields


async def test_who_leaves_ends_it_and_nothing_of_it_is_left(runner: Runner, sandbox: RunnerSandbox) -> None:
    running = asyncio.create_task(ran(sandbox, "open('x', 'w'); import time; time.sleep(50)", 52.0))
    await until(lambda: any(runner.folder.glob("*/x")))
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    await until(lambda: not _pid(52) and not list(runner.folder.iterdir()))


async def test_a_folder_that_its_code_has_closed_is_cleared_away(runner: Runner, sandbox: RunnerSandbox) -> None:
    closed = "import os; open('x', 'w'); os.fchmod(os.open('.', os.O_RDONLY), 0)"
    assert await ran(sandbox, closed) == ToolOutput("(it printed nothing)")
    assert list(runner.folder.iterdir()) == []


def _pid(seconds: float) -> int:
    """The process of code that has about that much time; 0: there is none."""
    mark = f"{code_process.RUNNER}\0".encode()
    for each in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):  # it has just ended
            _, runs, after = each.read_bytes().rpartition(mark)
            if runs and abs(float(after.split(b"\0")[0]) - seconds) < 0.5:
                return int(each.parent.name)
    return 0


def _wrong(cluster: Cluster) -> list[str]:
    """Tokens by which nobody may have code run."""
    return [
        "",
        "no-token",
        cluster.token(account="other:helper"),
        cluster.token(account=f"{NAMESPACE}x:helper"),
        cluster.token(sub=f"system:node:{NAMESPACE}"),
        cluster.token(sub=None),
        cluster.token(aud=["https://kubernetes.default.svc"]),
        cluster.token(aud=None),
        cluster.token(exp=int(time.time()) - 600),
        cluster.token(exp=None),
        cluster.token(kid="e", key=Cluster().ec),
        cluster.token(key=Cluster().rsa),
        cluster.token().rpartition(".")[0] + ".",
    ]


async def test_only_pods_of_its_namespace_have_code_run(runner: Runner, tmp_path: Path) -> None:
    async with http_client.session() as http:
        for token in _wrong(runner.cluster):
            (tmp_path / "token").write_text(token)
            with pytest.raises(ToolError, match="the code runner refuses it"):
                await RunnerSandbox(http, runner.url, tmp_path / "token").run("1", 5.0)
        (tmp_path / "token").write_text(runner.cluster.token(kid="e"))
        assert (await RunnerSandbox(http, runner.url, tmp_path / "token").run("1", 5.0)).output == "1\n"
        with pytest.raises(ToolError, match="the controller mounts it"):
            await RunnerSandbox(http, runner.url, tmp_path / "none").run("1", 5.0)


async def test_keys_that_change_are_read_again(tmp_path: Path) -> None:
    with running(tmp_path) as here:
        after = Cluster()
        async with http_client.session() as http:
            here.token.write_text(after.token())
            with pytest.raises(ToolError, match="no token that this cluster has made"):
                await RunnerSandbox(http, here.url, here.token).run("1", 5.0)
            (tmp_path / "keys" / "jwks.json").write_text(after.keys())
            assert (await RunnerSandbox(http, here.url, here.token).run("1", 5.0)).output == "1\n"


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({"code": "1" * (256 * 1024 + 1), "seconds": 5}, 400),
        ({"code": "1", "seconds": 0}, 400),
        ({"code": "1", "seconds": 1e9}, 400),
        ({"code": "1"}, 400),
        ({"code": "1", "seconds": 5, "more": 1}, 400),
        ({"code": "x" * (11 << 20), "seconds": 5}, 413),
    ],
)
async def test_what_is_asked_for_is_bounded(runner: Runner, body: object, status: int) -> None:
    said, sent = {"authorization": f"Bearer {runner.token.read_text()}"}, io.BytesIO(msgspec.json.encode(body))
    async with aiohttp.ClientSession() as http, http.post(f"{runner.url}/run", data=sent, headers=said) as answer:
        assert answer.status == status


async def test_more_code_than_it_takes_is_refused_at_once(tmp_path: Path) -> None:
    with running(tmp_path, "--at-once=1", "--waiting=1") as here:
        async with http_client.session() as http:
            sandbox = RunnerSandbox(http, here.url, here.token)
            asked = [asyncio.create_task(sandbox.run("import time; time.sleep(4)", 30.0)) for _ in range(6)]
            ended = asyncio.as_completed(asked)
            for _, each in zip(range(4), ended, strict=False):
                with pytest.raises(ToolError, match="it was not run; try again"):
                    await each
            assert [(await each).ended for each in ended] == ["done", "done"]


async def test_one_agent_with_much_code_keeps_no_other_from_having_its_own_run(tmp_path: Path) -> None:
    with running(tmp_path, "--at-once=1", "--waiting=8") as here:
        async with http_client.session() as http:
            busy = RunnerSandbox(http, here.url, here.token)
            (tmp_path / "other").write_text(here.cluster.token(account=f"{NAMESPACE}:other"))
            other = RunnerSandbox(http, here.url, tmp_path / "other")
            much = [asyncio.create_task(busy.run("import time; time.sleep(2)", 40.0)) for _ in range(12)]
            refused = asyncio.as_completed(much)
            for _, each in zip(range(7), refused, strict=False):  # one runs, and four wait
                with pytest.raises(ToolError, match="it was not run; try again"):
                    await each
            assert (await other.run("1", 40.0)).output == "1\n"
            assert sum(each.done() for each in much) <= 7 + 2
            for each in much:
                each.cancel()
            await asyncio.gather(*much, return_exceptions=True)
            assert (await busy.run("2", 40.0)).output == "2\n"


async def test_code_that_runs_when_it_is_told_to_end_is_answered(tmp_path: Path) -> None:
    with running(tmp_path) as here:
        async with http_client.session() as http:
            sandbox = RunnerSandbox(http, here.url, here.token)
            code = asyncio.create_task(sandbox.run("open('x', 'w'); import time; time.sleep(5); 42", 30.0))
            await until(lambda: any(here.folder.glob("*/x")))
            os.kill(here.pid, signal.SIGTERM)
            assert await code == Ran("42\n", "done")
            await until(lambda: Path(f"/proc/{here.pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z")


async def test_a_runner_that_is_away_is_told_with_who_acts(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("x")
    (port,) = free_ports(1)
    async with http_client.session() as http:
        toolset = CodeToolset(
            CodeTool(name="python"), RunnerSandbox(http, f"http://127.0.0.1:{port}", tmp_path / "token")
        )
        with pytest.raises(ToolError, match="whoever runs the cluster sees why by `kubectl get pods"):
            await toolset.specs()
        with pytest.raises(ToolError, match="kubectl logs deployment/kagent-code-runner"):
            await toolset.call("python", {"code": "1"}, CONTEXT)


async def test_a_tool_is_offered_once_its_runner_answers(sandbox: RunnerSandbox) -> None:
    (spec,) = await CodeToolset(CodeTool(name="python"), sandbox).specs()
    assert (spec.name, spec.runs_code) == ("python", True)


def test_without_landlock_it_serves_nobody_unless_it_is_told_to(tmp_path: Path) -> None:
    (tmp_path / "without").mkdir()
    with pytest.raises(AssertionError, match=r"this kernel has no Landlock.*--without-landlock"):  # noqa: SIM117
        with running(tmp_path / "without", start=WITHOUT_LANDLOCK):
            pass
    (tmp_path / "told").mkdir()
    with running(tmp_path / "told", "--without-landlock", start=WITHOUT_LANDLOCK) as here:
        body = msgspec.json.encode(Asked("6 * 7, open('/etc/passwd').read(4)", 5.0))
        said = {"authorization": f"Bearer {here.token.read_text()}"}
        with urllib.request.urlopen(urllib.request.Request(f"{here.url}/run", body, said), timeout=20) as answer:
            assert msgspec.json.decode(answer.read(), type=Ran) == Ran("(42, 'root')\n", "done")


KILL = """
import fcntl, os, signal, socket
for end in (socket.socket(fileno=os.dup(1)), *socket.socketpair()):
    for asked in (0x8901, 0x8902):  # FIOSETOWN, SIOCSPGRP
        try:
            fcntl.ioctl(end, asked, os.getppid().to_bytes(4, "little"))
        except PermissionError:
            continue
        fcntl.fcntl(end, 10, signal.SIGKILL)  # F_SETSIG
        fcntl.fcntl(end, fcntl.F_SETFL, os.O_ASYNC | os.O_NONBLOCK)
print("refused")
"""


async def test_code_cannot_have_the_kernel_signal_others_where_landlock_does_not_keep_signals_in(
    tmp_path: Path,
) -> None:
    with running(tmp_path, "--without-landlock", start=WITHOUT_LANDLOCK) as here:
        async with http_client.session() as http:
            sandbox = RunnerSandbox(http, here.url, here.token)
            assert await sandbox.run(KILL, 20.0) == Ran("refused\n", "done")
            assert await sandbox.run("1", 20.0) == Ran("1\n", "done")


def test_what_a_process_before_has_left_is_cleared_away(tmp_path: Path) -> None:
    (tmp_path / "left").mkdir()
    (tmp_path / "left" / "x").write_text("x")
    fenced.clear(tmp_path)
    assert list(tmp_path.iterdir()) == []


async def test_a_folder_that_is_none_ends_the_command(tmp_path: Path) -> None:
    done = await kadre("code-runner", "--namespace=team", f"--keys={tmp_path}", f"--folder={tmp_path / 'none'}")
    assert (done.code, "none" in done.err) == (1, True)
