"""How the whole gateway bears more of everything: requests/s and p99 over connections, body sizes, models, routes, keys and open streams.

    python -m tests.benchmarks.growth [--axes connections,keys] [--rounds 3] [--seconds 2.5] [--out docs/growth]
    python -m tests.benchmarks.growth --draw             the pictures again, from the points that are there

Writes growth.json with every point, and one picture for each axis. The gateway has a core to itself, servers and load share the other
one. An axis is measured from its first point to its last, round by round; each gateway is started for its point. Where what it takes
is more than the machine allows (open files), the point is left out, and that is said.
"""

import argparse
import json
import os
import pathlib
import signal
import statistics
import sys
import time

from tests.benchmarks.plots import Line, Panel, draw
from tests.benchmarks.processes import cpu_seconds
from tests.benchmarks.report import describe_machine
from tests.benchmarks.stage import PLACES, Shape, Stage, key, model, raise_limit, route
from tests.benchmarks.targets import build, pick_cores

CONNECTIONS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096)
BODIES = (1_000, 4_000, 16_000, 64_000, 256_000, 1_000_000, 2_000_000)
MODELS = (2, 5, 10, 20, 50, 100, 200)
ROUTES = (1, 2, 5, 10, 20, 50, 100)
KEYS = (1, 10, 100, 1_000, 10_000, 100_000)
STREAMS = (10, 20, 50, 100, 200, 500, 1000, 2000, 5000)
TURNS_A_SECOND = 800
"""Requests/s of a gateway on a slow machine."""
USUAL = 32
"""Connections, where they are not what grows."""
UNDISTURBED = 0.85
CHUNKS_A_SECOND = 50
STEADY = 5.0
"""Seconds for which all streams are open."""
BESIDE, BESIDE_RATE = 128, 50
"""Connections and requests/s of the plain requests beside streams: enough that none waits for a connection, unless it takes seconds."""
STARTS_A_SECOND = 500
"""At most so many streams begin in a second, so that what is measured is open streams, not their beginnings."""


def warm(stage, connections, body, *options, direct=False):
    stage.load(connections, 0.4, body, *options, direct=direct)


def both(stage, args, x, name, body, connections, *options, direct=False, skip=0.0):
    """One point of the line `name`, after a short run that does not count, and without its own first `skip` seconds."""
    warm(stage, connections, body, *options, direct=direct)
    seconds = skip + max(args.seconds, 2 * skip)
    return {"line": name, "x": x, **stage.load(connections, seconds, body, "--skip", f"{skip:.3f}", *options, direct=direct)}


def connections(args, most):
    """With many connections it takes a while until all are accepted and each has had an answer; what comes after that counts."""
    points = [x for x in CONNECTIONS if 2 * x + 200 <= most]
    with Stage(Shape(), args.binaries, args.cores) as one, Stage(Shape(servers=4), args.binaries, args.cores) as four:
        for x in points:
            skip = x / TURNS_A_SECOND
            yield both(one, args, x, "gateway", one.body("plain", route(0)), x, skip=skip)
            yield both(one, args, x, "direct", one.body("direct", model(0)), x, direct=True, skip=skip / 10)
            if x >= 512:
                yield both(four, args, x, "4 servers", four.body("plain", route(0)), x, skip=skip)


def bodies(args, _):
    with Stage(Shape(), args.binaries, args.cores) as stage:
        for x in BODIES:
            yield both(stage, args, x, "gateway", stage.body("plain", route(0), x), USUAL)
            yield both(stage, args, x, "never seen before", stage.body("plain", route(0), x), USUAL, "--distinct")
            yield both(stage, args, x, "direct", stage.body("direct", model(0), x), USUAL, direct=True)


def models(args, _):
    for x in MODELS:
        with Stage(Shape(models=x), args.binaries, args.cores) as stage:
            body = stage.body("plain", route(0))
            yield both(stage, args, x, "decision remembered", body, USUAL) | {"start_seconds": stage.start_seconds}
            yield both(stage, args, x, "taken anew", body, USUAL, "--distinct")


def routes(args, _):
    for x in ROUTES:
        with Stage(Shape(routes=x), args.binaries, args.cores) as stage:
            body, names = stage.body("plain", route(0)), stage.values("routes", [route(n) for n in range(x)])
            yield both(stage, args, x, "all routes in turn", body, USUAL, "--values", str(names)) | {"start_seconds": stage.start_seconds}
            yield both(stage, args, x, "taken anew", body, USUAL, "--values", str(names), "--distinct")


def keys(args, _):
    for x in KEYS:
        with Stage(Shape(keys=x), args.binaries, args.cores) as stage:
            body, values = stage.body("plain", route(0)), stage.values("keys", [key(n) for n in range(x)])
            yield both(stage, args, x, "one key", body, USUAL) | {"start_seconds": stage.start_seconds}
            yield both(stage, args, x, "all keys in turn", body, USUAL, "--values", str(values))


