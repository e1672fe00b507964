"""Several worker processes that share one port, and nothing else."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from types import FrameType

from gateway.server import listen


def run_workers(config: Path, host: str, port: int, workers: int, insecure: bool = False) -> int:
    """Starts the workers and waits for them. SIGTERM and SIGINT are passed on; a worker that ends by itself ends all.

    Returns 0 if all ended as asked, else 1.
    """
    holder = listen(host, port, share_port=True)  # holds the port (never listens), so that 0 means the same to all workers
    bound = holder.getsockname()[1]
    with tempfile.TemporaryDirectory(prefix="pointsman-metrics-") as metrics:
        command = [sys.executable, "-m", "gateway", "serve", "--config", str(config), "--host", host, "--port", str(bound), "--share-port"]
        command += ["--insecure"] if insecure else []
        env = {**os.environ, "PROMETHEUS_MULTIPROC_DIR": metrics, "POINTSMAN_WORKERS": str(workers)}
        processes = [subprocess.Popen(command, env=env) for _ in range(workers)]
        asked = False

        def pass_on(number: int, _: FrameType | None) -> None:
            nonlocal asked
            asked = True
            _signal_all(processes, signal.Signals(number))

        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, pass_on)
        _wait_for_any(processes)
        _signal_all(processes, signal.SIGTERM)
        codes = [process.wait() for process in processes]
    holder.close()
    return 0 if asked and not any(codes) else 1


def _wait_for_any(processes: list[subprocess.Popen[bytes]]) -> None:
    while all(process.poll() is None for process in processes):
        time.sleep(0.2)


def _signal_all(processes: list[subprocess.Popen[bytes]], number: signal.Signals) -> None:
    for process in processes:
        if process.poll() is None:
            process.send_signal(number)
