"""100,000 requests to one worker: does anything grow, and how late is the event loop?

    python -m tests.benchmarks.steady [--requests 100000] [--spy] [--json FILE]

A quarter each of plain and streamed requests (20 events), repeated and never seen before, on 32 connections, as fast as they go. What is
remembered of requests is bounded to 5,000 entries each, and at least 20,000 requests go before, so that all of it is full. After each
tenth the load rests, and memory, descriptors, threads and all gauges of /metrics are read. Exit code 1

- if the most resident memory of the last three tenths is more than 3 MB above that of the first three (43 bytes a request),
- if a gauge is above what it was in all of the first three tenths, in each of the last three; descriptors may be 32 more, as idle
  connections to servers come and go, and threads two,
- or if a request failed.

Then the same mixture goes at half the rate for some time, and the event loop's lag is read as often as it is measured: at the full rate
it tells how long a turn of the loop is with 32 requests waiting. `--spy` has py-spy (.venv-profile) tell which functions take most.
"""

import argparse
import http.client
import json
import os
import pathlib
import re
import statistics
import subprocess
import sys
import tempfile
import threading
import time

from tests.benchmarks.processes import ask
from tests.benchmarks.profile import SPY, own_times, sample
from tests.benchmarks.stage import Shape, Stage, raise_limit, route
from tests.benchmarks.targets import build, pick_cores

KINDS = {"plain": (), "plain new": ("--distinct",), "stream": ("--stream",), "stream new": ("--stream", "--distinct")}
CONNECTIONS = 8
"""Of each kind."""
REMEMBERED = 5000
ALLOWED_MB = 3.0
ALLOWED = {"descriptors": len(KINDS) * CONNECTIONS, "threads": 2}
IDLE_MB = 120
LAG_MS = 20
LARGEST_SHARE = 0.15
OURS = ("gateway/", "backends/", "routers/")
_GAUGE = re.compile(r"^# TYPE (pointsman_\w+) gauge$", re.MULTILINE)
_SAMPLE = re.compile(r"^(pointsman_\w+)(\{[^}]*\})? (\S+)$", re.MULTILINE)
_LAG = re.compile(r"^pointsman_event_loop_lag_seconds (\S+)$", re.MULTILINE)


class Probe:
    """While it is entered: reads the gauge of the event loop's lag each quarter of a second, and asks /healthz each 20 ms. Both in ms."""

    def __init__(self, stage):
        self.stage, self.lags, self.waits = stage, [], []

    def __enter__(self):
        self._done = threading.Event()
        self._threads = [threading.Thread(target=self._read_lag), threading.Thread(target=self._ask_health)]
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_):
        self._done.set()
        for thread in self._threads:
            thread.join()

    def _read_lag(self):
        while not self._done.wait(0.26):
            self.lags += [float(found) * 1000 for found in _LAG.findall(metrics(self.stage))]

    def _ask_health(self):
        connection = http.client.HTTPConnection("127.0.0.1", int(self.stage.url.rpartition(":")[2]), timeout=30)
        while not self._done.wait(0.02):
            began = time.perf_counter()
            connection.request("GET", "/healthz")
            connection.getresponse().read()
            self.waits.append((time.perf_counter() - began) * 1000)
        connection.close()


def metrics(stage):
    return ask(stage.url + "/metrics", headers=stage.headers, timeout=30)[1].decode()


def gauges(stage):
    """{gauge with its labels: value}, and what the kernel says of the process. What only tells a state or a time is left out."""
    text = metrics(stage)
    names = {name for name in _GAUGE.findall(text) if not name.endswith(("_created", "_info", "_lag_seconds", "_backend_up"))}
    found = {name + labels: float(value) for name, labels, value in _SAMPLE.findall(text) if name in names}
    process = pathlib.Path(f"/proc/{stage.gateway.pid}")
    return found | {"descriptors": len(os.listdir(process / "fd")), "threads": len(os.listdir(process / "task"))}


def drive(stage, requests=None, seconds=600.0, rate=None):
    """The mixture, so many requests of all kinds together, or at `rate` requests/s of all. Returns requests, failures, seconds."""
    began, running = time.monotonic(), []
    for kind, options in KINDS.items():
        body = stage.body(kind.replace(" ", "-"), route(0), stream="--stream" in options)
        bounds = ("-n", str(requests // len(KINDS))) if requests else ("--rate", str(rate / len(KINDS)))
        running.append(stage.start_load(CONNECTIONS, seconds, body, *bounds, *options))
    found = [json.loads(process.communicate(timeout=seconds + 60)[0]) for process in running]
    failed = sum(one["errors"] + one["unfinished"] for one in found)
    for one in found:
        if one["errors"]:
            print(f"first failure: {one['first_error'][:200]}", file=sys.stderr)
    return sum(one["requests"] for one in found), failed, time.monotonic() - began


def settled(stage):
    """Memory and gauges once nothing is under way: the log and the ledger have been written."""
    time.sleep(1.5)
    return stage.rss_mb, gauges(stage)


def percentile(values, percent):
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * percent / 100))] if ordered else 0.0


