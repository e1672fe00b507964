"""A router that looks at what is asked keeps its mind; one that looks at how long or how urgent a text is does not."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from routers.learning.figures import Scale
from routers.learning.robustness import rewordings, robustness

TEXTS = [f"Which of the following is correct? Calculate {n} + {n + 1}, number {n}." for n in range(40)]
SCALE = Scale(np.array([0.5, 0.8]), np.array([0.001, 0.01]))


def test_a_router_that_never_looks_never_changes() -> None:
    found = robustness(lambda texts: np.tile([0.4, 0.6], (len(texts), 1)), TEXTS, SCALE)
    assert set(found) == {"paraphrase", "junk", "injection", "language"}
    for kind in found.values():
        assert (kind["changed"], kind["changed_95"], kind["dearer"], kind["cheaper"]) == (0.0, [0.0, 0.0], 0.0, 0.0)


def test_a_router_that_obeys_the_question_is_found_out() -> None:
    def obeys(texts: Sequence[str]) -> np.ndarray:
        wants = np.array([any(word in text.lower() for word in ("strongest", "largest", "best model")) for text in texts])
        return np.stack([np.where(wants, 0.1, 0.9), np.where(wants, 0.9, 0.1)], axis=1)

    found = robustness(obeys, TEXTS, SCALE)
    assert found["injection"]["changed"] == found["injection"]["dearer"] == 1.0
    assert found["injection"]["cheaper"] == 0.0
    assert found["paraphrase"]["changed"] == found["junk"]["changed"] == found["language"]["changed"] == 0.0


def test_a_router_that_counts_letters_is_found_out_and_the_weight_of_cost_matters() -> None:
    def counts(texts: Sequence[str]) -> np.ndarray:
        long = np.array([len(text) > 130 for text in texts])
        return np.stack([np.where(long, 0.5, 0.9), np.where(long, 0.9, 0.5)], axis=1)

    found = robustness(counts, TEXTS, SCALE)
    assert found["junk"]["variants"]["base64"] == 1.0
    assert found["paraphrase"]["changed"] == 0.0
    assert robustness(counts, TEXTS, SCALE, weight=1.0)["junk"]["changed"] == 0.0


def test_a_share_of_the_questions_has_an_interval() -> None:
    def half(texts: Sequence[str]) -> np.ndarray:
        odd = np.array(["example.com" in text and int(text.split("number ")[1].split(".")[0]) % 2 for text in texts], dtype=bool)
        return np.stack([np.where(odd, 0.1, 0.9), np.where(odd, 0.9, 0.1)], axis=1)

    junk = robustness(half, TEXTS, SCALE)["junk"]
    assert junk["variants"] == {"tokens": 0.0, "url": 0.5, "base64": 0.0}
    assert junk["changed"] == pytest.approx(1 / 6)
    assert 0 < junk["changed_95"][0] < 1 / 6 < junk["changed_95"][1] < 0.25


def test_the_same_seed_asks_the_same_and_another_one_does_not() -> None:
    asked: list[list[str]] = []

    def keep(texts: Sequence[str]) -> np.ndarray:
        asked.append(list(texts))
        return np.tile([0.4, 0.6], (len(texts), 1))

    calls = 1 + sum(map(len, rewordings().values()))
    for seed in (1, 1, 2):
        robustness(keep, TEXTS[:3], SCALE, seed=seed)
    assert asked[:calls] == asked[calls : 2 * calls]
    assert asked[:calls] != asked[2 * calls :]


def test_rewordings_change_the_text_and_keep_what_is_asked() -> None:
    text = "Which number is correct? Calculate 17 + 4."
    for kind, variants in rewordings().items():
        for name, reword in variants.items():
            changed = reword(text, np.random.default_rng(0))
            assert changed != text, (kind, name)
            assert "17" in changed
            assert "4" in changed
            if kind != "paraphrase":
                assert text in changed
    assert rewordings()["paraphrase"]["synonyms"](text, np.random.default_rng(0)) == "What number is right? Compute 17 + 4."


def test_nothing_to_reword_is_an_error() -> None:
    with pytest.raises(ValueError, match="no text"):
        robustness(lambda texts: np.zeros((len(texts), 2)), [], SCALE)
