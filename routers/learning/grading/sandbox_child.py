"""The program that runs foreign code: started as `python -I -S sandbox_child.py FD`, alone, never imported by anything.

It reads one JSON order from stdin, gives up what it may do, runs the code and its tests, and writes one line to the file descriptor FD:
the order's nonce if every test passed, `unsafe …` if it could not lock itself in (then nothing was run), nothing in any other case.
Linux only. (namespaces(7), seccomp(2), setrlimit(2), mount_setattr(2))
"""

from __future__ import annotations

import contextlib
import ctypes
import importlib
import json
import os
import platform
import resource
import signal
import struct
import sys
import time
from typing import Any

# The interpreter may live where only its owner can read; what code may import is therefore loaded before the owner's rights are dropped.
READY = (
    "abc array ast base64 bisect calendar cmath collections collections.abc copy csv dataclasses datetime decimal enum fractions functools "
    "hashlib heapq inspect io itertools json keyword linecache locale math numbers operator pprint queue random re statistics string "
    "textwrap threading time tokenize traceback types typing unicodedata zoneinfo"
).split()
CODECS = ("utf-8", "ascii", "latin-1", "utf-16", "idna")
FIRST_UID = 1_000_000_000
NEWNS, NEWIPC, NEWUSER, NEWPID, NEWNET = 0x20000, 0x8000000, 0x10000000, 0x20000000, 0x40000000
PRIVATE, NO_SETUID = 0x4000 | 0x40000, 2 | 4 | 8
PDEATHSIG, NO_NEW_PRIVS, SECCOMP = 1, 38, 22
MOUNT_SETATTR, RECURSIVE, HERE = 442, 0x8000, -100
# What nobody needs to sort a list: sockets, io_uring (which opens sockets too), signals and memory of other processes.
DENIED = {
    "x86_64": (0xC000003E, (41, 53, 62, 101, 129, 200, 234, 297, 310, 311, 424, 425, 434, 438)),
    "aarch64": (0xC00000B7, (117, 129, 130, 131, 138, 198, 199, 240, 270, 271, 424, 425, 434, 438)),
}


class Unsafe(Exception):
    """Some wall of the sandbox cannot be put up."""


def main(verdict: int) -> None:
    """Does what stdin orders. `verdict`: the file descriptor for the one line."""
    order = json.loads(sys.stdin.buffer.read())
    libc = ctypes.CDLL(None, use_errno=True)
    libc.prctl(PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    for name in READY:
        importlib.import_module(name)
    for codec in CODECS:
        "a".encode(codec)
    spaces = order["namespaces"] and _new_spaces(libc, order["folder"])
    child = os.fork()
    if child:
        _wait(child, order["seconds"])
    else:
        _work(order, libc, verdict, spaces)


def _wait(child: int, seconds: float) -> None:
    """Ends the child when its time is over; with it, everything in its namespace ends."""
    end = time.monotonic() + seconds
    while os.waitpid(child, os.WNOHANG) == (0, 0):
        if time.monotonic() > end:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
            break
        time.sleep(0.005)
    os._exit(0)


def _work(order: dict[str, Any], libc: Any, verdict: int, spaces: bool) -> None:
    try:
        _lock(order, libc, spaces)
    except (Unsafe, OSError, ValueError) as error:
        os.write(verdict, f"unsafe {error}".encode())
        os._exit(1)
    names: dict[str, Any] = {"__name__": "answer"}
    try:
        for number, text in enumerate([order["code"], *order["tests"]]):
            exec(compile(text, f"<part {number}>", "exec"), names)
    except BaseException:
        os._exit(1)
        raise
    os.write(verdict, order["nonce"].encode())
    os._exit(0)


def _new_spaces(libc: Any, folder: str) -> bool:
    """Namespaces of its own: no network, no other process in sight, a file system that can be read only, a small folder in memory."""
    root = os.geteuid() == 0
    uid, gid = os.geteuid(), os.getegid()
    if libc.unshare(NEWNS | NEWIPC | NEWPID | NEWNET | (0 if root else NEWUSER)):
        return False
    if not root:
        for name, text in (("setgroups", "deny"), ("uid_map", f"{uid} {uid} 1"), ("gid_map", f"{gid} {gid} 1")):
            with open(f"/proc/self/{name}", "w") as file:
                file.write(text)
    libc.mount(None, b"/", None, PRIVATE, None)
    attributes = ctypes.create_string_buffer(struct.pack("QQQQ", 1, 0, 0, 0))
    read_only: int = libc.syscall(MOUNT_SETATTR, HERE, b"/", RECURSIVE, attributes, 32)
    libc.mount(b"tmpfs", b"/proc", b"tmpfs", NO_SETUID | 1, b"size=4k")  # other processes' environments are to be read there
    libc.mount(b"tmpfs", folder.encode(), b"tmpfs", NO_SETUID, b"size=16m,mode=777")
    return read_only == 0


def _lock(order: dict[str, Any], libc: Any, spaces: bool) -> None:
    """Gives up everything that code does not need. Raises Unsafe, OSError or ValueError."""
    os.chdir(order["folder"])
    bounds = (
        (resource.RLIMIT_CPU, order["cpu_seconds"]),
        (resource.RLIMIT_AS, order["memory_bytes"]),
        (resource.RLIMIT_FSIZE, order["file_bytes"]),
        (resource.RLIMIT_NOFILE, 32),
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_NPROC, 1),
    )
    for what, bound in bounds:
        resource.setrlimit(what, (bound, bound))
    if os.geteuid() == 0:
        # The kernel counts no processes of root, and root may read and write every file: it becomes a user that nobody else is.
        uid = FIRST_UID + int(order["number"])
        os.chown(order["folder"], uid, uid) if not spaces else None
        os.setgroups([])
        os.setresgid(uid, uid, uid)
        os.setresuid(uid, uid, uid)
    elif not spaces:
        raise Unsafe("namespaces are not permitted to this user, whose own files could not be kept from it")
    libc.prctl(PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if libc.prctl(NO_NEW_PRIVS, 1, 0, 0, 0):
        raise Unsafe("new rights cannot be refused")
    if not _filter(libc) and not spaces:
        raise Unsafe("neither namespaces nor seccomp are permitted here, so the network cannot be kept away")
    os.environ.clear()
    with contextlib.suppress(OSError):
        os.closerange(0, 1)


def _filter(libc: Any) -> bool:
    """Denies the system calls in DENIED, for this process and all that may come from it. False where that is not possible."""
    if platform.machine() not in DENIED:
        return False
    architecture, calls = DENIED[platform.machine()]
    size = len(calls)
    steps = [(0x20, 0, 0, 4), (0x15, 0, size + 3, architecture), (0x20, 0, 0, 0), (0x35, size + 1, 0, 0x40000000)]
    steps += [(0x15, size - place, 0, call) for place, call in enumerate(calls)]
    steps += [(0x06, 0, 0, 0x7FFF0000), (0x06, 0, 0, 0x00050001)]  # else allow; denied: EPERM
    code = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *step) for step in steps))
    program = struct.pack("HxxxxxxP", len(steps), ctypes.addressof(code))
    refused: int = libc.prctl(SECCOMP, 2, ctypes.c_char_p(program), 0, 0)
    return refused == 0


if __name__ == "__main__":
    main(int(sys.argv[1]))
