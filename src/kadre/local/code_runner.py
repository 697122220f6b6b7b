"""Runs one piece of Python that nobody has read: `code_runner.py SECONDS [HOW [READABLE...]]`, the code on stdin.

The process first takes from itself what code does not need: it is bounded in memory, time and the size of files, and
the kernel refuses it new processes, other programs, sockets and a hand on other processes, for good. What it may read
is said by HOW: `--walled`, whoever starts it has given it a file system of its own; `--fenced`, it keeps itself from
every file but those below READABLE and below its working folder, alone of which it may write; `--open`, on a system
that has none of this; without a word everything that its user may.

Run by path, and imports nothing of Kadre: what the code sees is Python.
"""

from __future__ import annotations

import ast
import builtins
import contextlib
import ctypes
import linecache
import os
import platform
import resource
import struct
import sys
import traceback
from collections.abc import Sequence

MEMORY = 512 << 20
"""Bytes of address space."""
FILE_SIZE = 16 << 20
"""Bytes of one file."""
OPEN_FILES = 64
SPACE = 64 << 20
"""Bytes of all files that code writes."""
FILES = 4096
NAME = "code"
# From linux/prctl.h, linux/capability.h and linux/mount.h.
_DROP_BOUND, _AMBIENT, _CLEAR_ALL, _CAPABILITIES = 24, 47, 4, 0x20080522
_NO_SUID, _NO_DEVICES = 2, 4

# From linux/audit.h, and the tables of system calls: those that begin processes or threads, run programs, speak to a
# network or to other processes, hold memory that is nobody's, or reach parts of the kernel that code has no need of.
_ARCHITECTURES = {
    "x86_64": (
        0xC000003E,
        435,
        (
            *(56, 57, 58, 59, 322),  # clone, fork, vfork, execve, execveat
            *(41, 62, 200, 129, 297),  # socket, and signals to whom one likes
            *(42, 43, 49, 50, 288),  # connect, accept, bind, listen: two ends of a pair have each other
            *(101, 310, 311, 424, 434, 438, 312, 440, 448),  # ptrace, others' memory, pidfds, kcmp
            *(141, 142, 144, 203, 314, 251, 256, 279),  # priorities, processors and pages, others' too
            *(29, 30, 31, 64, 68, 240, 319, 447),  # shared memory, semaphores, message queues, memory files
            *(165, 166, 155, 161, 272, 308, 428, 429, 430, 442),  # mount and its kin, pivot_root, chroot, namespaces
            *(76, 254, 294, 253, 300),  # truncate by name, inotify, fanotify: not all kernels fence these
            *(126, 248, 249, 250, 298, 321, 323, 425, 426, 427),  # capabilities, keys, perf, bpf, userfaultfd, io_uring
        ),
        (234, 302, 72, 16, 53),
    ),
    "aarch64": (
        0xC00000B7,
        435,
        (
            *(220, 221, 281),
            *(198, 129, 130, 138, 240),
            *(203, 202, 200, 201, 242),
            *(117, 270, 271, 424, 434, 438, 272, 440, 448),
            *(140, 118, 119, 122, 274, 30, 238, 239),
            *(194, 195, 196, 190, 186, 180, 279, 447),
            *(40, 39, 41, 51, 97, 268, 428, 429, 430, 442),
            *(45, 26, 27, 262),
            *(91, 217, 218, 219, 241, 280, 282, 425, 426, 427),
        ),
        (131, 261, 25, 29, 199),
    ),
}
"""By machine: the kernel's number for it, that of clone3, those of the calls that are refused, and those of tgkill,
prlimit64, fcntl, ioctl and socketpair, which are refused for some arguments."""
_ATTRIBUTES = {
    "x86_64": (90, 268, 452, 92, 94, 260, 132, 235, 261, 280, 188, 189, 197, 198, 463, 466, 469),
    "aarch64": (53, 452, 54, 88, 5, 6, 14, 15, 463, 466, 469),
}
"""Those that change whose a file is, its mode, times and attributes by its name: Landlock minds none of them."""
_TO_OTHERS = (8, 15)
"""What fcntl has signals sent to whom one likes by: F_SETOWN, F_SETOWN_EX."""
_TO_OTHERS_BY_SOCKETS = (0x8901, 0x8902)
"""What ioctl does by: FIOSETOWN, SIOCSPGRP. What code prints to may be a socket."""
_UNIX, _STREAMS = (1,), (0x1, 0x801, 0x80001, 0x80801)
"""Pairs of sockets that code may have, as asyncio does: AF_UNIX, SOCK_STREAM, also with SOCK_NONBLOCK and SOCK_CLOEXEC.
A datagram's sender can name whom it is for."""
_ALLOW, _REFUSE, _NO_SUCH_CALL = 0x7FFF0000, 0x00050001, 0x00050026
_ON = 0
"""Neither of them: what follows decides."""
_LOAD, _EQUAL, _AT_LEAST, _RETURN = 0x20, 0x15, 0x35, 0x06
_NUMBER, _ARCHITECTURE, _ARGUMENTS = 0, 4, 16
"""Where in what a filter is given they are: struct seccomp_data."""
# From linux/landlock.h, which has the same calls on every machine.
_CREATE_RULESET, _ADD_RULE, _RESTRICT_SELF, _BENEATH = 444, 445, 446, 1
_WRITE_FILE, _READ_FILE, _READ_DIR, _REMOVE_FILE, _MAKE_FILE = 1 << 1, 1 << 2, 1 << 3, 1 << 5, 1 << 8
_TRUNCATE = 1 << 14
_FILES = {1: (1 << 13) - 1, 2: (1 << 14) - 1, 3: (1 << 15) - 1, 5: (1 << 16) - 1}
"""By the version from which it knows them: all that it can keep from files."""
_NETWORK, _SCOPED = (4, 3), (6, 3)
"""The version from which it knows them, and all that it can keep from ports, and from processes outside."""
_DUMPABLE = 4


