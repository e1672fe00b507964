"""Medians, ratios, tables and the JSON file."""

import datetime
import json
import os
import pathlib
import platform
import statistics

from tests.benchmarks.scenarios import COLUMNS


def summarise(results, scenarios, targets, baseline):
    """{scenario: {target: {figure: {median, min, max}}, with "ratio" of the headline to the baseline's}}"""
    summary = {}
    for scenario in scenarios:
        rows = {t.name: [r["figures"] for r in results if r["scenario"] == scenario.name and r["target"] == t.name] for t in targets}
        summary[scenario.name] = {name: spread_of(rounds) for name, rounds in rows.items()}
        for name, rounds in rows.items():
            base = rows.get(baseline) or rows["direct"]
            pairs = [(a.get(scenario.headline), b.get(scenario.headline)) for a, b in zip(rounds, base, strict=False)]
            ratios = [a / b for a, b in pairs if a is not None and b]
            if ratios:
                summary[scenario.name][name]["ratio"] = spread(ratios)
    return summary


def spread(values):
    return {"median": statistics.median(values), "min": min(values), "max": max(values)}


def spread_of(rounds):
    names = dict.fromkeys(name for figures in rounds for name in figures)
    return {name: spread([f[name] for f in rounds if name in f]) for name in names}


def show(value):
    if value is None:
        return "-"
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:,.1f}" if abs(value) >= 10 else f"{value:.2f}"


def print_tables(summary, scenarios, targets, baseline, markdown):
    for scenario in scenarios:
        columns = COLUMNS[scenario.name]
        head = ["target", *columns, "spread", f"x {baseline}", "errors"]
        table = [
            table_row(summary[scenario.name][t.name], t.name, columns, scenario.headline)
            if t.state == "running"
            else [t.name, t.state.split(":")[0], *[""] * (len(head) - 2)]
            for t in targets
        ]
        print(f"\n### {scenario.name}: {scenario.headline}\n" if markdown else f"\n{scenario.name} ({scenario.headline})")
        print_table([head, *table], markdown)


def table_row(figures, name, columns, headline):
    cells = [show(figures[c]["median"]) if c in figures else "-" for c in columns]
    main, ratio = figures.get(headline), figures.get("ratio")
    width = f"{show(main['min'])}..{show(main['max'])}" if main else "-"
    return [
        name,
        *cells,
        width,
        f"{ratio['median']:.2f}" if ratio else "-",
        show(figures["errors"]["max"]) if figures["errors"]["max"] else "0",
    ]


def print_table(rows, markdown):
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    for number, row in enumerate(rows):
        cells = [cell.ljust(w) if i == 0 else cell.rjust(w) for i, (cell, w) in enumerate(zip(row, widths, strict=False))]
        print("| " + " | ".join(cells) + " |" if markdown else "  ".join(cells).rstrip())
        if markdown and number == 0:
            print("|" + "|".join("-" * (w + 1) + ("-" if i == 0 else ":") for i, w in enumerate(widths)) + "|")


def describe_machine(args, cores):
    names = [line.split(":")[1].strip() for line in pathlib.Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")]
    return {
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "cores": os.cpu_count(),
        "cpu": names[0] if names else "",
        "kernel": platform.release(),
        "python": platform.python_version(),
        "load_core": cores[0],
        "target_core": cores[1],
        "rounds": args.rounds,
        "seconds_factor": args.seconds_factor,
        "baseline": args.baseline,
        "load_average": os.getloadavg(),
    }


def write_json(args, machine, targets, results, summary):
    """Written after each round, so that a run that is cut off leaves what it has."""
    if not args.json:
        return
    document = {
        "machine": machine,
        "targets": {
            t.name: {"state": t.state, "version": t.version, "model": t.model, "idle_cpu_percent": t.idle_cpu_percent} for t in targets
        },
        "summary": summary,
        "results": results,
    }
    pathlib.Path(args.json).write_text(json.dumps(document, indent=1) + "\n")
