"""Numbers: `arithmetic`, `word_problems`, `units`. `number` runs from 0 to 5 within a kind and a language, and makes it harder."""

from __future__ import annotations

from fractions import Fraction
from random import Random

from routers.learning.starter.drafts import Draft, Texts

_UNITS: tuple[tuple[str, str, Fraction], ...] = (
    ("km", "m", Fraction(1000)),
    ("h", "min", Fraction(60)),
    ("g", "kg", Fraction(1, 1000)),
    ("m/s", "km/h", Fraction(36, 10)),
    ("m²", "cm²", Fraction(10_000)),
    ("l", "cm³", Fraction(1000)),
)


def arithmetic(texts: Texts, language: str, rng: Random, number: int) -> Draft:
    a, b, c, d = (rng.randint(12, 99) for _ in range(4))
    expressions = (
        (f"{a * 7} + {b * 9}", a * 7 + b * 9),
        (f"{a} × {b}", a * b),
        (f"({a} + {b}) × {c}", (a + b) * c),
        (f"{a} × {b} - {c} × {d}", a * b - c * d),
        (f"{a * b} ÷ {a} + {c} × {d}", b + c * d),
        (f"{a * 97 + b} × {c * 89 + d}", (a * 97 + b) * (c * 89 + d)),
    )
    shown, value = expressions[number]
    return Draft(texts.say("arithmetic", language, {"x": shown}), "number", value, {"relative_tolerance": 0})


def word_problems(texts: Texts, language: str, rng: Random, number: int) -> Draft:
    a, b, c, d = rng.randint(6, 24), rng.randint(8, 20), rng.randint(2, 5), rng.randint(11, 60)
    if number % 3 == 0:
        story, value = texts.say("pencils", language, {"a": a, "b": b, "c": c, "d": d}), (a * b - c) * d
    elif number % 3 == 1:
        story, value = texts.say("train", language, {"a": a * 10, "n": c, "b": b, "c": d}), a * 10 + c * (d - b)
    else:
        story = texts.say("book", language, {"p": a * c + b * d, "a": a, "b": c, "c": b})
        value = c + d
    return Draft(f"{story} {texts.say('number_only', language)}", "number", value, {"relative_tolerance": 0})


def units(texts: Texts, language: str, rng: Random, number: int) -> Draft:
    source, target, factor = _UNITS[number]
    given = Fraction(rng.randint(11, 99), 1 if number == 2 else rng.choice((1, 2, 4)))
    value = given * factor
    prompt = texts.say("units", language, {"v": decimal(given), "a": source, "b": target})
    return Draft(prompt, "number", decimal(value), {"unit": target, "relative_tolerance": 1e-6})


def decimal(value: Fraction) -> str:
    """A number whose decimals end, with a point and no more digits than it needs."""
    text = f"{value.numerator / value.denominator:.6f}".rstrip("0").rstrip(".")
    if Fraction(text) != value:
        raise ValueError(f"{value} has no short decimal form")
    return text