class _Program(ctypes.Structure):
    _fields_ = (("length", ctypes.c_ushort), ("filter", ctypes.c_char_p))


def limit(seconds: float) -> None:
    """Bound this process, for good."""
    bounds = {
        resource.RLIMIT_AS: MEMORY,
        resource.RLIMIT_FSIZE: FILE_SIZE,
        resource.RLIMIT_NOFILE: OPEN_FILES,
        resource.RLIMIT_CORE: 0,
        resource.RLIMIT_CPU: int(seconds) + 1,
    }
    for kind, bound in bounds.items():
        _, hard = resource.getrlimit(kind)
        least = bound if hard == resource.RLIM_INFINITY else min(bound, hard)
        with contextlib.suppress(OSError, ValueError):
            resource.setrlimit(kind, (least, least))


def program(machine: str, pid: int, *, fenced: bool = False) -> bytes:
    """The kernel's filter of system calls, as BPF. Raises KeyError for a machine whose calls are not known.

    `pid`: of the process, the only one that it may signal and bound; `fenced`: whether files of others are in reach.
    """
    architecture, clone3, refused, (tgkill, prlimit, fcntl, ioctl, socketpair) = _ARCHITECTURES[machine]
    refused += _ATTRIBUTES[machine] if fenced else ()
    steps = [
        (_LOAD, 0, 0, _ARCHITECTURE),
        (_EQUAL, 1, 0, architecture),
        (_RETURN, 0, 0, _REFUSE),
        (_LOAD, 0, 0, _NUMBER),
    ]
    for kind, number, answer in (
        (_AT_LEAST, 0x40000000, _REFUSE),  # the same calls by other numbers
        (_EQUAL, clone3, _NO_SUCH_CALL),  # libraries then use clone, and say what came of that
        *((_EQUAL, number, _REFUSE) for number in refused),
    ):
        steps += [(kind, 0, 1, number), (_RETURN, 0, 0, answer)]
    for number, argument, values, answer, other in (
        (tgkill, 0, (pid,), _ALLOW, _REFUSE),  # abort() is one
        (prlimit, 0, (0, pid), _ALLOW, _REFUSE),
        (fcntl, 1, _TO_OTHERS, _REFUSE, _ALLOW),
        (ioctl, 1, _TO_OTHERS_BY_SOCKETS, _REFUSE, _ALLOW),
        (socketpair, 0, _UNIX, _ON, _REFUSE),
        (socketpair, 1, _STREAMS, _ALLOW, _REFUSE),
    ):
        steps += _by_argument(number, argument, values, answer, other)
    steps.append((_RETURN, 0, 0, _ALLOW))
    return b"".join(struct.pack("HBBI", *step) for step in steps)


