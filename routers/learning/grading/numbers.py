"""The grader `number`: the number that an answer ends in, however it is written."""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction

import regex

from routers.learning.grading.parameters import BadGrader, Fields
from routers.learning.grading.texts import LONGEST

LONGEST_NUMBER = 60
_ALIKE = (
    "km kilometer kilometers kilometre kilometres|m meter meters metre metres|cm centimeter centimeters centimetre centimetres"
    "|mm millimeter millimeters millimetre millimetres|mi mile miles|yd yard yards|ft foot feet|in inch inches"
    "|kg kilogram kilograms|g gram grams|mg milligram milligrams|t ton tons tonne tonnes|lb lbs pound pounds|oz ounce ounces"
    "|l liter liters litre litres|ml milliliter milliliters millilitre millilitres|cl|dl|gal gallon gallons"
    "|h hr hrs hour hours|min mins minute minutes|s sec secs second seconds|ms|d day days|week weeks|month months|yr year years"
    "|c °c|f °f|k °k|km/h kmh kph|m/s|mph|w|kw|j|kj|v|$ usd|€ eur|£ gbp|¥|₹|%|kb|mb|gb|tb|byte bytes|bit bits"
    "|mm2|cm2|m2|km2|ha|mm3|cm3|m3"
)
UNITS = {name: group.split()[0] for group in _ALIKE.split("|") for name in group.split()}
"""Words that are units of something, each with its usual form: behind a number, one that was not asked for makes the answer wrong."""

_JOINED = str.maketrans({"\u00a0": "'", "\u202f": "'", "\u2009": "'", "’": "'", "٬": ","})
_LATEX = regex.compile(r"\\[dt]?frac\s*\{\s*(-?\d+)\s*\}\s*\{\s*(\d+)\s*\}")
_WORDED = regex.compile(r"(?:\\[,;:! ])?\\(?:text|mathrm|mathbf|textbf|mbox)\s?\{\s?([^{}]*)\}")
_THIN = regex.compile(r"(?<=\d)(?:\{,\}|\\,|\\!|\\;|(?<=\d)'(?=\d{3}))(?=\d{3})")
_BOXED = regex.compile(r"\\boxed\s*\{((?:[^{}]|\{[^{}]*\})*)\}")
_PHRASE = regex.compile(
    r"(?:####|(?:\banswer|antwort|ergebnis|réponse|résultat|respuesta|resultado|答案|结果|उत्तर)(?:\s?\([^)\n]{0,40}\))?[\s_\"']{0,4}"
    r"(?:(?:is|are|would be|ist|lautet|beträgt|est|es)\b|[:：=]|是|为|है))(?P<rest>[^\n]*(?:\n\s*[^\n]*)?)",
    regex.IGNORECASE,
)
_DIGITS = (
    r"(?:\d{1,2}(?:,\d\d)+,\d{3}(?:[.]\d+)?(?!\d)"  # groups as in India: 12,34,567
    r"|\d{1,3}(?P<mark>[,.' ])\d{3}(?:(?P=mark)\d{3})*(?:[.,]\d+)?(?!\d)|\d+(?:[.,]\d+)?|[.]\d+)"
)
_NUMBER = regex.compile(
    rf"(?<![\p{{Latin}}\p{{Greek}}\p{{Cyrillic}}\d])(?<![\d][.,/])(?P<sign>(?<![\d)]\s?)[-+])?\s?(?P<money>[$€£¥₹])?\s?(?:(?P<ones>\d+)\s+(?=\d+/\d))?"
    rf"(?P<body>{_DIGITS})"
    r"(?:\s?/\s?(?P<under>\d+)(?!\d|[.,]\d))?"
    r"(?:(?:e|E|\s?(?:×|x|\*|\\times|\\cdot)\s?10\s?(?:\^|\*\*)?\s?\{?)(?P<power>[-+]?\d{1,3})\}?)?"
    r"(?P<unit>\s?(?:%|[°$€£¥₹]\s?[CFK]?|\p{L}+(?:/\p{L}+)?(?:\^?\{?[23]\}?(?!\d))?))?"
)


@dataclass(frozen=True, slots=True)
class Written:
    """A number as it stands in a text: what it may mean ("1,234" is one thing in London and another in Berlin), and its unit."""

    values: tuple[Fraction, ...]
    percent: bool
    unit: str


@dataclass(frozen=True, slots=True)
class Tolerance:
    """A number may be off by `absolute`, or by `relative` times the right one; whichever is more."""

    absolute: float = 0.0
    relative: float = 1e-9

    def covers(self, found: Fraction, right: Fraction) -> bool:
        # Both bounds in exact arithmetic: as floats, large whole numbers that differ would look equal.
        return abs(found - right) <= max(Fraction(self.absolute), Fraction(self.relative) * abs(right))


def number(answer: str, right: Written, tolerance: Tolerance, units: Mapping[str, Fraction]) -> float:
    """1 if the answer's number is the right one, else 0.

    `units`: accepted units in their usual form, each with what one of it is in the unit of the right number; empty: units do not matter.
    A number without a unit is taken to be in the right one. 45 % is 0.45; it is 45 too where the right number is at least 1.
    """
    found = final(answer)
    if found is None:
        return 0.0
    factor = Fraction(1)
    if units and found.unit:
        if found.unit in units:
            factor = units[found.unit]
        elif found.unit in UNITS.values():
            return 0.0
    pairs = [(value * factor, expected) for value in found.values for expected in right.values]
    return float(any(_equal(value, found.percent, expected, right.percent, tolerance) for value, expected in pairs))


