"""What pickers share: who may come first, and the order once somebody does."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate
from random import Random

from routers.api import Pick, RouteRequest, Scored


def first(ranked: Sequence[Scored], place: int) -> list[Scored]:
    """The candidate at a place comes first; the others stay as they are."""
    return [ranked[place], *ranked[:place], *ranked[place + 1 :]]


def good_enough(request: RouteRequest, ranked: Sequence[Scored]) -> list[int]:
    """Places of the candidates that are not expected to miss the request's `min_quality`; all places if every one is."""
    floor = request.preferences.min_quality
    if floor is not None:
        found = [place for place, scored in enumerate(ranked) if scored.quality is None or scored.quality >= floor]
        if found:
            return found
    return list(range(len(ranked)))


def draw(ranked: Sequence[Scored], chances: Sequence[float], rng: Random) -> Pick:
    """One comes first by chance. `chances` (≥ 0, not all 0) are made to add up to 1, and logged."""
    total = sum(chances)
    shares = [chance / total for chance in chances]
    at = rng.random()
    place = next((place for place, below in enumerate(accumulate(shares)) if at < below), None)
    if place is None:  # rounding: the sum may end a hair below 1
        place = max(range(len(shares)), key=shares.__getitem__)
    return Pick(first(ranked, place), {scored.name: share for scored, share in zip(ranked, shares, strict=True)})