def _by_argument(
    number: int, argument: int, values: Sequence[int], answer: int, other: int
) -> list[tuple[int, int, int, int]]:
    """Of one call: `answer` where an argument is one of the values, else `other`."""
    looked = [(_LOAD, 0, 0, _ARGUMENTS + 8 * argument)]
    looked += [(_EQUAL, len(values) - place, 0, value) for place, value in enumerate(values)]
    looked.append((_RETURN, 0, 0, other))
    if answer != _ON:
        looked.append((_RETURN, 0, 0, answer))
    return [(_LOAD, 0, 0, _NUMBER), (_EQUAL, 0, len(looked), number), *looked]


def furnish() -> None:
    """Give the process a folder to write to, bounded in bytes and in files, where it is behind walls.

    Bounds of files can be told to the kernel alone, by who mounts: it is the last thing done with that right.
    """
    kernel = ctypes.CDLL(None, use_errno=True)
    options = f"size={SPACE},nr_inodes={FILES},mode=700".encode()
    if kernel.mount(b"tmpfs", b"/tmp", b"tmpfs", _NO_SUID | _NO_DEVICES, options):
        raise OSError(ctypes.get_errno(), "no folder can be made to write to")
    os.chdir("/tmp")  # noqa: S108
    for right in range(64):
        if kernel.prctl(_DROP_BOUND, right, 0, 0, 0):
            break  # the kernel has no more
    kernel.prctl(_AMBIENT, _CLEAR_ALL, 0, 0, 0)
    header, none = (ctypes.c_uint32 * 2)(_CAPABILITIES, 0), (ctypes.c_uint32 * 6)()
    if kernel.capset(header, none):
        raise OSError(ctypes.get_errno(), "the right to mount cannot be given up")


def fences() -> int:
    """The version of Landlock that this kernel has; 0: none."""
    if sys.platform != "linux":
        return 0
    kernel = ctypes.CDLL(None, use_errno=True)
    version: int = kernel.syscall(_CREATE_RULESET, None, ctypes.c_size_t(0), ctypes.c_uint32(1))
    return max(0, version)


def fence(readable: Sequence[str]) -> None:
    """Keep this process, for good, from all files but those below `readable` and below its working folder.

    There alone it may write, and make files: no folders, so that who clears up after it finds no depths. Whatever else
    the kernel's Landlock knows is kept from it, too: ports, and processes outside. Raises OSError where it has none.
    """
    version = fences()
    if not version:
        raise OSError("this kernel has no Landlock, or it is switched off")
    kernel = ctypes.CDLL(None, use_errno=True)
    handled = _FILES[max(known for known in _FILES if known <= version)]
    more = [bits for since, bits in (_NETWORK, _SCOPED) if version >= since]
    ruleset = struct.pack(f"={1 + len(more)}Q", handled, *more)
    rules = kernel.syscall(_CREATE_RULESET, ruleset, ctypes.c_size_t(len(ruleset)), ctypes.c_uint32(0))
    _done(rules, "no fence can be made")
    own = _READ_FILE | _READ_DIR | _WRITE_FILE | _REMOVE_FILE | _MAKE_FILE | _TRUNCATE
    given = [*((path, _READ_FILE | _READ_DIR) for path in readable), (".", own)]
    given += [(os.devnull, _READ_FILE | _WRITE_FILE), ("/dev/urandom", _READ_FILE)]
    for path, rights in given:
        place = os.open(path, os.O_PATH | os.O_CLOEXEC)
        rule = ctypes.create_string_buffer(struct.pack("=Qi", rights & handled, place), 12)
        _done(kernel.syscall(_ADD_RULE, rules, _BENEATH, rule, ctypes.c_uint32(0)), f"{path} cannot be shown")
        os.close(place)
    _done(kernel.prctl(_DUMPABLE, 0, 0, 0, 0), "others of its user may look into it")
    _done(kernel.prctl(38, 1, 0, 0, 0), "new privileges cannot be given up")
    _done(kernel.syscall(_RESTRICT_SELF, rules, ctypes.c_uint32(0)), "the fence cannot be put up")
    os.close(rules)


