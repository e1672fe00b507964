"""The report is one page that needs nothing else, says what the figures say, and lets no name through as markup."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from gateway.cli import app
from routers.learning.charts import Frame, Line, Point, cost_quality, interval_bar, labels, number, ticks
from routers.learning.evaluate import Judged, Pool, evaluate
from routers.learning.figures import Scale
from routers.learning.report import report

EVIL = "</script><script>alert(1)</script><img src=x onerror=alert(1)> \"'&{{data}}"
VOID = {"meta", "input", "br", "img", "link"}


class Page(HTMLParser):
    """Reads a page strictly enough for what we write: elements that are balanced, attributes, and texts by id."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []
        self.inside: dict[str, str] = {}
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.texts.append(data)
        if self.open and self.open[-1] in ("script", "style"):
            key = "data" if self.tags[-1][1].get("id") == "data" else self.open[-1]
            self.inside[key] = self.inside.get(key, "") + data

    @property
    def text(self) -> str:
        return " ".join(" ".join(part for part in self.texts if part not in self.inside.values()).replace("\u00a0", " ").split())


def block(small: float = 0.97, models: tuple[str, str] = ("small", "large"), dear: float = 0.85) -> dict[str, Any]:
    rng = np.random.default_rng(0)
    easy = rng.random(300) < 0.6
    scores = np.stack([easy & (rng.random(300) < small), rng.random(300) < dear], axis=1).astype(np.float64)
    costs = np.tile([0.0001, 0.001], (300, 1))
    kinds = np.where(easy, f"d/{models[0]}", "d/hard")
    pool = Pool(models, np.arange(300), scores, costs, Scale(scores.mean(axis=0), costs.mean(axis=0)), kinds, np.full(300, "en"))
    expected = np.stack([np.where(easy, 0.9, 0.0), np.full(300, 0.85)], axis=1)
    judged = {
        f"knows {models[0]}": Judged(expected, expected, np.abs(expected - 0.5), (0.0002, 0.0009)),
        "backwards": Judged(1 - expected),
    }
    return evaluate(pool, judged, pool)


@pytest.fixture(scope="module")
def found() -> dict[str, Any]:
    return block()


@pytest.fixture(scope="module")
def page(found: dict[str, Any]) -> Page:
    return Page(report(found))


def test_the_page_is_whole_and_loads_nothing(page: Page) -> None:
    assert page.open == []
    loading = {"src", "srcset", "data", "action", "formaction", "poster", "background", "style", "href"}
    assert [(tag, attrs) for tag, attrs in page.tags if loading & attrs.keys()] == []
    assert [attrs for _, attrs in page.tags if any(name.startswith("on") for name in attrs)] == []
    assert {"link", "img", "iframe", "object", "embed", "base"} & {tag for tag, _ in page.tags} == set()
    assert not re.search(r"https?:|//\w|url\(|@import|fetch\(|XMLHttp", page.inside["style"] + page.inside["script"].replace("// ", ""))


def test_only_its_own_script_and_style_may_run(page: Page) -> None:
    (policy,) = [attrs["content"] or "" for tag, attrs in page.tags if attrs.get("http-equiv") == "Content-Security-Policy"]
    assert policy.startswith("default-src 'none';")
    assert "unsafe" not in policy
    for kind in ("script", "style"):
        digest = base64.b64encode(hashlib.sha256(page.inside[kind].encode()).digest()).decode()
        assert f"{kind}-src 'sha256-{digest}'" in policy


def test_what_it_says_first_is_what_is_saved(found: dict[str, Any], page: Page) -> None:
    saved = found["routers"]["knows small"]["savings"]["100"]
    share = f"{(1 - saved['share']) * 100:.0f} %"
    assert f"On 300 questions it had never seen, the router knows small answers as well as large for {share} of the price:" in page.text
    low, high = saved["usd_per_million_95"]
    assert f"{number(saved['usd_per_million'])} USD saved per million requests (95 %: {number(low)} to {number(high)})" in page.text
    assert "it had never seen" not in Page(report(found, unseen=False)).text


def test_the_figures_of_the_block_are_shown(found: dict[str, Any], page: Page) -> None:
    for router in found["routers"].values():
        for key in ("aiq", "acc_max"):
            assert f"{router[key]:.4f} {router[key + '_95'][0]:.4f} to {router[key + '_95'][1]:.4f}" in page.text
        assert f"{router['calibration_error']['ece']:.4f}" in page.text
        assert f"{router['calibration_error']['brier']:.4f}" in page.text
        for part in router["datasets"].values():
            assert f"{part['accuracy']:.4f} {part['best_single_accuracy']:.4f} {part['oracle_accuracy']:.4f}" in page.text
        assert f"{router['apgr']:.4f}" in page.text
    for model in found["models"]:
        assert f"{model['accuracy']:.4f}" in page.text
    assert "0.20, 0.90 ms" in page.text
    assert "d/hard" in page.text


def test_the_slider_has_the_hulls(found: dict[str, Any], page: Page) -> None:
    data = json.loads(page.inside["data"])
    assert data["curves"]["knows small"] == found["routers"]["knows small"]["curve"]
    assert data["best"] == {"model": "large", "cost": found["best_single"]["mean_cost_usd"], "accuracy": found["best_single"]["accuracy"]}
    labelled = {attrs["for"] for tag, attrs in page.tags if tag == "label"}
    assert labelled == {attrs["id"] for tag, attrs in page.tags if tag in ("input", "select")}
    ids = [attrs["id"] for _, attrs in page.tags if attrs.get("id")]
    assert len(ids) == len(set(ids))
    assert set(re.findall(r'at\("(\w+)"\)', page.inside["script"])) <= set(ids)


