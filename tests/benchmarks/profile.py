"""A flame graph of a gateway under load, and its functions by their own time: python -m tests.benchmarks.profile [--stream] [--seconds N]

Starts an upstream, the gateway of targets.toml and the load generator, and samples the gateway with py-spy (.venv-profile). Writes
.cache/profile/flame.svg and .cache/profile/stacks.txt.
"""

import argparse
import collections
import pathlib
import subprocess
import sys
import tempfile
import tomllib

from tests.benchmarks.processes import Processes
from tests.benchmarks.rounds import run_load
from tests.benchmarks.scenarios import HERE, SCENARIOS
from tests.benchmarks.targets import build, pick_cores, start_target, start_upstreams

SPY = pathlib.Path(".venv-profile/bin/py-spy")
OUT = pathlib.Path(".cache/profile")


def sample(pid, seconds, form, path):
    """Has py-spy watch a process meanwhile."""
    command = [
        str(SPY),
        "record",
        "--pid",
        str(pid),
        "--duration",
        str(seconds),
        "--rate",
        "500",
        "--gil",
        "--format",
        form,
        "--output",
        str(path),
    ]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)


def own_times(stacks):
    """Share of the samples in which each function was the innermost."""
    found = collections.Counter()
    for line in stacks.read_text().splitlines():
        stack, _, count = line.rpartition(" ")
        found[stack.rpartition(";")[2].rpartition(":")[0]] += int(count)
    whole = sum(found.values())
    return [(name, count / whole) for name, count in found.most_common(25)] if whole else []


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--stream", action="store_true", help="stream32 instead of json32")
    parser.add_argument("--seconds", type=int, default=8)
    parser.set_defaults(no_pin=False, load_cores=None, target_cores=None, upstream_ports=None, peers=None, drain=10)
    args = parser.parse_args()
    if not SPY.exists():
        sys.exit("profile: no py-spy; run scripts/profile-environment.sh")
    args.build = build(pathlib.Path.home() / ".cache" / "pointsman-bench")
    scenario = next(one for one in SCENARIOS if one.name == ("stream32" if args.stream else "json32"))
    OUT.mkdir(parents=True, exist_ok=True)
    cores = pick_cores(args)
    with tempfile.TemporaryDirectory(prefix="pointsman-profile-") as folder:
        args.scratch = pathlib.Path(folder)
        processes = Processes(args.scratch)
        try:
            upstreams = start_upstreams(args, processes, cores[0])
            spec = {"home": HERE, **tomllib.loads((HERE / "targets.toml").read_text())["pointsman"]}
            target = start_target("pointsman", spec, args, processes, upstreams, cores[1])
            if target.state != "running":
                sys.exit(f"profile: {target.state}")
            run_load(args, target, scenario, 1, cores[0])
            for form, name in (("flamegraph", "flame.svg"), ("raw", "stacks.txt")):
                watching = sample(target.process.pid, args.seconds, form, OUT / name)
                load = run_load(args, target, scenario, args.seconds + 1, cores[0])
                if watching.wait(60):
                    sys.exit(f"profile: py-spy: {watching.stderr.read().decode().strip()}")
        finally:
            processes.end_all()
    print(f"{load['req_s']:.0f} requests/s while it was watched; the picture is {OUT / 'flame.svg'}")
    for name, share in own_times(OUT / "stacks.txt"):
        print(f"{share:6.1%}  {name}")


if __name__ == "__main__":
    main()