def _equal(found: Fraction, percent: bool, right: Fraction, right_percent: bool, tolerance: Tolerance) -> bool:
    if percent == right_percent:
        return tolerance.covers(found, right)
    if percent:
        return tolerance.covers(found / 100, right) or (abs(right) >= 1 and tolerance.covers(found, right))
    return tolerance.covers(found, right / 100) or tolerance.covers(found, right)


def final(answer: str) -> Written | None:
    """The number that an answer ends in; None if there is none.

    The last boxed one; else, behind the last "answer is", "answer:" or "####" (or the like in five more languages), what follows the last
    "=" of that line, or the first number of it or of the next line; else the last number of all.
    """
    text = _prepared(answer[-LONGEST:])
    boxed = _BOXED.findall(text)
    if boxed:
        inside = numbers_in(boxed[-1])
        if inside:
            return inside[-1]
    for match in reversed(list(_PHRASE.finditer(text))):
        rest = match["rest"]
        _, equals, after = rest.partition("\n")[0].rpartition("=")
        inside = numbers_in(after if equals else rest)
        if inside:
            return inside[0]
    found = numbers_in(text)
    return found[-1] if found else None


def _prepared(text: str) -> str:
    """Digits of all scripts as ASCII, LaTeX as plain text, one kind of minus."""
    text = (
        unicodedata.normalize("NFKC", text.translate(_JOINED)).replace("−", "-").replace("–", "-").replace("\\%", "%").replace("\\$", "$")
    )
    text = "".join(str(unicodedata.digit(sign)) if sign.isdecimal() and not sign.isascii() else sign for sign in text)
    text = _WORDED.sub(r" \1", _LATEX.sub(r"\1/\2", text))
    return _THIN.sub("", text).replace("⁄", "/").replace("**", " ")


def numbers_in(text: str) -> list[Written]:
    """Every number of a prepared text, in its order."""
    return [found for match in _NUMBER.finditer(text) if (found := _read(match)) is not None]


def _read(match: regex.Match[str]) -> Written | None:
    body, under, ones = match["body"], match["under"], match["ones"]
    if len(body) > LONGEST_NUMBER or (under and (len(under) > LONGEST_NUMBER or not int(under))):
        return None
    values = _readings(body)
    if under:
        values = [value / int(under) for value in values]
    if ones and len(ones) <= LONGEST_NUMBER:
        values = [value + int(ones) for value in values]
    sign = -1 if match["sign"] == "-" else 1
    scale = Fraction(10) ** int(match["power"]) if match["power"] else Fraction(1)
    unit = usual(match["unit"] or match["money"] or "")
    return Written(tuple(sign * scale * value for value in values), unit == "%", unit)


def usual(unit: str) -> str:
    """The usual form of a unit: "Kilometres" is "km", "cm²" and "cm^2" are "cm2"."""
    unit = regex.sub(r"[\s^{}]", "", unicodedata.normalize("NFKC", unit)).lower()
    return UNITS.get(unit, unit)


def _readings(body: str) -> list[Fraction]:
    """What digits with points, commas and spaces may mean."""
    body = body.replace("'", "").replace(" ", "")
    marks = [sign for sign in body if sign in ".,"]
    if not marks:
        return [Fraction(body)]
    last = marks[-1]
    whole, _, part = body.rpartition(last)
    grouped = len(marks) == 1 and len(part) == 3 and 0 < len(whole) < 4 and whole[0] != "0"
    as_point = Fraction(f"{whole.replace(',', '').replace('.', '') or '0'}.{part}")
    as_groups = Fraction(body.replace(",", "").replace(".", ""))
    if marks.count(last) > 1:
        return [as_groups]
    return [as_point, as_groups] if grouped else [as_point]


def read_right(fields: Fields) -> tuple[Written, ...]:
    """The right numbers in `answer`, a number or a text that is one. Raises BadGrader."""
    found = []
    for text in fields.accepted():
        inside = numbers_in(_prepared(text))
        if len(inside) != 1:
            raise BadGrader("answer", f"{text!r} is no number")
        # A right number is written in one way, with a point: "1.234" there is never a thousand.
        exact = _exact(text)
        found.append(Written((exact,), inside[0].percent, inside[0].unit) if exact is not None else inside[0])
    return tuple(found)


def _exact(text: str) -> Fraction | None:
    try:
        return Fraction(text.strip().removesuffix("%").strip())
    except (ValueError, ZeroDivisionError):
        return None


def read_units(fields: Fields) -> dict[str, Fraction]:
    """`unit`: a text or a list of equal ones; `units`: what one of each further unit is in that unit. Raises BadGrader."""
    equal: Sequence[str] = fields.texts("unit", [])
    found = {usual(name): Fraction(1) for name in equal}
    more = fields.take("units", {})
    if not isinstance(more, dict):
        raise BadGrader("units", 'must be an object such as {"m": 0.001}')
    for name, factor in more.items():
        if isinstance(factor, bool) or not isinstance(factor, int | float) or not 0 < factor < 1e15:
            raise BadGrader("units", f"{name!r} must have a number above 0")
        found[usual(str(name))] = Fraction(str(factor))
    return found
