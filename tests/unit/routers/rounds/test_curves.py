"""How a training went, for programs and for eyes."""

from __future__ import annotations

import json
import xml.etree.ElementTree as ElementTree
from dataclasses import replace
from pathlib import Path

from routers.learning.rounds.curves import CURVE, PAGE, curve, page, plot
from routers.learning.rounds.train import Trained


def test_it_lies_beside_the_artifact(folder: Path, trained: Trained) -> None:
    found = json.loads((folder / CURVE).read_text())
    assert found == curve(trained)
    assert [one["update"] for one in found["updates"]] == [0, 1]
    assert [look["update"] for look in found["looks"]] == [0, 1, 2]
    assert found["kept"] in (0, 1, 2)
    assert found["seed"] == 0
    assert (folder / PAGE).read_text() == page(found)


def test_what_is_kept_is_the_first_of_the_best(trained: Trained) -> None:
    level = replace(trained, looks=tuple(replace(look, aiq=0.5) for look in trained.looks))
    assert level.kept.update == 0
    assert trained.kept.aiq == max(look.aiq for look in trained.looks)


def test_the_page_is_whole_and_names_do_it_no_harm(trained: Trained) -> None:
    text = page({**curve(trained), "models": ["<script>alert(1)</script>"]})
    assert "<script>" not in text
    assert text.count("<svg") == 4
    for part in text.split("<svg")[1:]:
        ElementTree.fromstring("<svg" + part.partition("</svg>")[0] + "</svg>")


def test_a_plot_of_one_point_of_equal_ones_or_of_none() -> None:
    assert "circle" in plot([0], [0.5], 0)
    assert plot([0, 1, 2], [0.5, 0.5, 0.5]).count('class="place"') == 3
    assert "svg" not in plot([], [])
    bare = {"models": ["a"], "seed": 1, "validation_aiq": 0.5, "kept": 0, "looks": [{"update": 0, "aiq": 0.5}], "updates": []}
    assert "svg" in page(bare)
