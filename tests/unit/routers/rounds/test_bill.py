"""What an ask will cost: by the prompt's length, and by what is asked."""

from __future__ import annotations

import numpy as np
import pytest

from routers.learned import Lessons, Prompts
from routers.rounds import bill
from routers.rounds.bill import LEAST, MOST, Bill

NAMES = ("small", "large")


def lessons(count: int = 1200, seed: int = 0) -> Lessons:
    """The longer a prompt, the dearer; and where its vector's first number is high, `large` writes at length."""
    rng = np.random.default_rng(seed)
    vectors = rng.normal(size=(count, 8)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    texts = tuple("x" * int(size) for size in rng.integers(100, 3000, count))
    length = np.array([len(text) for text in texts])[:, None] / 1000
    usual = np.array([1e-5, 1e-4]) + np.array([1e-5, 2e-5]) * length
    share = np.stack([np.ones(count), 1 + 0.8 * vectors[:, 0]], axis=1)
    costs = (usual * share * rng.uniform(0.9, 1.1, (count, 2))).astype(np.float32)
    return Lessons(Prompts(vectors, texts), np.ones((count, 2), np.float32), costs, NAMES, ("made-up",) * count)


def test_it_foresees_what_made_the_costs() -> None:
    learned, held = bill.fit(lessons()), lessons(seed=1)
    means = held.costs.mean(axis=0)
    found = learned.costs(held.prompts, means)
    assert np.abs(found / held.costs - 1).mean() < 0.08
    assert np.corrcoef(learned.shares(held.prompts.vectors)[:, 1], held.prompts.vectors[:, 0])[0, 1] > 0.98
    assert learned.shares(held.prompts.vectors)[:, 0] == pytest.approx(1, abs=0.1)


def test_who_came_later_is_as_much_dearer_as_the_others_are() -> None:
    known = Bill(np.array([[1.0, 2.0], [0.0, 0.0], [0.1, 0.2]], np.float32), np.array([[0.5, -0.5], [1.0, 1.0]], np.float32))
    asked = Prompts(np.array([[1.0], [-1.0]], np.float32), ("", "x" * 1000))
    assert known.shares(asked.vectors, 3).tolist() == [[1.5, 0.5, 1.0], [0.5, 1.5, 1.0]]
    found = known.costs(asked, np.array([1.0, 1.0, 10.0], np.float32))
    assert found.tolist() == [[1.5, 1.0, 12.5], [0.5, 3.0, 17.5]]


def test_no_question_is_believed_to_be_nearly_free_or_ruinous() -> None:
    known = Bill(np.array([[1.0], [-10.0], [0.2]], np.float32), np.array([[100.0], [1.0]], np.float32))
    asked = Prompts(np.array([[1.0], [-1.0]], np.float32), ("", "x" * 1000))
    assert known.shares(asked.vectors)[:, 0].tolist() == [MOST, LEAST]
    assert known.costs(asked, np.ones(1, np.float32))[:, 0] == pytest.approx([3.0, 0.2 * 0.3])


def test_a_model_that_costs_nothing_stays_free() -> None:
    free = lessons()
    costs = free.costs.copy()
    costs[:, 0] = 0
    learned = bill.fit(Lessons(free.prompts, free.scores, costs, NAMES, free.datasets))
    found = learned.costs(free.prompts, costs.mean(axis=0))
    assert np.isfinite(found).all()
    assert (found[:, 0] == 0).all()
