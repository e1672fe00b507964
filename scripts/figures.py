"""Trains every learned router on recorded outcomes of real models, judges them on questions that none has seen, and writes the tables of
README.md and docs/which-router.md anew. `make figures` runs it; reports stay in .cache/figures.

The tables come from the folder POINTSMAN_DATA, default ../shared/data; `pointsman outcomes import` makes them from the public projects.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from routers.families import FAMILIES

ROOT = Path(__file__).resolve().parent.parent
DATA = Path(os.environ.get("POINTSMAN_DATA") or ROOT.parent / "shared" / "data")
BUILD = ROOT / ".cache" / "figures"
POINTSMAN = [sys.executable, "-m", "gateway"]
LADDER = (
    "Phi-3-mini-4k-instruct Llama-3.1-8B-Instruct mathstral-7B Mixtral-8x7B-Instruct-v0.1 Yi-34B Qwen1.5-72B-Chat Llama-3.1-70B-Instruct "
    "gemini-1.5-pro-002"
).split()
POOLS: Mapping[str, tuple[str, Sequence[str] | None]] = {
    "mmlupro-ladder8": ("mmlupro", LADDER),
    "llmrouter9": ("llmrouter", None),
    "routellm2": ("routellm", None),
}
BEGIN, END = "<!-- figures: made by `make figures` -->", "<!-- end of figures -->"


def main() -> int:
    if not (DATA / "models.parquet").is_file():
        print(f"there are no outcome tables at {DATA}; POINTSMAN_DATA names another folder.", file=sys.stderr)
        print("pointsman outcomes import mmlu-pro|routellm|llmrouter PATH --out FOLDER/NAME.parquet makes them.", file=sys.stderr)
        return 1
    wanted = sys.argv[1:] or list(POOLS)
    blocks = {}
    for pool in wanted:
        blocks[pool] = judge(pool, *POOLS[pool])
    if set(wanted) == set(POOLS):
        table = markdown(blocks)
        for page in ("README.md", "docs/which-router.md"):
            put(ROOT / page, table)
    return 0


def judge(pool: str, table: str, models: Sequence[str] | None) -> dict[str, Any]:
    """Every family trained on a pool, judged side by side; what is there already is not trained again."""
    common = ["--outcomes", str(DATA / f"{table}.parquet"), "--vectors", str(BUILD / f"{table}.vectors")]
    common += ["--models", ",".join(models)] if models else []
    folder = BUILD / pool
    folder.mkdir(parents=True, exist_ok=True)
    seconds = json.loads((folder / "seconds.json").read_text()) if (folder / "seconds.json").is_file() else {}
    for name in FAMILIES:
        if not (folder / name / "manifest.json").is_file():
            started = time.monotonic()
            subprocess.run([*POINTSMAN, "train", name, *common, "--out", str(folder / name)], check=True, cwd=ROOT)
            seconds[name] = round(time.monotonic() - started, 1)
            (folder / "seconds.json").write_text(json.dumps(seconds))
    artifacts = [argument for name in FAMILIES for argument in ("--artifact", str(folder / name))]
    done = subprocess.run(
        [*POINTSMAN, "evaluate", *common, *artifacts, "--report", str(folder / "report.html"), "--json"],
        check=True, cwd=ROOT, stdout=subprocess.PIPE,
    )  # fmt: skip
    (folder / "figures.json").write_bytes(done.stdout)
    found: dict[str, Any] = json.loads(done.stdout)
    for name, block in found["routers"].items():
        print(f"{pool} {name}: AIQ {block['aiq']:.4f}, gap closed {block['gap_closed']:.1%}, trained in {seconds.get(name)} s", flush=True)
    return found


def markdown(blocks: Mapping[str, Mapping[str, Any]]) -> str:
    """One table: a row for each router, three columns for each pool."""
    head = [f"{pool}: AIQ | max accuracy | gap closed" for pool in blocks]
    lines = [f"| router | {' | '.join(head)} | µs a decision |", "|---" * (2 + 3 * len(blocks)) + "|"]
    lines.append(
        "| best single model | " + " | ".join(f" | {block['best_single']['accuracy']:.4f} | 0 %" for block in blocks.values()) + " | |"
    )
    lines.append("| coin between models | " + " | ".join(f"{block['zero_router']['aiq']:.4f} | | " for block in blocks.values()) + " | |")
    for name in FAMILIES:
        cells = [_cells(block["routers"][name], block["routers"]["knn"], name) for block in blocks.values()]
        slowest = max(block["routers"][name]["decision_p50_seconds"] for block in blocks.values())
        lines.append(f"| `{name}` | {' | '.join(cells)} | {slowest * 1e6:.0f} |")
    return "\n".join(lines)


def _cells(block: Mapping[str, Any], knn: Mapping[str, Any], name: str) -> str:
    """AIQ with a mark where it is below kNN's, the greatest accuracy, the gap that it closes."""
    below = " ▽" if name != "knn" and block["aiq"] < knn["aiq"] else ""
    return f"{block['aiq']:.4f}{below} | {block['acc_max']:.4f} | {block['gap_closed']:.1%}"


def put(page: Path, table: str) -> None:
    """Writes a table between the marks of a page."""
    text = page.read_text(encoding="utf-8")
    before, rest = text.split(BEGIN)
    _, after = rest.split(END)
    page.write_text(f"{before}{BEGIN}\n{table}\n{END}{after}", encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main())