def _done(answer: int, trouble: str) -> None:
    if answer < 0:
        raise OSError(ctypes.get_errno(), trouble)


def shut(*, fenced: bool = False) -> None:
    """Have the kernel refuse what code has no need of. Raises OSError where it cannot."""
    if sys.platform != "linux":
        raise OSError(f"there is no such filter on {sys.platform}")
    if platform.machine() not in _ARCHITECTURES:
        raise OSError(f"the calls of a {platform.machine()} are not known")
    kernel = ctypes.CDLL(None, use_errno=True)
    steps = program(platform.machine(), os.getpid(), fenced=fenced)
    filtered = _Program(len(steps) // 8, steps)
    for call in ((38, 1, 0, 0, 0), (22, 2, ctypes.byref(filtered), 0, 0)):  # no new privileges; the filter
        if kernel.prctl(*call):
            raise OSError(ctypes.get_errno(), "the kernel takes no filter of system calls")


def run(source: str) -> int:
    """Run it as the main module; the value of a last expression is printed. The exit code."""
    linecache.cache[NAME] = (len(source), None, source.splitlines(keepends=True), NAME)
    inside = {"__name__": "__main__", "__builtins__": builtins}
    try:
        tree = ast.parse(source, NAME)
        last = tree.body.pop() if tree.body and isinstance(tree.body[-1], ast.Expr) else None
        exec(compile(tree, NAME, "exec"), inside)  # noqa: S102 - it is what this is for
        if isinstance(last, ast.Expr):
            value = eval(compile(ast.Expression(last.value), NAME, "eval"), inside)  # noqa: S307
            if value is not None:
                sys.stdout.write(f"{value!r}\n")
    except SystemExit as error:
        if isinstance(error.code, str):
            sys.stdout.write(f"{error.code}\n")
        return 0 if error.code in {None, 0} else 1
    except BaseException as error:  # noqa: BLE001 - whatever it is, its author is told
        _tell(error)
        return 1
    return 0


def _tell(error: BaseException) -> None:
    """As Python would, without this file's own lines."""
    frames = error.__traceback__
    while frames is not None and frames.tb_frame.f_code.co_filename != NAME:
        frames = frames.tb_next
    sys.stdout.write("".join(traceback.format_exception(type(error), error.with_traceback(frames), frames)))


def main() -> None:
    """Run what is on stdin."""
    source = sys.stdin.buffer.read().decode(errors="replace")
    sys.stdin.close()
    sys.stdin = open("/dev/null")  # noqa: SIM115, PTH123 - for as long as the process lives
    limit(float(sys.argv[1]))
    how = sys.argv[2] if len(sys.argv) > 2 else ""
    if how == "--walled":
        furnish()
    if how == "--fenced":
        fence(sys.argv[3:])
    if how != "--open":
        shut(fenced=how == "--fenced")
    code = run(source)
    with contextlib.suppress(BaseException):
        sys.stdout.flush()
    sys.exit(code)


if __name__ == "__main__":
    main()
