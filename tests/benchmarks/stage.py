"""A whole gateway made for one point of a measurement, the servers behind it, and what each process took meanwhile."""

import contextlib
import hashlib
import json
import os
import pathlib
import resource
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass

from tests.benchmarks.processes import Processes, control_upstreams, cpu_seconds, free_port, read_stat, rss_mb, tree_of, wait_ready
from tests.benchmarks.scenarios import CHAT, HERE, MARK, TICKS

REPO = HERE.parent.parent
PLACES = 700
"""Streams that one server is meant for: the gateway opens 1,024 connections to a URL at most, and others want some of them."""


SETTLE_SECONDS = 1.1
"""A keys file that is younger than a second when the gateway first looks at it is read once more, which takes long with many keys."""


def machine_seconds():
    """What all processes together had, and what a host took away, since the machine started."""
    fields = pathlib.Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:9]
    user, nice, system, _, _, interrupts, soft, stolen = (int(field) for field in fields)
    return (user + nice + system + interrupts + soft + stolen) / TICKS


@dataclass(frozen=True)
class Shape:
    """What a gateway has. `servers`: of the model that is chosen."""

    models: int = 2
    routes: int = 1
    keys: int = 1
    servers: int = 1
    workers: int = 1


def raise_limit():
    """As many open files as the system allows this process and its children; returns how many."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    return most


def key(number):
    """A made-up key; all are of one length."""
    return "pm_bench_" + hashlib.sha256(b"key %d" % number).hexdigest()[:32]


def model(number):
    return f"model-{number:03}"


def route(number):
    return f"route-{number:03}"


def configuration(shape, upstreams, folder):
    """The first model is chosen by cost; every route has all models. The rule has the policy read prompts, so that a new one is decided
    anew. `upstreams`: URLs of each model.
    """
    entries = [{"id": f"k{n}", "name": "bench", "sha256": hashlib.sha256(key(n).encode()).hexdigest()} for n in range(shape.keys)]
    (folder / "keys.yaml").write_text(json.dumps({"keys": entries}))
    models = [
        {
            "name": model(n),
            "backends": [f"{url}/v1" for url in upstreams[n]],
            "price": {"input": 0.05 * (n + 1), "output": 0.1 * (n + 1)},
            "context_window": 1_000_000,
        }
        for n in range(shape.models)
    ]
    names = [one["name"] for one in models]
    rule = {"when": {"keywords": ["pointsman"]}, "prefer": {names[0]: 1.0}}
    scorers = [{"type": "cost", "weight": 0.4}, {"type": "rules", "rules": [rule], "weight": 0.1}]
    policy = {"scorers": scorers, "picker": {"type": "best"}, "planner": {"type": "single"}}
    return {
        "models": models,
        "routes": [{"name": route(n), "models": names, "policy": policy, "default": names[0]} for n in range(shape.routes)],
        "auth": {"keys": str(folder / "keys.yaml")},
        "ledger": {"path": str(folder / "ledger.jsonl")},
    }


class Stage:
    """`cores`: of load and servers, and of the gateway; None where nothing is pinned. `more`: sections of the configuration.

    `patience`: seconds that the gateway may take to start.
    """

    def __init__(self, shape, binaries, cores=(None, None), more=None, patience=300):
        self.shape, self.binaries, self.cores, self.more, self.patience = shape, binaries, cores, more or {}, patience
        self._exits = contextlib.ExitStack()

    def __enter__(self):
        self.folder = pathlib.Path(self._exits.enter_context(tempfile.TemporaryDirectory(prefix="pointsman-stage-")))
        self.processes = Processes(self.folder)
        self._exits.callback(self.processes.end_all)
        try:
            self._start()
        except BaseException:
            self._exits.close()
            raise
        return self

    def __exit__(self, *_):
        self._exits.close()

    def _start(self):
        found = [[self._server(n) for _ in range(self.shape.servers if n == 0 else 1)] for n in range(self.shape.models)]
        for url, process in (one for of_model in found for one in of_model):
            if not wait_ready(url + "/health", process, 10, ()):
                sys.exit(f"stage: no upstream at {url}")
        self.servers = [process for _, process in found[0]]
        self.upstreams = [url for url, _ in found[0]]
        config = self.folder / "gateway.yaml"
        whole = configuration(self.shape, [[url for url, _ in one] for one in found], self.folder) | self.more
        config.write_text(json.dumps(whole))
        time.sleep(SETTLE_SECONDS)
        port = free_port()
        self.url = f"http://127.0.0.1:{port}"
        serve = ["serve", "--config", str(config), "--host", "127.0.0.1", "--port", str(port), "--workers", str(self.shape.workers)]
        began = time.monotonic()
        self.gateway = self.processes.start("gateway", [sys.executable, "-m", "gateway", *serve], self.cores[1], {"PYTHONPATH": str(REPO)})
        if not wait_ready(self.url + "/readyz", self.gateway, self.patience, ()):
            sys.exit(f"stage: the gateway does not start: {self.processes.log_tail('gateway')}")
        self.start_seconds = time.monotonic() - began
        self.headers = [f"Authorization: Bearer {key(0)}"]

    def _server(self, number):
        """The address and the process of one server of a model."""
        port = free_port()
        command = [str(self.binaries / "upstream"), "--model", model(number), "--port", str(port)]
        return f"http://127.0.0.1:{port}", self.processes.start(f"upstream-{port}", command, self.cores[0])

    @property
    def rss_mb(self):
        return rss_mb(self.gateway.pid)

    def control(self, **settings):
        """Behaviour of the upstreams, such as chunk_ms=20."""
        control_upstreams(self.upstreams, {name.replace("_", "-"): value for name, value in settings.items()})

    def body(self, name, model, size=0, stream=False):
        """A file with a request's body of about `size` bytes."""
        text = f"{MARK} What is the capital of France? Answer in one sentence, please, and name its river. "
        while len(text) < size - 200:
            text += "The quick brown fox jumps over the lazy dog, number after number, and never tires of it. "[: size - 200 - len(text)]
        messages = [{"role": "system", "content": "You are a helpful assistant."}, {"role": "user", "content": text}]
        whole = {"model": model, "messages": messages, "max_tokens": 100, "temperature": 0.7, **({"stream": True} if stream else {})}
        path = self.folder / name
        path.write_text(json.dumps(whole))
        return path

    def values(self, name, lines):
        path = self.folder / name
        path.write_text("".join(f"{line}\n" for line in lines))
        return path

    def start_load(self, connections, seconds, body, *options, direct=False):
        command = [str(self.binaries / "load"), "-c", str(connections), "-d", str(seconds), "-b", str(body), *options]
        for header in self.headers:
            command += ["-H", header]
        if self.cores[0] is not None:
            command = ["taskset", "-c", self.cores[0], *command]
        url = (self.upstreams[0] if direct else self.url) + CHAT
        return subprocess.Popen([*command, url], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    def load(self, connections, seconds, body, *options, direct=False):
        """One run of the load generator, and what the processes took meanwhile, in shares of one core."""
        return self.finish(self.start_load(connections, seconds, body, *options, direct=direct), self.clock(), seconds, direct)

    def clock(self):
        """Seconds of the wall, of the gateway, of the upstreams, of children that have ended, and of the whole machine."""
        ended = resource.getrusage(resource.RUSAGE_CHILDREN)
        servers = sum(cpu_seconds(server.pid) for server in self.servers)
        return time.monotonic(), cpu_seconds(self.gateway.pid), servers, ended.ru_utime + ended.ru_stime, machine_seconds()

    def workers(self):
        """Seconds of each process of the gateway that is no other's parent, by pid."""
        tree = [pid for pid, _ in tree_of(self.gateway.pid)]
        parents = {int(stat[1]) for pid in tree if (stat := read_stat(pid))}
        return {pid: cpu_seconds(pid) for pid in tree if pid not in parents}

    def finish(self, process, before, seconds, direct=False):
        out, error = process.communicate(timeout=seconds + 180)
        if not out:
            sys.exit(f"stage: load failed: {error}")
        after, found = self.clock(), json.loads(out)
        wall, gateway, servers, load, machine = (b - a for a, b in zip(before, after, strict=True))
        figures = {
            "req_s": found["req_s"],
            "p50_ms": found["latency_us"]["p50"] / 1000,
            "p99_ms": found["latency_us"]["p99"] / 1000,
            "errors": found["errors"] + found["unfinished"],
            "gateway_cores": gateway / wall,
            "load_cores": load / wall,
            "upstream_cores": servers / wall,
            "other_cores": max(0.0, machine - gateway - servers - load) / wall,
            "rss_mb": self.rss_mb,
            "load_average": os.getloadavg()[0],
        }
        if found["errors"]:
            figures["first_error"] = found["first_error"][:200]
        if found["requests"] and not direct:
            figures["cpu_us_per_request"] = 1e6 * gateway / found["requests"]
        if "gap_us" in found:
            figures |= {name: found[name] for name in ("chunks", "chunks_s")}
            figures |= {"gap_p99_ms": found["gap_us"]["p99"] / 1000, "ttft_p99_ms": found["ttft_us"]["p99"] / 1000}
        return figures
