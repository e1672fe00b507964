"""Thinking in steps: `logic`, `strings`, `dates`."""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import date, timedelta
from itertools import pairwise
from random import Random

from routers.learning.starter.drafts import Draft, Texts


def options(rng: Random, right: str, others: Sequence[str]) -> tuple[str, str]:
    """Lines "A) …" in a random order, and the letter of the right one."""
    shown = [right, *others]
    rng.shuffle(shown)
    letters = "ABCDEFGH"[: len(shown)]
    lines = "\n".join(f"{letter}) {text}" for letter, text in zip(letters, shown, strict=True))
    return lines, letters[shown.index(right)]


def logic(texts: Texts, language: str, rng: Random, number: int) -> Draft:
    """An order of people, told pair by pair in a random order."""
    order = rng.sample(texts.vocabulary["names"][language], 4 + number // 3)
    pairs = list(pairwise(order))
    rng.shuffle(pairs)
    gap = "" if language == "zh" else " "
    told = gap.join(texts.say("more_than", language, {"x": more, "y": less}) for more, less in pairs)
    place = 1 + number % 2
    asked = texts.say("who_second" if place == 1 else "who_third", language)
    lines, letter = options(rng, order[place], [name for name in order if name != order[place]])
    prompt = f"{told}{gap}{asked}\n{lines}\n{texts.say('letter_only', language)}"
    return Draft(prompt, "choice", letter, {"choices": len(order)})


def strings(texts: Texts, language: str, rng: Random, number: int) -> Draft:
    if number in (0, 1):
        letters = "".join(rng.sample("bcdfghjklmnpqrstvwxz", 7 + 3 * number))
        return Draft(texts.say("reverse", language, {"w": letters}), "exact", letters[::-1])
    if number in (2, 3):
        numbers = rng.sample(range(10, 10_000), 3 + 2 * number)
        ordered = [str(value) for value in sorted(numbers, reverse=True)]
        prompt = texts.say("sort", language, {"w": ", ".join(map(str, numbers))})
        return Draft(prompt, "regex", ", ".join(ordered), {"pattern": r"\s*[,，]\s*".join(ordered)})
    if number == 4:
        text = "".join(rng.choice("abcde") for _ in range(18))
        letter = rng.choice("abcde")
        return Draft(texts.say("count", language, {"c": letter, "w": text}), "number", text.count(letter))
    text = "".join(rng.sample("abcdefghiklmnoprstuvw", 12))
    return Draft(texts.say("every_second", language, {"w": text}), "exact", text[::2])


def dates(texts: Texts, language: str, rng: Random, number: int) -> Draft:
    start = date(rng.randint(1995, 2030), rng.randint(1, 12), rng.randint(1, 28))
    days = rng.randint(20, 90) + 100 * (number % 2)
    end = start + timedelta(days=days)
    if number in (0, 1):
        names = texts.vocabulary["weekdays"][language]
        prompt = texts.say("weekday", language, {"d": start.isoformat(), "w": names[start.weekday()][0], "n": days})
        return Draft(prompt, "exact", names[end.weekday()])
    if number in (2, 3):
        return Draft(texts.say("days_between", language, {"a": start.isoformat(), "b": end.isoformat()}), "number", days)
    return Draft(texts.say("date_after", language, {"n": days, "a": start.isoformat()}), "exact", end.isoformat())


def spelled(text: str) -> str:
    """A text as a pattern that fits it alone."""
    return re.escape(text)
