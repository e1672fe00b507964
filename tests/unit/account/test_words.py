"""The log says in words why a model was chosen."""

from __future__ import annotations

from typing import Any

import pytest

from gateway.account.records import Decision, Record
from gateway.account.words import in_words, what_followed
from routers.api import Choice, Scored

SMALL, LARGE, HUGE = Scored("small", 0.82), Scored("large", 0.6125), Scored("huge", 0.9)
DRAWN = Scored("small", 0.4, propensity=0.25)


@pytest.mark.parametrize(
    ("choice", "expected"),
    [
        (Choice("named", "named", (SMALL,)), "the request names small"),
        (Choice("cost", "best_score", (SMALL,)), "small scores 0.82"),
        (Choice("cost", "best_score", (SMALL, LARGE)), "small scores 0.82, large 0.613"),
        (Choice("cost", "best_score", (HUGE, SMALL, LARGE)), "huge scores 0.9, small 0.82, best of 3"),
        (Choice("cost", "best_score", (SMALL, HUGE)), "small was picked with 0.82, though huge scores 0.9"),
        (
            Choice("cost", "best_score", (DRAWN, LARGE, HUGE)),
            "small was picked with 0.4, though huge scores 0.9, of 3; drawn with a chance of 0.25",
        ),
        (
            Choice("cost", "only_candidate", (SMALL,), {"large": "unhealthy", "huge": "something that a plugin said"}),
            "small is the only candidate left; out are large: out of service, huge: a filter is against it",
        ),
        (
            Choice("cost", "only_candidate", (SMALL,), {f"m{n}": "budget" for n in range(6)}),
            "small is the only candidate left; out are "
            + ", ".join(f"m{n}: dearer than the budget allows" for n in range(4))
            + " and 2 more",
        ),
        (Choice("cost", "no_opinion", (SMALL, LARGE)), "no scorer has an opinion, so the default small serves"),
        (Choice("cost", "deadline", (SMALL,)), "deciding took too long, so the default small serves"),
        (
            Choice("cost", "policy_error", (SMALL,), errors={"knn": "secret"}),
            "the policy failed, so the default small serves; without knn, which failed",
        ),
        (Choice("cost", "pinned", (SMALL,)), "the conversation stays with small"),
    ],
)
def test_a_choice_in_words(choice: Choice, expected: str) -> None:
    assert in_words(choice) == expected


@pytest.mark.parametrize(
    ("cache", "more", "expected"),
    [
        ("miss", {}, ""),
        ("hit", {}, "; decided before, for the same prompt"),
        ("pin", {}, "; decided before, in this conversation"),
        ("miss", {"model": "large"}, "; large answered in its place"),
        ("miss", {"model": "small"}, ""),
    ],
)
def test_what_came_before_and_after(cache: str, more: dict[str, Any], expected: str) -> None:
    decision = Decision("dec-1", "auto", Choice("cost", "best_score", (SMALL, LARGE)), cache, 0.0, 1)
    assert what_followed(Record(decision, "chat", "req-1", **more)) == expected


def test_why_one_call_makes_the_answer() -> None:
    decision = Decision("dec-1", "auto", Choice("cost", "best_score", (SMALL,)), "miss", 0.0, 1, "tools")
    assert what_followed(Record(decision, "chat", "req-1")) == "; one call alone: tools"
