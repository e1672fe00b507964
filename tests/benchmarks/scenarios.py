"""What is measured: the scenarios, and what stands for a server that is."""

import os
import pathlib
import subprocess
from dataclasses import dataclass, field

HERE = pathlib.Path(__file__).resolve().parent
TICKS = os.sysconf("SC_CLK_TCK")
MARK = "@@COUNTER@@@@@@@"
QUIET = {"chunks": 100, "ttft-ms": 0, "chunk-ms": 0, "delay-ms": 0}
CHAT = "/v1/chat/completions"


@dataclass(frozen=True)
class Scenario:
    name: str
    connections: int
    seconds: float
    headline: str  # the figure that the ratios are about
    stream: bool = False
    prompt: str = "small"  # small | big
    distinct: bool = False
    upstream: dict = field(default_factory=dict)


SCENARIOS = [
    Scenario("json32", 32, 3, "req_s"),
    Scenario("json1", 1, 2, "added_p50_us"),
    Scenario("stream32", 32, 3, "chunks_s", stream=True),
    Scenario("stream1_ttft", 1, 3, "added_ttft_p50_us", stream=True, upstream={"ttft-ms": 20, "chunks": 10}),
    Scenario("paced64", 64, 6, "gap_p99_us", stream=True, upstream={"chunk-ms": 20}),
    Scenario("big", 32, 3, "req_s", prompt="big"),
    Scenario("distinct32", 32, 3, "req_s", distinct=True),
]
COLUMNS = {  # the table of each scenario; every figure exists in the JSON for all
    "json32": ["req_s", "p50_us", "p99_us", "cpu_us_per_request", "cpu_percent", "rss_mb"],
    "json1": ["added_p50_us", "p50_us", "p99_us", "cpu_us_per_request"],
    "stream32": ["chunks_s", "req_s", "cpu_us_per_chunk", "cpu_percent", "chunks_per_stream", "rss_mb"],
    "stream1_ttft": ["added_ttft_p50_us", "ttft_p50_us", "ttft_p99_us"],
    "paced64": ["cpu_percent", "gap_p50_us", "gap_p99_us", "gap_max_us", "chunks_s", "rss_mb"],
    "big": ["req_s", "p50_us", "p99_us", "cpu_us_per_request", "cpu_percent", "rss_mb"],
    "distinct32": ["req_s", "p50_us", "p99_us", "cpu_us_per_request", "cpu_percent", "rss_mb"],
}


@dataclass
class Target:
    name: str
    url: str = ""
    model: str = "small"
    headers: list = field(default_factory=list)
    process: subprocess.Popen | None = None
    state: str = "running"  # running | not installed | failed: ...
    version: str = ""
    idle_cpu_percent: float | None = None
