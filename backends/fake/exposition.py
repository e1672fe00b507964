"""The fake's `/metrics`, under vLLM's names."""

from __future__ import annotations

import time

from backends.fake.server import FakeServer

_BOUNDS = (0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0, 20.0)


def text(server: FakeServer) -> str:
    """Prometheus text format."""
    label = f'model_name="{server.name}",engine="0"'
    engine, counters = server.engine, server.counters
    lines: list[str] = []

    def one(name: str, kind: str, value: float, more: str = "") -> None:
        lines.append(f"# TYPE vllm:{name} {kind}")
        lines.append(f"vllm:{name}{{{label}{more}}} {value}")

    one("num_requests_running", "gauge", float(engine.running))
    one("num_requests_waiting", "gauge", float(engine.waiting))
    one("kv_cache_usage_perc", "gauge", min(1.0, engine.running / max(1, engine.latency.seqs)))
    one("prompt_tokens_total", "counter", float(counters.prompt_tokens))
    one("generation_tokens_total", "counter", float(counters.generation_tokens))
    one("prefix_cache_queries_total", "counter", float(engine.prefix_queries))
    one("prefix_cache_hits_total", "counter", float(engine.prefix_hits))
    lines.append("# TYPE vllm:request_success_total counter")
    for reason in ("stop", "length", "tool_calls"):
        lines.append(f'vllm:request_success_total{{{label},finished_reason="{reason}"}} {float(counters.requests.get(reason, 0))}')
    seconds = list(engine.first_token_seconds)
    lines.append("# TYPE vllm:time_to_first_token_seconds histogram")
    for bound in _BOUNDS:
        lines.append(f'vllm:time_to_first_token_seconds_bucket{{{label},le="{bound}"}} {float(sum(s <= bound for s in seconds))}')
    lines.append(f'vllm:time_to_first_token_seconds_bucket{{{label},le="+Inf"}} {float(len(seconds))}')
    lines.append(f"vllm:time_to_first_token_seconds_count{{{label}}} {float(len(seconds))}")
    lines.append(f"vllm:time_to_first_token_seconds_sum{{{label}}} {sum(seconds)}")
    lines += _sleep_state(server, label)
    lines += _adapters(server)
    return "\n".join(lines) + "\n"


def _sleep_state(server: FakeServer, label: str) -> list[str]:
    states = ("awake", "weights_offloaded", "discard_all")
    values = [f'vllm:engine_sleep_state{{{label},sleep_state="{s}"}} {float(server.sleeper.level == n)}' for n, s in enumerate(states)]
    return ["# TYPE vllm:engine_sleep_state gauge", *values]


def _adapters(server: FakeServer) -> list[str]:
    """As vLLM with LoRA: names of the adapters that requests wait for or run with, and when that was."""
    waiting, running = (",".join(name for name, count in calls.items() if count) for calls in server.adapter_calls)
    if not server.adapters:
        return []
    names = f'max_lora="{server.residency.max_loras}",waiting_lora_adapters="{waiting}",running_lora_adapters="{running}"'
    return ["# TYPE vllm:lora_requests_info gauge", f"vllm:lora_requests_info{{{names}}} {time.time()}"]
