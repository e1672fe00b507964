#!/usr/bin/env python3
"""Measure HTTP servers that stand between OpenAI clients and vLLM: throughput, added latency, CPU and memory.

    bench.py --peers DIR                              every target of the targets files, every scenario, 3 rounds
    bench.py --targets targets.toml --targets mine.toml --only nginx,pointsman --scenarios json32,stream32 --rounds 5 --json result.json
    bench.py --target mine=http://127.0.0.1:8080 --upstream-ports 9001,9002    a server that runs already (no CPU figure)

It builds upstream.c and load.c with cc, starts two upstreams (models small and large), then every target, and runs
round by round: each scenario over all targets in turn, so that noise on the machine hits all alike. `direct` (no target in
between) is always measured. Where taskset and two cores are there, upstreams and load share one core and the targets get
the other. Everything is on 127.0.0.1 and bounded in time; only processes that it started are ended. Standard library only.
"""

import argparse
import os
import pathlib
import signal
import sys
import tempfile
import tomllib
import urllib.parse

from tests.benchmarks.processes import Processes
from tests.benchmarks.report import describe_machine, print_tables, summarise, write_json
from tests.benchmarks.rounds import measure_idle, run_rounds
from tests.benchmarks.scenarios import HERE, SCENARIOS, Target
from tests.benchmarks.targets import build, check, pick_cores, start_target, start_upstreams


def read_arguments():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument(
        "--targets",
        action="append",
        type=pathlib.Path,
        metavar="FILE",
        help="file of targets (repeatable; default: targets.toml and targets-more.toml)",
    )
    p.add_argument("--only", help="names of targets, with commas; 'none' for no target of the file")
    p.add_argument("--target", action="append", default=[], metavar="NAME=URL", help="a server that runs already (repeatable)")
    p.add_argument("--model", default="small", help="model that --target servers are asked for")
    p.add_argument("--header", action="append", default=[], help="header for --target servers, 'A: b' (repeatable)")
    p.add_argument("--upstream-ports", metavar="A,B", help="fixed ports of the two upstreams")
    p.add_argument("--scenarios", help="names, with commas: " + ", ".join(s.name for s in SCENARIOS))
    p.add_argument("--rounds", type=int, default=3)
    p.add_argument("--seconds-factor", type=float, default=1.0, help="makes every measured run longer or shorter")
    p.add_argument("--drain", type=float, default=30, help="seconds to wait for open requests after a run")
    p.add_argument("--peers", type=lambda text: pathlib.Path(text).resolve(), help="folder that peers.sh has set up")
    p.add_argument("--baseline", default="direct", help="the target that the ratios refer to")
    p.add_argument("--build", type=pathlib.Path, help="folder for the binaries (default: one in the user's cache)")
    p.add_argument("--load-cores", help="taskset list for upstreams and load")
    p.add_argument("--target-cores", help="taskset list for the targets")
    p.add_argument("--no-pin", action="store_true", help="no taskset")
    p.add_argument("--markdown", action="store_true", help="tables in Markdown")
    p.add_argument("--json", metavar="FILE", help="write everything here")
    args = p.parse_args()
    args.targets = [f.resolve() for f in args.targets or (HERE / "targets.toml", HERE / "targets-more.toml")]
    args.build = build(
        (args.build or pathlib.Path(os.environ.get("XDG_CACHE_HOME", pathlib.Path.home() / ".cache")) / "pointsman-bench").resolve()
    )
    return args


def chosen(all_names, text, what):
    names = text.split(",") if text else list(all_names)
    unknown = [n for n in names if n not in all_names and n != "none"]
    if unknown:
        sys.exit(f"bench: no {what} named {', '.join(unknown)}; there are: {', '.join(all_names)}")
    return names


def running_target(text, args):
    name, _, url = text.partition("=")
    host = urllib.parse.urlsplit(url).hostname or ""
    if not (host == "localhost" or host.startswith("127.")):
        sys.exit(f"bench: {url}: only servers on the loopback interface are measured")
    target = Target(name, url.rstrip("/").removesuffix("/v1"), args.model, args.header)
    target.state = check(target)
    return target


def collect_targets(args, processes, upstreams, core):
    specs = {name: {"home": file.parent, **spec} for file in args.targets for name, spec in tomllib.loads(file.read_text()).items()}
    names = chosen(specs, args.only, "target")
    targets = [Target("direct", upstreams[0])]
    targets += [start_target(n, specs[n], args, processes, upstreams, core) for n in names if n in specs]
    targets += [running_target(text, args) for text in args.target]
    for t in targets:
        print(f"{t.name}: {t.state} {t.version}", file=sys.stderr, flush=True)
    return targets


def main():
    args = read_arguments()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    by_name = {s.name: s for s in SCENARIOS}
    scenarios = [by_name[n] for n in chosen(by_name, args.scenarios, "scenario")]
    cores = pick_cores(args)
    with tempfile.TemporaryDirectory(prefix="pointsman-bench-") as folder:
        args.scratch = pathlib.Path(folder)
        processes = Processes(args.scratch)
        try:
            upstreams = start_upstreams(args, processes, cores[0])
            targets = collect_targets(args, processes, upstreams, cores[1])
            measured = [t for t in targets if t.state == "running"]
            machine = describe_machine(args, cores)
            measure_idle(measured)
            results = run_rounds(
                args,
                scenarios,
                measured,
                upstreams,
                cores[0],
                lambda done: write_json(args, machine, targets, done, summarise(done, scenarios, measured, args.baseline)),
            )
        finally:
            processes.end_all()
    summary = summarise(results, scenarios, measured, args.baseline)
    print_tables(summary, scenarios, targets, args.baseline, args.markdown)
    return 0


if __name__ == "__main__":
    sys.exit(main())
