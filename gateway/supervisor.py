"""Several worker processes that share one port: started, started again when they die, reloaded and ended together."""

from __future__ import annotations

import contextlib
import os
import selectors
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from prometheus_client.multiprocess import mark_process_dead

from gateway.listening import listen
from gateway.workers import READY, RELOADED

WRONG_INPUT = 2
MOST_DEATHS = 5
WITHIN_SECONDS = 30.0
LONGEST_PAUSE = 8.0
ENDING = (signal.SIGTERM, signal.SIGINT)


class Deaths:
    """How soon a worker is started again: at once after the first death, later and later after more of them.

    `most` deaths `within` so many seconds are a loop, and nothing is gained by another start.
    """

    def __init__(self, most: int = MOST_DEATHS, within: float = WITHIN_SECONDS) -> None:
        self.most = most
        self.within = within
        self._times: deque[float] = deque()

    def add(self, now: float) -> float | None:
        """A worker died. Returns the pause before the next start, in seconds; None if this is a loop."""
        while self._times and now - self._times[0] >= self.within:
            self._times.popleft()
        self._times.append(now)
        earlier = len(self._times) - 1
        if earlier + 1 >= self.most:
            return None
        return min(LONGEST_PAUSE, 0.5 * 2 ** (earlier - 1)) if earlier else 0.0


class Worker:
    """A process, and the supervisor's end of its leash. `ready`: its signals are in order. `reload`: it is owed one."""

    def __init__(self, process: subprocess.Popen[bytes], channel: socket.socket) -> None:
        self.process = process
        self.channel = channel
        self.ready = False
        self.reload = False
        channel.setblocking(False)

    def signal(self, number: signal.Signals) -> None:
        if self.process.poll() is None:
            self.process.send_signal(number)

    def hang_up(self) -> None:
        """Has it read the configuration, as soon as it can hear of that."""
        if self.ready:
            self.signal(signal.SIGHUP)
        self.reload = not self.ready

    def words(self) -> bytes:
        """What it has said since the last time."""
        with contextlib.suppress(OSError):
            return self.channel.recv(64)
        return b""


