"""What cards say of models, and all models of how easy a question is."""

from __future__ import annotations

import numpy as np
import pytest

from routers.api import Model, Price
from routers.learned import Lessons, Prompts
from routers.learning.ease import Judges
from routers.learning.foresight import family, foresee
from routers.scorers import prior


def card(name: str, price: float, description: str = "") -> Model:
    return Model(name, Price(price, price), description=description)


SIZES = (3, 8, 14, 30, 70, 110)
CARDS = (*(card(f"wren-{size}B-chat", size / 100) for size in SIZES), card("wren-48B-chat", 0.48), card("wren-4000B-chat", 40.0))


def test_a_trend_over_the_known_models_goes_on() -> None:
    strengths = np.log10(np.array(SIZES)) - 1.5
    mean, spread = foresee(CARDS, range(len(SIZES)), strengths)
    assert mean[6] == pytest.approx(np.log10(48) - 1.5, abs=0.1)
    assert mean[7] > strengths.max()
    assert spread[7] > spread[6] > 0, "beyond what is known, less is known"


def test_where_cards_say_nothing_the_newcomer_is_as_the_others_are() -> None:
    cards = [Model(f"{letter * 3}") for letter in "abcdef"]
    strengths = np.array([-1.0, -0.5, 0.0, 0.5, 1.0])
    mean, spread = foresee(cards, range(5), strengths)
    assert mean[5] == pytest.approx(0, abs=0.05)
    assert 0.5 < spread[5] < 1.5


def test_words_that_some_cards_share_count() -> None:
    """Base models here, chat models there: all else is the same."""
    cards = [Model(f"{letter * 4}-7b", description=f"Dense {kind} model.") for letter in "abcdefgh" for kind in ("base", "chat")]
    strengths = np.array([-0.5, 0.5] * 7)
    mean, _ = foresee(cards, range(14), strengths)
    assert mean[14] < -0.2
    assert mean[15] > 0.2


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("Llama-3.1-70B-Instruct", "llama 3.1"),
        ("meta/Llama-3.1-8B", "llama 3.1"),
        ("Mixtral-8x7B-v0.1", "mixtral"),
        ("gemini-1.5-pro-002", "gemini 1.5"),
    ],
)
def test_a_family_is_named_without_size_and_manner(name: str, found: str) -> None:
    assert family(name) == found


def test_all_who_answered_say_how_easy_a_question_is() -> None:
    rng = np.random.default_rng(1)
    ease = rng.normal(size=2000)
    chances = 1 / (1 + np.exp(-(ease[:, None] * 1.5 + np.linspace(-1, 1, 12))))
    scores = (rng.random(chances.shape) < chances).astype(np.float32)
    scores[rng.random(scores.shape) < 0.3] = np.nan
    judges = Judges.of(scores)
    assert np.corrcoef(judges.ease(scores), ease)[0, 1] > 0.8
    assert (judges.weights > 0).all()
    one = scores.copy()
    one[:, 0] = np.nan
    np.testing.assert_allclose(judges.ease(scores, without=0), judges.ease(one))
    nobody = np.full((3, 12), np.nan, dtype=np.float32)
    assert judges.ease(nobody).tolist() == [0, 0, 0]


def test_models_that_are_not_chosen_among_teach_what_a_card_says() -> None:
    """Two models are known that differ in nothing but luck; that large models are better, others say."""
    rng = np.random.default_rng(4)
    vectors = rng.normal(size=(400, 8)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    cards = (card("one-7B", 0.1), card("two-7B", 0.1), card("new-400B", 4.0))
    scores = (rng.random((400, 3)) < 0.4).astype(np.float32)
    scores[:, 2] = np.nan
    sizes = (7, 14, 30, 70, 140, 280)
    others = tuple(card(f"other-{size}B", size / 70) for size in sizes)
    aside = (rng.random((400, 6)) < np.log10(sizes) / 3).astype(np.float32)
    names = tuple(one.name for one in cards)
    asked = Prompts(vectors, ("",) * 400)
    alone = Lessons(asked, scores, scores, names, ("",) * 400, cards)
    taught = Lessons(asked, scores, scores, names, ("",) * 400, cards, aside=aside, aside_cards=others)
    before, after = (prior.fit(lessons, 100).means[2, 0] for lessons in (alone, taught))
    assert before < 0 < after


def test_cards_must_fit_the_outcomes_aside() -> None:
    one = np.eye(2, dtype=np.float32)
    with pytest.raises(ValueError, match="1 cards do not fit"):
        Lessons(Prompts(one, ("", "")), one, one, ("a", "b"), ("", ""), aside=one, aside_cards=(Model("c"),))
