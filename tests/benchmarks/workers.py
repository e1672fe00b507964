"""One worker against two, on two cores that the load and the servers share with them.

    python -m tests.benchmarks.workers [--rounds 5] [--seconds 3] [--json FILE]

Nothing is pinned. By turns, the same load goes to a gateway with one worker and to one with two; told are requests/s, and the cores that
the gateway, its busiest worker, the load generator, the server and everybody else on the machine had. Two cores cannot hold two whole workers and the rest: `ideal` is what a second
worker could bring at most, where a request takes all three as much processor time as with one worker, and both cores are full.
"""

import argparse
import json
import os
import pathlib
import statistics
import sys

from tests.benchmarks.report import print_table, show
from tests.benchmarks.stage import Shape, Stage, raise_limit, route
from tests.benchmarks.targets import build

LOADS = {"json32": (32, False), "stream32": (32, True)}
CORES = ("gateway_cores", "load_cores", "upstream_cores")
SHOWN = ("gateway_cores", "busiest", "load_cores", "upstream_cores", "other_cores")


def measure(args, stages):
    found = []
    for number in range(1, args.rounds + 1):
        for load, (connections, stream) in LOADS.items():
            for workers, stage in stages.items():
                body, options = stage.body(load, route(0), stream=stream), ("--stream",) if stream else ()
                stage.load(connections, 0.5, body, *options)
                before = stage.workers()
                figures = stage.load(connections, args.seconds, body, *options)
                shares = [(seconds - before.get(pid, 0.0)) / args.seconds for pid, seconds in stage.workers().items()]
                found.append({"round": number, "load": load, "workers": workers, "busiest": max(shares), **figures})
                print(f"round {number}/{args.rounds} {load} {workers}: {figures['req_s']:.0f}/s", file=sys.stderr, flush=True)
    return found


def summarise(found, cores):
    """Medians, and the medians of the ratios within a round."""
    rows = [
        [
            "load",
            "workers",
            "req/s",
            *(name.removesuffix("_cores") for name in SHOWN),
            "CPU µs/request",
            "x 1 worker",
            "ideal",
            "p99 ms",
            "errors",
        ]
    ]
    for load in LOADS:
        one, two = ([point for point in found if point["load"] == load and point["workers"] == n] for n in (1, 2))
        ratio = statistics.median(b["req_s"] / a["req_s"] for a, b in zip(one, two, strict=True))
        used = statistics.median(sum(point[name] for name in CORES) for point in one)
        for points, x, ideal in ((one, "1", "1"), (two, f"{ratio:.2f}", f"{min(2.0, cores / used):.2f}")):
            middle = {
                name: statistics.median(point[name] for point in points) for name in (*SHOWN, "req_s", "p99_ms", "cpu_us_per_request")
            }
            shares = [f"{middle[name]:.2f}" for name in SHOWN]
            cpu, p99, errors = show(middle["cpu_us_per_request"]), show(middle["p99_ms"]), str(sum(point["errors"] for point in points))
            rows.append([load, str(points[0]["workers"]), show(middle["req_s"]), *shares, cpu, x, ideal, p99, errors])
    return rows


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=3.0)
    parser.add_argument("--json", type=pathlib.Path, metavar="FILE")
    args = parser.parse_args()
    raise_limit()
    binaries = build(pathlib.Path.home() / ".cache" / "pointsman-bench")
    with Stage(Shape(), binaries) as one, Stage(Shape(workers=2), binaries) as two:
        found = measure(args, {1: one, 2: two})
    if args.json:
        args.json.write_text(json.dumps(found) + "\n")
    print_table(summarise(found, len(os.sched_getaffinity(0))), False)
    return 0


if __name__ == "__main__":
    sys.exit(main())