def lag_of(probe):
    """ms."""
    return {
        "samples": len(probe.lags),
        "lag_p50": percentile(probe.lags, 50),
        "lag_p99": percentile(probe.lags, 99),
        "lag_max": max(probe.lags, default=0.0),
        "probes": len(probe.waits),
        "healthz_p50": percentile(probe.waits, 50),
        "healthz_p99": percentile(probe.waits, 99),
    }


def grown(tenths):
    """What is larger in each of the last three tenths than in all of the first three: {name: (most before, least after)}."""
    first, last = [found for _, found in tenths[:3]], [found for _, found in tenths[-3:]]
    found = {}
    for name in last[-1]:
        before, after = max(one.get(name, 0.0) for one in first), min(one.get(name, 0.0) for one in last)
        if after > before + ALLOWED.get(name, 0):
            found[name] = before, after
    return found


def functions(stage):
    """Share of each of our functions in the samples, while the mixture goes."""
    with tempfile.TemporaryDirectory() as folder:
        stacks = pathlib.Path(folder) / "stacks.txt"
        watching = sample(stage.gateway.pid, 15, "raw", stacks)
        drive(stage, seconds=17.0, rate=100_000)
        if watching.wait(60):
            sys.exit(f"steady: py-spy: {watching.stderr.read().decode().strip()}")
        return own_times(stacks)


def measure(args, stage):
    stage.control(chunks=20)
    time.sleep(2)
    figures = {"idle_mb": stage.rss_mb, "failed": 0, "load_average": os.getloadavg()[0]}
    _, figures["failed"], _ = drive(stage, max(args.requests // 5, 4 * REMEMBERED))
    tenths, rates, full, half = [], [], Probe(stage), Probe(stage)
    for number in range(10):
        with full:
            done, failed, seconds = drive(stage, args.requests // 10)
        tenths.append(settled(stage))
        rates.append(done / seconds)
        figures["failed"] += failed
        print(f"tenth {number + 1}: {done} requests, {rates[-1]:.0f}/s, {failed} failed, {tenths[-1][0]:.1f} MB", flush=True)
    with half:
        _, failed, _ = drive(stage, seconds=args.seconds, rate=statistics.median(rates) / 2)
    figures["full"], figures["half"] = lag_of(full), lag_of(half)
    figures["failed"] += failed
    figures |= {"rates": rates, "rss_mb": [mb for mb, _ in tenths], "gauges": [found for _, found in tenths], "grown": grown(tenths)}
    figures["growth_mb"] = max(figures["rss_mb"][-3:]) - max(figures["rss_mb"][:3])
    if args.spy:
        figures["functions"] = functions(stage)
    return figures


def tell(figures):
    print(f"idle {figures['idle_mb']:.1f} MB (aim: < {IDLE_MB})")
    print(f"memory over the last tenths: {figures['growth_mb']:+.1f} MB (bound: {ALLOWED_MB:g})")
    for name, (before, after) in figures["grown"].items():
        print(f"grows: {name} {before:g} -> {after:g}")
    for name, value in sorted(figures["gauges"][-1].items()):
        first = figures["gauges"][0].get(name, 0.0)
        if value or first:
            print(f"  {name}: {first:g} in the first tenth, {value:g} in the last")
    for name in ("full", "half"):
        print(f"{name} rate: " + ", ".join(f"{key} {value:.4g}" for key, value in figures[name].items()) + " (ms)")
    print(f"aim: a lag of < {LAG_MS} ms in 99 of 100; at half the rate it is {figures['half']['lag_p99']:.1f}")
    ours = [(name, share) for name, share in figures.get("functions", []) if any(part in name for part in OURS)]
    for name, share in ours[:12]:
        print(f"{share:6.1%}  {name}" + ("  more than a function of ours should" if share > LARGEST_SHARE else ""))


def read_arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--requests", type=int, default=100_000)
    parser.add_argument("--seconds", type=float, default=60.0, help="for the event loop's lag at half the rate")
    parser.add_argument("--spy", action="store_true")
    parser.add_argument("--json", type=pathlib.Path, metavar="FILE")
    parser.set_defaults(no_pin=False, load_cores=None, target_cores=None)
    return parser.parse_args()


def main():
    args = read_arguments()
    raise_limit()
    if args.spy and not SPY.exists():
        subprocess.run(["scripts/profile-environment.sh"], check=True)
    binaries = build(pathlib.Path.home() / ".cache" / "pointsman-bench")
    bounded = {"cache": {"size": REMEMBERED}, "sessions": {"size": REMEMBERED}, "decisions": {"kept": REMEMBERED}}
    with Stage(Shape(), binaries, pick_cores(args), more=bounded) as stage:
        figures = measure(args, stage)
    if args.json:
        args.json.write_text(json.dumps(figures) + "\n")
    tell(figures)
    return 1 if figures["grown"] or figures["growth_mb"] > ALLOWED_MB or figures["failed"] else 0


if __name__ == "__main__":
    sys.exit(main())
