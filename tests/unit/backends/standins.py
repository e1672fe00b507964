"""Backends as scorers see them."""

from __future__ import annotations

from dataclasses import dataclass, field

from hypothesis import strategies as st

from backends.load import Load, Sample


@dataclass(eq=False)
class StandIn:
    name: str
    served_as: str = "small"
    inflight: int = 0
    inflight_tokens: int = 0
    load: Load = field(default_factory=Load)

    @property
    def url(self) -> str:
        return f"http://{self.name}/v1"

    def says(self, now: float = 0.0, **fields: object) -> StandIn:
        """Its server's reading."""
        self.load.observe(Sample(**fields), now)  # type: ignore[arg-type]
        return self


def several(count: int, *inflight: int) -> list[StandIn]:
    """Backends a, b, c, … with so many calls in flight."""
    return [StandIn(f"10.0.0.{index}:8000", inflight=inflight[index] if inflight else 0) for index in range(count)]


@dataclass
class Clock:
    now: float = 0.0

    def __call__(self) -> float:
        return self.now


SAMPLES = st.builds(
    Sample,
    st.none() | st.integers(0, 10_000),
    st.none() | st.integers(0, 10_000),
    st.none() | st.floats(0, 1),
    st.none() | st.frozensets(st.sampled_from(["small", "sql", "law"])),
    st.none() | st.integers(1, 4),
)


@st.composite
def pools(draw: st.DrawFn) -> list[StandIn]:
    """Two to twelve backends in any state; some servers have said nothing, or not lately."""
    found = []
    for index in range(draw(st.integers(2, 12))):
        one = StandIn(f"10.0.0.{index}:8000", "small", draw(st.integers(0, 500)), draw(st.integers(0, 10**7)))
        if draw(st.booleans()):
            one.load.observe(draw(SAMPLES), draw(st.sampled_from([-100.0, 0.0])))
            one.load.drift = draw(st.integers(-50, 50))
        found.append(one)
    return found
