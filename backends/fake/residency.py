"""How long a fake server takes to sleep, to wake and to load adapters, and what it does with requests meanwhile."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Literal, get_args

WhileAsleep = Literal["hang", "refuse", "crash"]


@dataclass(frozen=True, slots=True)
class Residency:
    """Seconds for each action. `reload`: the weights from disk, after level 2. `loading`: before the server answers at all.

    `while_asleep`: what becomes of requests to a server that sleeps. `hang`: they wait until it wakes, as in vLLM since its scheduler
    pauses for sleep (vllm-project/vllm#34528); `crash`: the engine dies, as in older versions (#15483); `refuse`: 503, as a careful proxy
    before it would answer. `level`: at which it sleeps when it starts; 0: it starts awake, as vLLM does. `max_loras`: adapters at once.
    """

    sleep: float = 0.0
    wake: float = 0.0
    reload: float = 0.0
    adapter: float = 0.0
    loading: float = 0.0
    while_asleep: WhileAsleep = "hang"
    level: int = 0
    max_loras: int = 4

    def scaled(self, factor: float) -> Residency:
        """The same in `factor` times the time."""
        times: dict[str, Any] = {name: getattr(self, name) * factor for name in ("sleep", "wake", "reload", "adapter", "loading")}
        return replace(self, **times)


def of_size(gigabytes: float) -> Residency:
    """A model with so many gigabytes of weights on each GPU.

    Lines through what vLLM's blog measured on an A100 with vLLM 0.11 (https://blog.vllm.ai/2025/10/26/sleep-mode.html): 0.6B (1.2 GB)
    sleeps in 0.09 s, wakes in 0.25 s from level 1 and 0.85 s from level 2; 4.2B (8.4 GB) in 0.41, 0.82 and 2.58 s; 30B (61 GB) in 2.8 and
    2.9 s, level 2 not measured. Loading from nothing took 37 to 98 s, most of it not for the weights. Adapters are a guess: vLLM says
    nothing of them.
    """
    return Residency(
        sleep=0.04 + 0.045 * gigabytes,
        wake=0.2 + 0.044 * gigabytes,
        reload=0.36 + 0.2 * gigabytes,
        adapter=0.3,
        loading=40 + 0.24 * gigabytes,
    )


PRESETS = {"none": Residency(), "small": of_size(1.2), "medium": of_size(8.4), "large": of_size(61)}


def parse(text: str) -> Residency:
    """`PRESET`, or `KEY=VALUE,…` with `size` (GB), the fields' names and `scale`, which multiplies all times. A preset may come first.

    `loading` counts only if it is named: fakes start at once. Raises ValueError.
    """
    times = {"sleep", "wake", "reload", "adapter", "loading"}
    made, scale, more = Residency(), 1.0, dict[str, Any]()
    for part in text.split(","):
        key, _, value = part.partition("=")
        if not value and key in PRESETS:
            made = PRESETS[key]
        elif key == "while_asleep" and value in get_args(WhileAsleep):
            more[key] = value
        elif key == "size":
            made = of_size(float(value))
        elif key == "scale":
            scale = float(value)
        elif key in ("level", "max_loras"):
            more[key] = int(value)
        elif key in times:
            more[key] = float(value)
        else:
            known = f"size, scale, while_asleep, level, max_loras, {', '.join(sorted(times))}"
            raise ValueError(f"{part!r} is neither a preset ({', '.join(PRESETS)}) nor one of {known}")
    return replace(made, **{"loading": 0.0, **more}).scaled(scale)
