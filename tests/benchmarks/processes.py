"""Starts processes, ends them, and reads what the kernel says of them."""

import contextlib
import http.client
import os
import pathlib
import signal
import socket
import subprocess
import sys
import time
import urllib.parse

from tests.benchmarks.scenarios import QUIET, TICKS


class Processes:
    """Starts processes and ends them again, each by its own pid."""

    def __init__(self, folder):
        self.folder, self.started = folder, []

    def start(self, name, command, core=None, env=None):
        if core is not None:
            command = ["taskset", "-c", core, *command]
        log = open(self.folder / f"{name}.log", "wb")
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            cwd=self.folder,
            env={**os.environ, **(env or {})},
            start_new_session=True,
        )
        log.close()
        self.started.append(process)
        return process

    def log_tail(self, name, size=600):
        return (self.folder / f"{name}.log").read_bytes()[-size:].decode("utf-8", "replace").strip()

    def end_all(self):
        """TERM to all, then KILL to what is left of each tree after five seconds."""
        trees = [tree_of(p.pid) for p in self.started if p.poll() is None]
        running = [p for p in self.started if p.poll() is None]
        for process in running:
            process.terminate()
        deadline = time.monotonic() + 5
        for process in running:
            try:
                process.wait(max(0.1, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait(5)
        for pid, born in {item for tree in trees for item in tree}:
            if (pid, born) in all_processes():
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)


def read_stat(pid):
    """The fields of /proc/PID/stat from the state on, or None if the process is gone."""
    try:
        return pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None


def all_processes():
    """{(pid, start time): fields}"""
    found = {int(p): read_stat(p) for p in os.listdir("/proc") if p.isdigit()}
    return {(pid, stat[19]): stat for pid, stat in found.items() if stat}


def tree_of(root):
    """(pid, start time) of a process and all that descend from it."""
    children, processes = {}, all_processes()
    for (pid, born), stat in processes.items():
        children.setdefault(int(stat[1]), []).append((pid, born))
    tree = [key for key in processes if key[0] == root]
    for pid, _ in tree:
        tree.extend(children.get(pid, []))
    return tree


def cpu_seconds(root):
    """User and system time of a process tree, with children that it has waited for."""
    stats = [read_stat(pid) for pid, _ in tree_of(root)]
    return sum(sum(int(stat[i]) for i in (11, 12, 13, 14)) for stat in stats if stat) / TICKS


def rss_mb(root):
    pages = [int(stat[21]) for pid, _ in tree_of(root) if (stat := read_stat(pid))]
    return sum(pages) * os.sysconf("SC_PAGE_SIZE") / 1e6


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def ask(url, method="GET", body=None, headers=(), timeout=10):
    """(status, body) of one request; status 0 and the error if there is no answer."""
    parts = urllib.parse.urlsplit(url)
    connection = http.client.HTTPConnection(parts.hostname, parts.port, timeout=timeout)
    try:
        connection.request(
            method,
            parts.path + ("?" + parts.query if parts.query else ""),
            body,
            {"content-type": "application/json", **dict(h.split(": ", 1) for h in headers)},
        )
        answer = connection.getresponse()
        return answer.status, answer.read()
    except (OSError, http.client.HTTPException) as error:
        return 0, repr(error).encode()
    finally:
        connection.close()


def wait_ready(url, process, seconds, headers):
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline and (process is None or process.poll() is None):
        if ask(url, headers=headers, timeout=2)[0] == 200:
            return True
        time.sleep(0.1)
    return False


def control_upstreams(upstreams, settings):
    query = urllib.parse.urlencode({**QUIET, **settings})
    for url in upstreams:
        status, body = ask(f"{url}/control?{query}", "POST")
        if status != 200:
            sys.exit(f"bench: the upstream at {url} does not answer: {body!r}")
