"""The first bound: a cached decision in shares of nginx. `make bench-check`; never part of the tests, as these machines are noisy."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.bench
ROOT = Path(__file__).resolve().parent.parent.parent
LEAST = {"json32": 0.12, "stream32": 0.4}


def test_requests_and_chunks_in_shares_of_nginx(tmp_path: Path) -> None:
    absent = [name for name in ("nginx", "cc", "taskset") if shutil.which(name, path="/usr/sbin:/usr/bin:/usr/local/bin:/bin") is None]
    if absent:
        pytest.skip(f"not here: {', '.join(absent)}")
    out = tmp_path / "result.json"
    command = [sys.executable, "-m", "tests.benchmarks.bench", "--only", "nginx,pointsman", "--scenarios", ",".join(LEAST)]
    subprocess.run([*command, "--rounds", "3", "--seconds-factor", "0.7", "--json", str(out)], cwd=ROOT, check=True, timeout=300)
    results = json.loads(out.read_text())["summary"]
    for scenario, least in LEAST.items():
        figure = "req_s" if scenario == "json32" else "chunks_s"
        ours, nginx = (results[scenario][name][figure]["median"] for name in ("pointsman", "nginx"))
        print(f"{scenario}: {ours:,.0f} of {nginx:,.0f}, {ours / nginx:.3f} x nginx")
        assert ours >= least * nginx
