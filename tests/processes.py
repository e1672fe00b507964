"""Programs as processes of their own, for tests that drive them from outside."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import time
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@contextmanager
def process(command: Sequence[str], log: Path, env: Mapping[str, str] | None = None) -> Iterator[subprocess.Popen[bytes]]:
    """A process with a session of its own; at the end the whole session is ended."""
    with log.open("wb") as out:
        whole = {**os.environ, **(env or {})}
        started = subprocess.Popen(command, stdout=out, stderr=subprocess.STDOUT, env=whole, start_new_session=True)
    try:
        yield started
    finally:
        for number in (signal.SIGTERM, signal.SIGKILL):
            try:
                os.killpg(started.pid, number)
                started.wait(15)
            except (ProcessLookupError, subprocess.TimeoutExpired):
                continue


def wait_until_ready(url: str, started: subprocess.Popen[bytes], log: Path, seconds: float = 30) -> None:
    """Returns when the URL answers 200. Raises RuntimeError, with the end of the log, if it does not."""
    end = time.monotonic() + seconds
    while time.monotonic() < end and started.poll() is None:
        try:
            with urllib.request.urlopen(url, timeout=2) as response:
                if response.status == 200:
                    return
        except OSError:
            time.sleep(0.2)
    raise RuntimeError(f"nothing answers at {url}:\n{log.read_text(errors='replace')[-3000:]}")