class Supervisor:
    """Keeps `count` workers going. `start`: starts one. `bury`: told the process id of one that is dead. `clock`: monotonic seconds."""

    def __init__(
        self,
        start: Callable[[], Worker],
        count: int,
        bury: Callable[[int], None],
        *,
        deaths: Deaths | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._start = start
        self._count = count
        self._bury = bury
        self._clock = clock
        self._deaths = deaths or Deaths()
        self._workers: list[Worker] = []
        self._due: list[float] = []
        self._ending = False
        self._code = 0

    def run(self) -> int:
        """Returns the exit code when the last worker has ended: 0 if all ended as they were asked to."""
        with _signals() as heard, selectors.DefaultSelector() as selector:
            selector.register(heard, selectors.EVENT_READ)
            self._due = [self._clock()] * self._count
            while self._workers or self._due:
                self._start_those_due(selector)
                for key, _ in selector.select(self._pause()):
                    if key.fileobj is heard:
                        for number in heard.recv(64):
                            self._hear(signal.Signals(number))
                    else:
                        self._listen(key.data, selector)
                self._count_the_dead(selector)
        return self._code

    def _start_those_due(self, selector: selectors.BaseSelector) -> None:
        now = self._clock()
        for due in [due for due in self._due if due <= now]:
            self._due.remove(due)
            worker = self._start()
            self._workers.append(worker)
            selector.register(worker.channel, selectors.EVENT_READ, worker)

    def _pause(self) -> float | None:
        """Seconds until the next start; None if only a signal, a word or a death is waited for."""
        return max(0.0, min(self._due) - self._clock()) if self._due else None

    def _hear(self, number: signal.Signals) -> None:
        if number in ENDING:
            self._end(signal.SIGKILL if self._ending else signal.SIGTERM)
        elif number == signal.SIGHUP:
            for worker in self._workers:
                worker.hang_up()

    def _end(self, number: signal.Signals) -> None:
        if number == signal.SIGKILL:
            self._code = 1
        self._ending = True
        self._due.clear()
        for worker in self._workers:
            worker.signal(number)

    def _listen(self, worker: Worker, selector: selectors.BaseSelector) -> None:
        words = worker.words()
        if not words:  # it is about to end
            selector.unregister(worker.channel)
        if READY in words:
            worker.ready = True
            if worker.reload:
                worker.hang_up()
        if RELOADED in words:
            for other in self._workers:
                if other is not worker:
                    other.hang_up()

    def _count_the_dead(self, selector: selectors.BaseSelector) -> None:
        for worker in [worker for worker in self._workers if worker.process.poll() is not None]:
            self._workers.remove(worker)
            if worker.channel in selector.get_map():
                selector.unregister(worker.channel)
            worker.channel.close()
            self._bury(worker.process.pid)
            self._judge(worker)

    def _judge(self, worker: Worker) -> None:
        """What is done about a worker that has ended."""
        code = worker.process.returncode
        if self._ending:
            was_starting = not worker.ready and code == -signal.SIGTERM
            self._code = self._code or int(code != 0 and not was_starting)
            return
        if code == WRONG_INPUT and self._workers:
            # The configuration file cannot be used now. The others go on with what they read before, and it will be mended.
            pause: float | None = LONGEST_PAUSE
        else:
            pause = self._deaths.add(self._clock())
        if pause is None:
            _say(f"{self._deaths.most} workers died within {self._deaths.within:g} s, the last one with {_how(code)}: giving up")
            self._end(signal.SIGTERM)
            self._code = 1
            return
        _say(f"worker {worker.process.pid} ended with {_how(code)}; another one starts " + (f"in {pause:g} s" if pause else "now"))
        self._due.append(self._clock() + pause)


@contextmanager
def _signals() -> Iterator[socket.socket]:
    """A socket that signals are read from, one byte each; also that of a child's death."""
    heard, wakes = socket.socketpair()
    with heard, wakes:
        heard.setblocking(False)
        wakes.setblocking(False)
        before = signal.set_wakeup_fd(wakes.fileno())
        numbers = (*ENDING, signal.SIGHUP, signal.SIGCHLD)
        handlers = {number: signal.signal(number, lambda *_: None) for number in numbers}
        try:
            yield heard
        finally:
            for number, handler in handlers.items():
                signal.signal(number, handler)
            signal.set_wakeup_fd(before)


def _how(code: int) -> str:
    return f"exit code {code}" if code >= 0 else signal.Signals(-code).name


def _say(text: str) -> None:
    print(f"pointsman: {text}", file=sys.stderr, flush=True)


def run_workers(config: Path, host: str, port: int, workers: int, insecure: bool = False) -> int:
    """Runs that many workers until SIGTERM or SIGINT, which is passed on; a second one kills them. SIGHUP reloads all.

    Returns 0 if all ended as asked, else 1.
    """
    try:
        holder = listen(host, port, share_port=True)  # holds the port (never listens), so that 0 means the same to all workers
    except OSError as error:
        print(f"cannot listen on {host}:{port}: {error.strerror}", file=sys.stderr)
        return 1
    bound = holder.getsockname()[1]
    with holder, tempfile.TemporaryDirectory(prefix="pointsman-metrics-") as metrics:
        command = [sys.executable, "-m", "gateway", "serve", "--config", str(config), "--host", host, "--port", str(bound)]
        command += ["--insecure"] if insecure else []
        env = {**os.environ, "PROMETHEUS_MULTIPROC_DIR": metrics, "POINTSMAN_WORKERS": str(workers)}

        def start() -> Worker:
            ours, theirs = socket.socketpair()
            with theirs:
                leash = ["--leash", str(theirs.fileno())]
                # A group of its own: Ctrl-C reaches the supervisor alone, which passes it on once.
                process = subprocess.Popen([*command, *leash], env=env, pass_fds=[theirs.fileno()], process_group=0)
            return Worker(process, ours)

        _say(f"{workers} workers on http://{host}:{bound}")

        def bury(pid: int) -> None:
            mark_process_dead(pid, metrics)  # type: ignore[no-untyped-call]

        return Supervisor(start, workers, bury).run()
