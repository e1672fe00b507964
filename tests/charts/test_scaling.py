"""deploy/SCALING.md: its examples are good, and its tables are what its own formulas give."""

from __future__ import annotations

import math
import re
from pathlib import Path

import yaml

from gateway.config import validate
from gateway.policies import build_routes
from gateway.source import parse
from routers.registry import Registry

ROOT = Path(__file__).resolve().parent.parent.parent
PAGE = (ROOT / "deploy/SCALING.md").read_text(encoding="utf-8")
REQUEST, EVENT, BACKEND, FULL = 96e-6, 70e-6, 0.9e-3, 0.65


def workers(requests: float, tokens: float, backends: int = 0, learned: float = 0.0) -> int:
    """By the page's formula. `learned`: seconds of CPU for learned routers, each second."""
    return math.ceil((requests * REQUEST + tokens * EVENT + learned) / (FULL - backends * BACKEND))


def redis_gb(requests: float, decisions: float = 3600.0) -> float:
    """By the page's formula, with half of the prompts new and a fifth of the requests new conversations."""
    each = decisions * 1750 + 7200 * 104 + 0.5 * 300 * 490 + 0.2 * 3600 * 420
    return (requests * each + 100_000 * 1150) / 1e9


def test_the_configuration_of_several_regions_is_good() -> None:
    (text,) = [block for block in re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL) if block.startswith("models:")]
    source = parse(text, "SCALING.md", {"WEST_KEY": "key"})
    assert set(build_routes(validate(source), Registry(), source)) == {"auto"}


def test_the_policy_for_envoy_is_yaml() -> None:
    (text,) = re.findall(r"```yaml\n(  apiVersion.*?)```", PAGE, re.DOTALL)
    assert yaml.safe_load(text)["kind"] == "BackendTrafficPolicy"


def test_the_figures_of_the_benchmarks_are_those_of_the_benchmarks() -> None:
    measured = (ROOT / "tests/benchmarks/README.md").read_text(encoding="utf-8")
    for figure in ("10,371", "10,126", "201,543", "188"):
        assert figure in measured
        assert figure in PAGE


def test_the_table_of_workers_follows_from_the_formula() -> None:
    rows = re.findall(r"^\| ([^|]*requests/s[^|]*) \| [^|]* \| (\d+)\b[^|]*\|$", PAGE, re.MULTILINE)
    said = [int(count) for _, count in rows]
    assert said[:4] == [
        workers(50, 50 * 200, 4),
        workers(50, 50 * 200, learned=25 * 0.049),
        workers(500, 500 * 300, 40),
        workers(2000, 2000 * 300, 160),
    ]


def test_the_table_of_memory_follows_from_the_formula() -> None:
    rows = re.findall(r"^\| ([\d,]+) \| ([\d.]+) GB \| ([\d.]+) GB \|$", PAGE, re.MULTILINE)
    assert len(rows) == 4
    for requests, configured, short in rows:
        rate = float(requests.replace(",", ""))
        assert abs(float(configured) - redis_gb(rate)) <= 0.05 * redis_gb(rate) + 0.05
        assert abs(float(short) - redis_gb(rate, 600)) <= 0.05 * redis_gb(rate, 600) + 0.05
