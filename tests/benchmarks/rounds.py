"""The measured rounds, and the figures of one run."""

import json
import os
import subprocess
import sys
import time

from tests.benchmarks.processes import control_upstreams, cpu_seconds, rss_mb
from tests.benchmarks.scenarios import CHAT
from tests.benchmarks.targets import prompt_body


def run_load(args, target, scenario, seconds, core):
    body = args.scratch / f"{scenario.prompt}-{target.model}-{scenario.stream}.json"
    if not body.exists():
        text = prompt_body(target.model, scenario.prompt, scenario.stream)
        body.write_text(text)
    command = [str(args.build / "load"), "-c", str(scenario.connections), "-d", str(seconds), "-b", str(body), "--drain", str(args.drain)]
    command += ["--stream"] * scenario.stream + ["--distinct"] * scenario.distinct
    for header in target.headers:
        command += ["-H", header]
    if core is not None:
        command = ["taskset", "-c", core, *command]
    done = subprocess.run([*command, target.url + CHAT], capture_output=True, text=True, timeout=seconds + args.drain + 60)
    if not done.stdout:
        sys.exit(f"bench: load failed: {done.stderr}")
    return json.loads(done.stdout)


def measure(args, target, scenario, core):
    """One measured run after a short warm-up: the figures of one round."""
    seconds = scenario.seconds * args.seconds_factor
    run_load(args, target, scenario, min(0.5, seconds / 4), core)
    pid = target.process.pid if target.process else None
    before, began = cpu_seconds(pid) if pid else 0, time.monotonic()
    load = run_load(args, target, scenario, seconds, core)
    figures = figures_of(load, scenario)
    if pid:
        used, took = cpu_seconds(pid) - before, time.monotonic() - began
        figures["cpu_percent"] = 100 * used / took
        figures["rss_mb"] = rss_mb(pid)
        if load["requests"]:
            figures["cpu_us_per_request"] = 1e6 * used / load["requests"]
        if load["chunks"]:
            figures["cpu_us_per_chunk"] = 1e6 * used / load["chunks"]
    return figures, load


def figures_of(load, scenario):
    latency = load["latency_us"]
    figures = {
        "requests": load["requests"],
        "errors": load["errors"] + load["unfinished"],
        "req_s": load["req_s"],
        "p50_us": latency["p50"],
        "p99_us": latency["p99"],
        "max_us": latency["max"],
    }
    if scenario.stream:
        ttft, gap = load["ttft_us"], load["gap_us"]
        figures |= {
            "chunks_s": load["chunks_s"],
            "chunks_per_stream": load["chunks_per_stream"],
            "ttft_p50_us": ttft["p50"],
            "ttft_p99_us": ttft["p99"],
            "gap_p50_us": gap["p50"],
            "gap_p99_us": gap["p99"],
            "gap_max_us": gap["max"],
        }
    return figures


def add_differences(figures_by_target):
    """What a target adds to the direct way, within one round of one scenario."""
    direct = figures_by_target["direct"]
    for figures in figures_by_target.values():
        for added, plain in (("added_p50_us", "p50_us"), ("added_p99_us", "p99_us"), ("added_ttft_p50_us", "ttft_p50_us")):
            if plain in figures:
                figures[added] = figures[plain] - direct[plain]


def run_rounds(args, scenarios, targets, upstreams, core, save):
    results = []
    for number in range(1, args.rounds + 1):
        for scenario in scenarios:
            control_upstreams(upstreams, scenario.upstream)
            row = {}
            for target in targets:
                print(f"round {number}/{args.rounds} {scenario.name:13} {target.name}", file=sys.stderr, flush=True)
                row[target.name], load = measure(args, target, scenario, core)
                results.append(
                    {
                        "round": number,
                        "scenario": scenario.name,
                        "target": target.name,
                        "figures": row[target.name],
                        "load": load,
                        "load_average": os.getloadavg()[0],
                    }
                )
            add_differences(row)
        save(results)
    return results


def measure_idle(targets, seconds=3):
    """CPU that each target burns with nothing to do: it would disturb the others."""
    started = [t for t in targets if t.process]
    before = {t.name: cpu_seconds(t.process.pid) for t in started}
    time.sleep(seconds)
    for t in started:
        t.idle_cpu_percent = round(100 * (cpu_seconds(t.process.pid) - before[t.name]) / seconds, 2)
