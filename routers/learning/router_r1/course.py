"""How long and how hard a policy learns; what came of each step; and where both are kept while it learns."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from routers.learning.router_r1.episodes import Episode

COURSE = "course.json"
CURVE = "curve.jsonl"
SEEN = "costs.json"
"""In a checkpoint: what the last episodes cost, by which those after it are judged."""


@dataclass(frozen=True, slots=True)
class Course:
    """`policy`: folder or name of the model that learns. `batch`: episodes of a step; `group`: of each question among them; `at_once`: that
    many go through the model together. `rate`: of learning. `kl`: what a nat of distance to the untaught policy costs. `clip`: how far a
    token's chance may move in one update, as a share. `alpha`: how much cost counts. `lora`: rank; 0: all weights learn. `layers`: so many
    of the last ones learn; 0: all. `warm_up`: transcripts of a script that it imitates first, at `warm_rate`. `save_every`: steps between
    two checkpoints.
    """

    policy: str
    steps: int = 225
    batch: int = 64
    group: int = 8
    at_once: int = 4
    rate: float = 1e-6
    kl: float = 0.001
    clip: float = 0.2
    alpha: float = 0.5
    temperature: float = 1.0
    max_asks: int = 4
    policy_tokens: int = 600
    expert_tokens: int = 1024
    lora: int = 0
    layers: int = 0
    warm_up: int = 0
    warm_rate: float = 1e-5
    save_every: int = 25
    seed: int = 0

    def check(self) -> None:
        """Raises ValueError for numbers that do not go together."""
        if self.group < 2 or self.batch % self.group:
            raise ValueError(f"a batch of {self.batch} episodes is not made of groups of {self.group}; a group has at least 2")
        if self.batch % self.at_once:
            raise ValueError(f"a batch of {self.batch} episodes does not come in parts of {self.at_once}")
        if not 0 <= self.alpha <= 1:
            raise ValueError("alpha must be between 0 and 1")


@dataclass(frozen=True, slots=True)
class Point:
    """Means over the episodes of a step. `format`: share that ended with an answer; `clean`: share without any broken turn; `right`: share;
    `asks`, `cost_usd`: an episode's; `tokens`: that the policy wrote. `loss`, `kl`, `norm`: of the update; None where not known.
    """

    step: int
    reward: float
    format: float
    clean: float
    right: float
    asks: float
    cost_usd: float
    tokens: float
    seconds: float
    loss: float | None = None
    kl: float | None = None
    norm: float | None = None


def point(step: int, episodes: Sequence[Episode], rewards: Sequence[float], seconds: float) -> Point:
    """What came of a step's episodes."""
    count = len(episodes)
    return Point(
        step,
        sum(rewards) / count,
        sum(not one.broken for one in episodes) / count,
        sum(not one.broken and not one.repaired for one in episodes) / count,
        sum(one.right for one in episodes) / count,
        sum(one.asks for one in episodes) / count,
        sum(one.cost_usd for one in episodes) / count,
        sum(one.row.written for one in episodes) / count,
        seconds,
    )


def read_curve(file: Path) -> list[Point]:
    """The points of a file; none if there is no file. Raises ValueError for a line that is none."""
    if not file.is_file():
        return []
    try:
        return [Point(**json.loads(line)) for line in file.read_text(encoding="utf-8").splitlines() if line]
    except (TypeError, ValueError) as error:
        raise ValueError(f"{file}: holds a line that is no point of a learning curve: {error}") from None


def write_curve(file: Path, points: Sequence[Point]) -> None:
    file.write_text("".join(json.dumps(asdict(one)) + "\n" for one in points), encoding="utf-8")


def begin(folder: Path, course: Course, data: Mapping[str, object]) -> Path | None:
    """Prepares the folder of a run's checkpoints. `data`: what tells it from a run on something else, as JSON. Returns the newest
    checkpoint to go on from; None: it is a new run.

    Raises ValueError if the folder holds another run's.
    """
    folder.mkdir(parents=True, exist_ok=True)
    told = {**asdict(course), **data}
    told.pop("steps")  # a run may be made longer
    told.pop("save_every")
    file = folder / COURSE
    if file.is_file():
        if json.loads(file.read_text(encoding="utf-8")) != told:
            raise ValueError(f"{folder}: holds the checkpoints of another run; remove the folder to begin anew")
        return newest(folder)
    if any(folder.iterdir()):
        raise ValueError(f"{folder}: holds something else than a run's checkpoints")
    file.write_text(json.dumps(told, indent=2), encoding="utf-8")
    return None


def newest(folder: Path) -> Path | None:
    """The checkpoint of the greatest step that is whole: its costs are written last."""
    found = {int(one.name.partition("-")[2]): one for one in folder.glob("checkpoint-*") if (one / SEEN).is_file()}
    return found[max(found)] if found else None


def read_seen(checkpoint: Path) -> list[float]:
    return [float(cost) for cost in json.loads((checkpoint / SEEN).read_text(encoding="utf-8"))]


def write_seen(checkpoint: Path, seen: Sequence[float]) -> None:
    (checkpoint / SEEN).write_text(json.dumps(list(seen)), encoding="utf-8")