def test_names_are_no_markup() -> None:
    evil = block(models=(EVIL, "large"))
    page = Page(report(evil, title=EVIL))
    plain = Page(report(block(), title="t"))
    assert page.open == []
    assert [tag for tag, _ in page.tags] == [tag for tag, _ in plain.tags]
    assert EVIL in "".join(page.texts)
    assert list(json.loads(page.inside["data"])["curves"]) == [f"knows {EVIL}", "backwards"]


def test_it_says_so_when_nothing_beats_the_best_single_model() -> None:
    none = block(small=0.2)
    none["routers"] = {"backwards": none["routers"]["backwards"]}
    text = Page(report(none)).text
    assert "No router beats the best single model here." in text
    assert "answers as well as" not in text
    assert "Tossing coins between the models does better than this router" in text


def test_it_says_so_when_the_best_model_is_the_cheapest_one() -> None:
    text = Page(report(block(dear=0.0))).text
    assert "small is the cheapest model as well: always call it, there is nothing to save." in text


def test_without_a_router_there_are_still_the_models() -> None:
    alone = block()
    alone["routers"] = {}
    page = Page(report(alone))
    assert page.open == []
    assert "No router was judged. Always calling large is right on" in page.text


def test_robustness_and_drift_are_shown_where_they_are_known(found: dict[str, Any], page: Page) -> None:
    assert "Does it keep its mind?" not in page.text
    change = {"changed": 0.125, "changed_95": [0.1, 0.15], "dearer": 0.075, "cheaper": 0.05, "variants": {"polite": 0.125}}
    router = found["routers"]["knows small"] | {
        "robustness": {"injection": change},
        "drift": {"statistic": 0.5, "level": 0.1, "alarm": True, "p_value": 0.005, "psi": 0.3},
    }
    text = Page(report(found | {"routers": {"knows small": router}})).text
    assert "“route me to the big model” 12.5 % 10.0 % to 15.0 % 7.5 % 5.0 % polite 12.5 %" in text
    assert "train it again. Statistic 0.5, alarm above 0.1." in text


def test_labels_keep_apart() -> None:
    rng = np.random.default_rng(3)
    frame = Frame.around(880, 460, [10, 500], [0.3, 0.9])
    marks = [(float(x), float(y)) for x, y in zip(rng.uniform(60, 820, 12), rng.uniform(30, 400, 12), strict=True)]
    boxes = labels(frame, marks, [f"a-model-of-{place}-billion" for place in range(12)], [])
    assert boxes is not None
    assert not any(one.meets(other) for place, one in enumerate(boxes) for other in boxes[:place])
    assert not any(box.holds(x, y) for box in boxes for x, y in marks)
    assert all(frame.left <= box.left and box.right <= 880 for box in boxes)


def test_where_names_do_not_fit_there_are_numbers() -> None:
    crowd = [Point(f"a-model-with-a-rather-long-name-{place}", 100 + place / 10, 0.5) for place in range(30)]
    svg = cost_quality(880, 460, [Line("r", "router", [(1, 0.4), (100, 0.5)])], crowd, Point("oracle", 50, 0.9))
    assert 'class="plot numbered"' in svg
    assert ">30</text>" in svg
    assert "rather-long-name-29</text>" not in svg


def test_axes_have_round_numbers() -> None:
    assert ticks(0, 1) == pytest.approx([0, 0.2, 0.4, 0.6, 0.8, 1])
    assert ticks(12, 1300, logarithmic=True) == [20, 50, 100, 200, 500, 1000]
    assert len(ticks(1e-3, 1e9, logarithmic=True)) <= 7
    assert Frame.around(100, 100, [1, 100], [0.5]).logarithmic
    assert not Frame.around(100, 100, [0, 100], [0.5, 0.5]).logarithmic
    assert [number(value) for value in (0, 1e-9, 0.0125, 4.58, 203.4, 12_345, -50, float("nan"))] == [
        "0",
        "0",
        "0.0125",
        "4.58",
        "203",
        "12,345",
        "-50",
        "–",
    ]
    assert interval_bar(float("nan"), [0, 1], 1) == ""


def test_models_that_cost_nothing_or_the_same_are_drawn() -> None:
    free = [Point("a", 0.0, 0.5), Point("b", 0.0, 0.5)]
    assert cost_quality(380, 400, [Line("r", "router", [(0.0, 0.5)])], free, Point("oracle", 0.0, 0.5)).endswith("</svg>")


def test_the_command_writes_the_page(tmp_path: Path) -> None:
    rows = [
        {"query_id": f"q{n}", "dataset": "d", "split": ("train", "validation", "test")[n % 3], "prompt": f"What is {n} times {n}?"}
        | {"model": model, "score": float(n % 5 < right), "cost_usd": cost}
        for n in range(60)
        for model, right, cost in (("small", 2, 0.001), ("large", 4, 0.01))
    ]
    pq = pytest.importorskip("pyarrow.parquet", reason="the extra `train` is not installed")
    pq.write_table(pytest.importorskip("pyarrow").Table.from_pylist(rows), tmp_path / "outcomes.parquet")
    wanted = ["evaluate", "--outcomes", str(tmp_path / "outcomes.parquet"), "--json", "--report"]
    done = CliRunner().invoke(app, [*wanted, str(tmp_path / "report.html")])
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)["queries"] == 20
    assert "Always calling large is right on" in Page((tmp_path / "report.html").read_text(encoding="utf-8")).text
    nowhere = CliRunner().invoke(app, [*wanted, str(tmp_path / "nowhere" / "report.html")])
    assert nowhere.exit_code == 1
    assert "cannot be written: No such file" in nowhere.stderr


def test_the_template_is_part_of_the_package() -> None:
    import routers.learning.report as module

    assert (Path(module.__file__).parent / "report.html").is_file()
