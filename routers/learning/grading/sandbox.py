"""Runs foreign Python code in a process of its own: no network, no environment, no files of others, bounded in time and memory."""

from __future__ import annotations

import json
import os
import secrets
import signal
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

CHILD = Path(__file__).with_name("sandbox_child.py")
START_SECONDS = 20.0
"""Time for the process to start and lock itself in, on a busy machine; beside the code's own time."""


class SandboxUnavailable(Exception):
    """This machine cannot run foreign code safely, and none was run."""


@dataclass(frozen=True, slots=True)
class Limits:
    """`seconds`: of the processor; the clock may take twice that, since machines are shared. `memory_bytes`: address space.

    `file_bytes`: largest file that it may write. `namespaces`: use them where the kernel permits it. Without them root alone can run
    code: as a user that owns nothing, with a filter of system calls that keeps the network away.
    """

    seconds: float = 10.0
    memory_bytes: int = 512 * 1024 * 1024
    file_bytes: int = 4 * 1024 * 1024
    namespaces: bool = True

    @property
    def clock_seconds(self) -> float:
        return 2 * self.seconds


def passes(code: str, tests: Sequence[str], limits: Limits | None = None) -> bool:
    """Whether every test runs without an exception after the code, in one namespace. Blocks for up to the time limit and the start.

    Against mistakes and mischief, not against an answer that sets out to fake its own verdict: it shares a process with its tests.
    Raises SandboxUnavailable.
    """
    limits = limits or Limits()
    if sys.platform != "linux":
        raise SandboxUnavailable("code can be run on Linux alone")
    nonce = secrets.token_hex(16)
    reader, writer = os.pipe()
    try:
        with tempfile.TemporaryDirectory(prefix="pointsman-code-", ignore_cleanup_errors=True) as folder:
            order = _order(code, tests, limits, nonce, folder)
            try:
                _run(order, writer, folder, limits.clock_seconds + START_SECONDS)
            finally:
                os.close(writer)
        said = os.read(reader, 4096).decode(errors="replace")
    finally:
        os.close(reader)
    if said.startswith("unsafe "):
        raise SandboxUnavailable(said.removeprefix("unsafe "))
    return said == nonce


def _order(code: str, tests: Sequence[str], limits: Limits, nonce: str, folder: str) -> bytes:
    order = {
        "code": code,
        "tests": list(tests),
        "nonce": nonce,
        "folder": folder,
        "number": secrets.randbelow(10**9),
        "seconds": limits.clock_seconds,
        "cpu_seconds": max(1, round(limits.seconds)),
        "memory_bytes": limits.memory_bytes,
        "file_bytes": limits.file_bytes,
        "namespaces": limits.namespaces,
    }
    return json.dumps(order).encode()


def _run(order: bytes, verdict: int, folder: str, seconds: float) -> None:
    command = [sys.executable, "-I", "-S", "-B", str(CHILD), str(verdict)]
    process = subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env={},
        cwd=folder,
        pass_fds=(verdict,),
        start_new_session=True,
    )
    try:
        process.communicate(order, timeout=seconds)
    except subprocess.TimeoutExpired:
        pass
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
