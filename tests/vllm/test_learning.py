"""Calibrate, train, evaluate and serve with two real LLMs. What comes of it is kept in .cache/vllm-learning, to be looked at."""

from __future__ import annotations

import json
import math
import shutil
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pyarrow.parquet as pq
import pytest
import yaml

from routers.families import serve
from routers.learned import LearnedScorer, Prompts
from routers.learning.outcomes import Outcomes, load
from tests.processes import free_port, process, wait_until_ready
from tests.vllm import servers
from tests.vllm.conftest import Stand

pytest.importorskip("jsonschema_rs", reason="the extra `train` is not installed")
pytest.importorskip("onnxruntime", reason="the extra `embed` is not installed")
pytestmark = pytest.mark.timeout(1200)  # all that is learned is made in the first test's time

FOLDER = servers.ROOT / ".cache" / "vllm-learning"
MODELS, ROUTERS = ("small", "large"), ("knn", "blend")
QUESTIONS, MAX_TOKENS, SEED = 160, 64, 0
FEWEST = 10
"""Questions of each split: with less, nothing can be fitted or said."""
PRICES = {"small": (0.02, 0.04), "large": (0.05, 0.10)}
"""USD for a million tokens in and out, as in `servers.gateway_config`."""
POINTSMAN = str(Path(sys.executable).parent / "pointsman")


@dataclass(frozen=True)
class Learned:
    """What the commands made. `calibration`, `evaluation`: what they printed as JSON. `seconds`: of each command."""

    calibration: dict[str, Any]
    evaluation: dict[str, Any]
    table: Outcomes
    seconds: dict[str, float]

    def scorer(self, name: str) -> LearnedScorer:
        return serve(FOLDER / name)

    def asked(self, split: str) -> list[int]:
        """Places of a split's questions in the table."""
        return [place for place, own in enumerate(self.table.splits) if own == split]


def command(name: str, *arguments: str) -> tuple[str, float]:
    """What the command printed, and its seconds; what it said besides is kept in NAME.log. It must succeed."""
    began = time.monotonic()
    with (FOLDER / f"{name}.log").open("wb") as log:
        done = subprocess.run([POINTSMAN, *arguments], stdout=subprocess.PIPE, stderr=log, timeout=1000, check=False)
    assert done.returncode == 0, (FOLDER / f"{name}.log").read_text(errors="replace")[-3000:]
    return done.stdout.decode(), time.monotonic() - began


def no_constant(name: str) -> float:
    raise ValueError(f"{name} is no JSON")


@pytest.fixture(scope="module")
def learned(stand: Stand) -> Learned:
    """Both models are asked a part of the starter set; two routers learn from it and are judged."""
    shutil.rmtree(FOLDER, ignore_errors=True)  # a journal of before would spare the models the questions
    FOLDER.mkdir(parents=True)
    config, outcomes, vectors = FOLDER / "gateway.yaml", str(FOLDER / "outcomes.parquet"), ("--vectors", str(FOLDER / "vectors"))
    config.write_text(servers.gateway_config(stand.experts), encoding="utf-8")
    part = ("--starter", "--limit", str(QUESTIONS), "--seed", str(SEED), "--max-tokens", str(MAX_TOKENS), "--max-cost-usd", "1")
    seconds = {}
    calibration, seconds["calibrate"] = command("calibrate", "calibrate", "-c", str(config), *part, "--out", outcomes, "--json")
    for name in ROUTERS:
        _, seconds[name] = command(name, "train", name, "--outcomes", outcomes, "--out", str(FOLDER / name), *vectors)
    artifacts = [argument for name in ROUTERS for argument in ("--artifact", str(FOLDER / name))]
    shown = ("--report", str(FOLDER / "report.html"), "--json")
    evaluation, seconds["evaluate"] = command("evaluate", "evaluate", "--outcomes", outcomes, *artifacts, *vectors, *shown)
    for name, text in (("calibration", calibration), ("evaluation", evaluation), ("seconds", json.dumps(seconds))):
        (FOLDER / f"{name}.json").write_text(text, encoding="utf-8")
    read = [json.loads(text, parse_constant=no_constant) for text in (calibration, evaluation)]
    return Learned(read[0], read[1], load(Path(outcomes), MODELS), seconds)


