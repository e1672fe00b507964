"""How long a pool takes to choose a backend: µs for each scorer and for the default composition, heads of 16 KiB.

python -m tests.benchmarks.choosing
"""

from __future__ import annotations

import time
import timeit
from random import Random

from backends.load import Load, Sample
from backends.work import HEAD_BYTES, Work
from gateway.sections.balancing import BalancingSection, build_chooser

KINDS = ("round_robin", "in_flight", "load", "adapter", "tokens", "session", "prefix")
POOLS = (2, 8, 32)


class Standing:
    """A backend as scorers see it."""

    __slots__ = ("inflight", "inflight_tokens", "load", "served_as", "url")

    def __init__(self, number: int) -> None:
        self.url = f"http://10.0.0.{number}:8000/v1"
        self.served_as = "small"
        self.inflight = number % 3
        self.inflight_tokens = 1000 * number
        self.load = Load(3600.0)
        self.load.observe(Sample(3, 1, 0.5, frozenset({"small"}), 2), time.monotonic())


def microseconds(section: BalancingSection, count: int) -> float:
    """For one choice, at the best of many tries: a conversation's next turn, of 50 conversations that are known."""
    rng = Random(0)
    chooser, backends = build_chooser(section.scorers, rng, time.monotonic), [Standing(number) for number in range(count)]
    works = [Work(rng.randbytes(HEAD_BYTES), 10_000, 100, f"s-{number}") for number in range(50)]

    def choose() -> None:
        for work in works:
            chooser.choose(work, backends)

    choose()
    return min(timeit.repeat(choose, number=1, repeat=300)) / len(works) * 1e6


def main() -> None:
    sections = {kind: BalancingSection.model_validate({"scorers": [{"type": kind}]}) for kind in KINDS}
    sections["default"] = BalancingSection()
    print(f"{'scorers':12}" + "".join(f"{count:>4} backends" for count in POOLS))
    for name, section in sections.items():
        print(f"{name:12}" + "".join(f"{microseconds(section, count):10.1f} µs" for count in POOLS))


if __name__ == "__main__":
    main()