def streams(args, most):
    points = [x for x in STREAMS if 2 * x + 200 <= most]
    for x in points:
        with Stage(Shape(servers=-(-x // PLACES)), args.binaries, args.cores) as stage:
            stage.control(chunks=int(CHUNKS_A_SECOND * (ramp_of(x) + STEADY + 0.5)), chunk_ms=1000 / CHUNKS_A_SECOND)
            yield open_streams(stage, x)
            if x <= PLACES:
                yield open_streams(stage, x, direct=True)


def ramp_of(x):
    """Seconds in which `x` streams begin."""
    return max(1.0, x / STARTS_A_SECOND)


def open_streams(stage, x, direct=False):
    """`x` streams that are all open for STEADY seconds, and a plain request each 20 ms beside them meanwhile. `in_time`: share of the
    chunks that were due by the end of that time, and had come. `kb_per_stream`: at most, from the first stream to the end of the last.
    """
    ramp, name = ramp_of(x), model(0) if direct else route(0)
    plain = stage.body("plain", name)
    warm(stage, 4, plain, direct=direct)
    idle_mb, before = stage.rss_mb, stage.clock()
    options = ("--stream", "-n", str(x), "--rate", str(x / ramp), "--drain", "120", "--timeout", "150")
    running = stage.start_load(x, ramp + STEADY, stage.body("stream", name, stream=True), *options, direct=direct)
    time.sleep(ramp)
    beside = stage.start_load(BESIDE, STEADY, plain, "--rate", str(BESIDE_RATE), "--skip", "1", direct=direct)
    time.sleep(STEADY * 0.2)
    began = *stage.clock(), cpu_seconds(running.pid)
    time.sleep(STEADY * 0.6)
    ended = *stage.clock(), cpu_seconds(running.pid)
    most_mb = stage.rss_mb
    while running.poll() is None:
        most_mb = max(most_mb, stage.rss_mb)
        time.sleep(0.25)
    plain_answers = json.loads(beside.communicate(timeout=180)[0])
    figures = stage.finish(running, before, ramp + STEADY, direct)
    _, gateway, servers, _, _, load = ((b - a) / (ended[0] - began[0]) for a, b in zip(began, ended, strict=True))
    in_time = min(1.0, figures["chunks_s"] * (ramp + STEADY) / (x * CHUNKS_A_SECOND * (ramp / 2 + STEADY)))
    return figures | {
        "line": "direct" if direct else "gateway",
        "x": x,
        "in_time": in_time,
        "open_chunks_s": in_time * x * CHUNKS_A_SECOND,
        "gateway_cores": gateway,
        "upstream_cores": servers,
        "load_cores": load,
        "plain_p50_ms": plain_answers["latency_us"]["p50"] / 1000,
        "plain_p99_ms": plain_answers["latency_us"]["p99"] / 1000,
        "plain_errors": plain_answers["errors"] + plain_answers["unfinished"],
        **({} if direct else {"kb_per_stream": (most_mb - idle_mb) * 1000 / x, "idle_mb": idle_mb, "open_mb": most_mb}),
    }


NOTE = "Median of the rounds, thin bars: lowest and highest. Rounds in which other jobs took the core are left out."
AXES = {"connections": connections, "bodies": bodies, "models": models, "routes": routes, "keys": keys, "streams": streams}
TITLES = {
    "connections": "connections",
    "bodies": "bytes of a request's body, 32 connections",
    "models": "models of a route, 32 connections",
    "routes": "routes, 32 connections",
    "keys": "API keys, 32 connections",
    "streams": "open streams, a chunk each 20 ms",
}


def measure(args, most, document, save):
    for axis in args.axes:
        document["points"][axis] = []
    for number in range(1, args.rounds + 1):
        for axis in args.axes:
            for point in AXES[axis](args, most):
                document["points"][axis].append({"round": number, **point})
                print(f"round {number} {axis} {told(point)}", file=sys.stderr, flush=True)
                save(document)


def written(document):
    """As JSON, a point a line, with four digits that matter."""
    points = {axis: [{name: digits(value) for name, value in one.items()} for one in found] for axis, found in document["points"].items()}
    axes = [f'"{axis}": [\n' + ",\n".join(json.dumps(one) for one in found) + "\n]" for axis, found in points.items()]
    return f'{{"machine": {json.dumps(document["machine"])},\n"points": {{' + ",\n".join(axes) + "}}\n"


def digits(value):
    return float(f"{value:.4g}") if isinstance(value, float) else value


def told(point):
    names = (
        "req_s",
        "p99_ms",
        "open_chunks_s",
        "gap_p99_ms",
        "in_time",
        "kb_per_stream",
        "plain_p50_ms",
        "plain_p99_ms",
        "gateway_cores",
        "load_cores",
    )
    names += ("upstream_cores", "other_cores", "cpu_us_per_request", "rss_mb", "start_seconds", "errors", "plain_errors", "first_error")
    return f"{point['line']} {point['x']}: " + ", ".join(f"{n} {shown(point[n])}" for n in names if n in point)


def shown(value):
    return value if isinstance(value, str) else f"{value:.4g}"


def gather(points, figure, names=None):
    """The lines of one figure over the rounds that count, without what is 0: nothing was answered. `names`: only these."""
    found = {}
    for point in undisturbed(points):
        if point.get(figure) and (names is None or point["line"] in names):
            found.setdefault(point["line"], {}).setdefault(point["x"], []).append(point[figure])
    return [
        Line(name, {x: (min(values), statistics.median(values), max(values)) for x, values in by_x.items()}) for name, by_x in found.items()
    ]


def undisturbed(points):
    """Without the rounds in which others took the core of what is measured: where it had less than UNDISTURBED of what it had at best."""
    best = {}
    for point in points:
        place = point["line"], point["x"]
        best[place] = max(best.get(place, 0.0), had(point))
    return [point for point in points if had(point) >= UNDISTURBED * best[point["line"], point["x"]]]


def had(point):
    """Cores: the gateway's, or those of the load and the servers where there is no gateway between them."""
    return point["load_cores"] + point["upstream_cores"] if point["line"] == "direct" else point["gateway_cores"]


def renamed(line, name):
    return [Line(name, one.points) for one in line]


def picture(axis, points):
    cores = [Panel("cores in use", renamed(gather(points, "gateway_cores", others(points)), "gateway") + load_line(points), 1.0)]
    if axis == "streams":
        panels = [
            Panel("chunks/s that came in time", gather(points, "open_chunks_s")),
            Panel("gap between chunks, p99, ms", gather(points, "gap_p99_ms")),
            Panel("a plain request beside them, p99, ms", gather(points, "plain_p99_ms")),
            Panel("kB of the gateway for each stream", gather(points, "kb_per_stream")),
        ]
    else:
        panels = [Panel("requests/s", gather(points, "req_s")), Panel("p99, ms", gather(points, "p99_ms"))]
        panels.append(Panel("processor time of the gateway, µs a request", gather(points, "cpu_us_per_request")))
    return draw(f"{TITLES[axis]}", TITLES[axis], [*panels, *cores], NOTE)


def others(points):
    """The first line that goes through the gateway."""
    return [points[0]["line"]]


def load_line(points):
    """Servers and load together, while the first line is measured."""
    mine = [
        {**point, "other": point["upstream_cores"] + point.get("load_cores", 0.0)} for point in points if point["line"] == points[0]["line"]
    ]
    return renamed(gather(mine, "other"), "servers and load")


def draw_all(out, document):
    for axis, points in document["points"].items():
        if points:
            (out / f"{axis}.svg").write_text(picture(axis, points))


def read_arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--axes", default=",".join(AXES), help="names, with commas: " + ", ".join(AXES))
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=2.5, help="of one measured run")
    parser.add_argument("--out", type=pathlib.Path, default=pathlib.Path("docs/growth"))
    parser.add_argument("--draw", action="store_true", help="measure nothing")
    parser.set_defaults(no_pin=False, load_cores=None, target_cores=None, seconds_factor=1.0, baseline="direct")
    args = parser.parse_args()
    args.axes = args.axes.split(",")
    unknown = [axis for axis in args.axes if axis not in AXES]
    if unknown:
        parser.error(f"no axis named {', '.join(unknown)}; there are: {', '.join(AXES)}")
    return args


def main():
    args = read_arguments()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    args.out.mkdir(parents=True, exist_ok=True)
    path = args.out / "growth.json"
    document = json.loads(path.read_text()) if path.exists() else {"points": {}}
    if not args.draw:
        most, args.cores = raise_limit(), pick_cores(args)
        args.binaries = build(pathlib.Path.home() / ".cache" / "pointsman-bench")
        for axis, points in (("connections", CONNECTIONS), ("streams", STREAMS)):
            left_out = [x for x in points if 2 * x + 200 > most]
            if axis in args.axes and left_out:
                print(f"{axis}: {left_out} left out, as {most} files may be open at a time", file=sys.stderr)
        document["machine"] = describe_machine(args, args.cores) | {"open_files": most, "load_average": os.getloadavg()}
        measure(args, most, document, lambda found: path.write_text(written(found)))
    draw_all(args.out, document)
    return 0


if __name__ == "__main__":
    sys.exit(main())