def test_the_table_holds_what_both_models_answered(learned: Learned) -> None:
    table = learned.table
    assert (len(table), sorted(table.models)) == (QUESTIONS, sorted(MODELS))
    assert not np.isnan(table.scores).any()
    rows = pq.read_table(FOLDER / "outcomes.parquet").to_pylist()
    for row in rows:
        price = PRICES[row["model"]]
        assert row["cost_usd"] == pytest.approx((row["tokens_in"] * price[0] + row["tokens_out"] * price[1]) / 1e6)
        assert 0 < row["tokens_out"] <= MAX_TOKENS
        assert 0 < row["latency_s"] < 600
    for model in learned.calibration["models"]:
        own = [row for row in rows if row["model"] == model["model"]]
        assert (model["outcomes"], model["reused"], model["missing"], model["failures"]) == (QUESTIONS, 0, 0, 0)
        assert model["score"] == pytest.approx(sum(row["score"] for row in own) / QUESTIONS)
        assert model["cost_usd"] == pytest.approx(sum(row["cost_usd"] for row in own))
        print(f"\n{model['model']}: score {model['score']:.3f}, {model['cost_usd']:.6f} USD, {model['latency_s']:.1f} s an answer")
    assert learned.calibration["spent_usd"] == pytest.approx(sum(row["cost_usd"] for row in rows))


def test_the_part_of_the_starter_set_is_a_fair_one(learned: Learned) -> None:
    kinds = Counter(learned.table.datasets)
    assert len(kinds) == 11, "all but those whose answers are programs"
    assert 0.03 < min(kinds.values()) / QUESTIONS <= max(kinds.values()) / QUESTIONS < 0.2
    languages = Counter(query.split("/")[2] for query in learned.table.queries)
    assert len(languages) == 6
    assert min(languages.values()) / QUESTIONS > 0.08
    assert all(len(learned.asked(split)) >= FEWEST for split in ("train", "validation", "test"))
    print(f"\n{dict(kinds)}\n{dict(languages)}\n{dict(Counter(learned.table.splits))}")


@pytest.mark.parametrize("name", ROUTERS)
def test_an_artifact_expects_something_of_both_models(learned: Learned, name: str) -> None:
    scorer = learned.scorer(name)
    assert (scorer.kind, sorted(scorer.models)) == (name, sorted(MODELS))
    texts = tuple(learned.table.prompts[place] for place in learned.asked("test"))
    found = scorer.expect(Prompts(scorer.encoder.encode(texts), texts), MODELS)
    assert found.mean.shape == found.spread.shape == (len(texts), 2)
    assert ((found.mean >= 0) & (found.mean <= 1)).all()
    assert (np.isfinite(found.spread) & (found.spread >= 0)).all()


def numbers(found: object) -> Iterator[float]:
    """Every number in a JSON document."""
    if isinstance(found, dict | list):
        for one in found.values() if isinstance(found, dict) else found:
            yield from numbers(one)
    elif isinstance(found, int | float):
        yield found


