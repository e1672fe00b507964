"""How a run is told to go, and how one goes on."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from routers.learning.router_r1 import course as courses
from routers.learning.router_r1.course import Course, begin, newest, point, read_curve, read_seen, write_curve, write_seen
from routers.learning.router_r1.episodes import RecordedExperts, play
from tests.unit.routers.learning.router_r1.toys import QUESTION, Told, stage

COURSE = Course("tiny", batch=8, group=4)
DATA = {"data_hash": "sha", "experts": ["a"]}


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"group": 3}, "not made of groups of 3"),
        ({"group": 1}, "at least 2"),
        ({"at_once": 3}, "parts of 3"),
        ({"alpha": 2.0}, "between 0 and 1"),
    ],
)
def test_numbers_that_do_not_go_together_are_refused(change: dict[str, Any], why: str) -> None:
    COURSE.check()
    with pytest.raises(ValueError, match=why):
        replace(COURSE, **change).check()


def test_a_run_goes_on_from_its_newest_whole_checkpoint(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    assert begin(folder, COURSE, DATA) is None
    assert begin(folder, COURSE, DATA) is None, "it ended before its first checkpoint"
    for step in (2, 10, 12):
        (folder / f"checkpoint-{step}").mkdir()
    for step in (2, 10):  # the last one was not written to its end
        write_seen(folder / f"checkpoint-{step}", [step / 4])
    found = begin(folder, replace(COURSE, steps=500, save_every=7), DATA)
    assert found == newest(folder) == folder / "checkpoint-10"
    assert read_seen(found) == [2.5]


def test_another_run_is_not_gone_on_with(tmp_path: Path) -> None:
    begin(tmp_path / "run", COURSE, DATA)
    with pytest.raises(ValueError, match="another run"):
        begin(tmp_path / "run", replace(COURSE, seed=1), DATA)
    with pytest.raises(ValueError, match="another run"):
        begin(tmp_path / "run", COURSE, {**DATA, "experts": ["b"]})
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "cat.png").touch()
    with pytest.raises(ValueError, match="something else"):
        begin(tmp_path / "photos", COURSE, DATA)


def test_a_point_is_the_mean_of_a_steps_episodes(tmp_path: Path) -> None:
    scripts = [["<search>large: a</search>", "<answer>B</answer>"], ["<answer>A</answer>"], ["no", "<answer>B</answer>"], ["no", "no"]]
    episodes = play(stage(), [QUESTION] * 4, Told(scripts), RecordedExperts())
    found = point(7, episodes, [1.0, 0.0, 1.0, -1.0], 2.0)
    assert (found.step, found.reward, found.format, found.clean, found.right) == (7, 0.25, 0.75, 0.5, 0.5)
    assert (found.asks, found.cost_usd, found.loss) == (0.25, pytest.approx(0.09 / 4), None)
    assert found.tokens == sum(len("".join(script)) for script in scripts) / 4
    write_curve(tmp_path / courses.CURVE, [found])
    assert read_curve(tmp_path / courses.CURVE) == [found]
    assert read_curve(tmp_path / "none") == []
    (tmp_path / "bad").write_text("{}\n")
    with pytest.raises(ValueError, match="no point of a learning curve"):
        read_curve(tmp_path / "bad")