def test_the_evaluation_and_its_report(learned: Learned) -> None:
    found, places = learned.evaluation, learned.asked("test")
    assert found["queries"] == len(places)
    assert all(math.isfinite(number) for number in numbers(found))
    for model in found["models"]:
        column = learned.table.models.index(model["model"])
        assert model["accuracy"] == pytest.approx(learned.table.scores[places, column].mean())
        assert model["mean_cost_usd"] == pytest.approx(learned.table.costs[places, column].mean())
        print(f"\nalways {model['model']}: {model['accuracy']:.4f} at {model['mean_cost_usd']:.3g} USD a question")
    best = found["oracle"]["accuracy"]
    assert 0 <= found["random_mix"]["accuracy"] <= max(model["accuracy"] for model in found["models"]) + 1e-9 <= best + 2e-9
    print(f"zero-router: AIQ {found['zero_router']['aiq']:.4f}; oracle {best:.4f} at {found['oracle']['mean_cost_usd']:.3g} USD")
    assert sorted(found["routers"]) == sorted(ROUTERS)
    for name, router in found["routers"].items():
        low, high = router["aiq_95"]
        assert 0 <= low <= high <= 1
        assert 0 <= router["aiq"] <= router["acc_max"] + 1e-9 <= best + 2e-9
        assert router["aiq_gain_over_zero"] == pytest.approx(router["aiq"] - found["zero_router"]["aiq"])
        assert sorted(router["shares"]) == sorted(MODELS)
        assert sum(router["shares"].values()) == pytest.approx(1)
        print(f"{name}: AIQ {router['aiq']:.4f} ({low:.3f} to {high:.3f}), at most {router['acc_max']:.4f}, shares {router['shares']}")
    page = (FOLDER / "report.html").read_text(encoding="utf-8")
    assert all(f">{name}<" in page for name in (*MODELS, *ROUTERS))
    assert "http-equiv" in page
    print(f"seconds: { {step: round(seconds, 1) for step, seconds in learned.seconds.items()} }; report: {FOLDER / 'report.html'}")


@pytest.fixture(scope="module")
def route(stand: Stand, learned: Learned, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A gateway whose route `learned` asks the blend. Yields its base URL without /v1."""
    folder = tmp_path_factory.mktemp("learned")
    document = yaml.safe_load(servers.gateway_config(stand.experts))
    scorers = [{"type": "blend", "artifact": str(FOLDER / "blend")}, {"type": "cost", "weight": 0.01}]
    # Two servers share the processors with the gateway, so a decision may be late.
    document["routes"] = [{"name": "learned", "models": list(MODELS), "decision_deadline_ms": 10_000, "policy": {"scorers": scorers}}]
    (folder / "gateway.yaml").write_text(yaml.safe_dump(document), encoding="utf-8")
    port = free_port()
    with process([POINTSMAN, "serve", "--config", str(folder / "gateway.yaml"), "--port", str(port)], folder / "log") as started:
        wait_until_ready(f"http://127.0.0.1:{port}/readyz", started, folder / "log")
        yield f"http://127.0.0.1:{port}"


@pytest.mark.parametrize(
    "question", ["Which ocean lies between Africa and Australia?", "48 × 12 = ?", "Übersetze ins Englische: Die Katze schläft."]
)
def test_a_route_serves_what_was_learned(route: str, learned: Learned, question: str) -> None:
    body = {"model": "learned", "messages": [{"role": "user", "content": question}], "max_tokens": 24, "temperature": 0}
    answer = httpx.post(f"{route}/v1/chat/completions", json=body, timeout=120)
    assert answer.status_code == 200, answer.text
    document = answer.json()
    assert document["choices"][0]["message"]["content"].strip()
    decision = httpx.get(f"{route}/v1/decisions/{answer.headers['x-router-decision-id']}", timeout=10).json()
    assert (decision["route"], decision["reason"], decision["errors"]) == ("learned", "best_score", {})
    assert decision["model"] == document["model"] == answer.headers["x-router-model"]
    opinions = {candidate["model"]: candidate["opinions"]["blend"] for candidate in decision["candidates"]}
    assert sorted(opinions) == sorted(MODELS)
    assert all(0 <= opinion <= 1 for opinion in opinions.values())
    scorer = learned.scorer("blend")
    expected = scorer.expect(Prompts(scorer.encoder.encode([question]), (question,)), MODELS).mean[0]
    assert [opinions[name] for name in MODELS] == pytest.approx(expected.tolist(), abs=1e-3), "what serves is what was trained"
    print(f"\n{question!r} -> {decision['model']}, blend: { {name: round(opinion, 3) for name, opinion in opinions.items()} }")
