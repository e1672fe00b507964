"""What can be told of a text at a glance: is it code, is it maths, in which language is it? Cheap signs, not proofs."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping

LOOKED_AT = 2_000
"""Characters that are looked at."""

_CODE = re.compile(
    r"```|\bdef \w+\(|\bclass \w+[:({]|\bfunction\b|#include\b|\bimport \w+|\breturn\b.*;|=>|\bSELECT\b.+\bFROM\b"
    r"|\b(?:python|javascript|typescript|rust|java|c\+\+|golang|sql|regex|stack trace|unit test|traceback)\b",
    re.IGNORECASE,
)
_MATHS = re.compile(
    r"\d\s*[-+*/×^=]\s*\d|\\(?:frac|sum|int|sqrt)\b|\b(?:integral|derivative|equation|theorem|prove that|solve for|probability|matrix"
    r"|polynomial|prime number|square root|logarithm|how many)\b",
    re.IGNORECASE,
)
_JSON = re.compile(r'\bjson\b|\{\s*"[^"]{1,80}"\s*:', re.IGNORECASE)

_SCRIPTS: Mapping[str, str] = {
    "HIRAGANA": "ja",
    "KATAKANA": "ja",
    "HANGUL": "ko",
    "CJK": "zh",
    "CYRILLIC": "ru",
    "GREEK": "el",
    "ARABIC": "ar",
    "HEBREW": "he",
    "DEVANAGARI": "hi",
    "THAI": "th",
}
_COMMON: Mapping[str, frozenset[str]] = {
    "en": frozenset("the and is are of to in what how why that this with for please you it".split()),
    "de": frozenset("der die das und ist nicht ein eine wie was warum ich mit für von zu auf bitte den".split()),
    "fr": frozenset("le la les et est une des que pour dans pas je vous comment pourquoi avec du qui".split()),
    "es": frozenset("el la los las y es una que para por con no cómo qué del como está en".split()),
    "it": frozenset("il lo gli e è una che per con non come perché del della sono di questo".split()),
    "pt": frozenset("o os as e é uma que para por com não como você do da em isso está".split()),
    "nl": frozenset("de het een en is niet van wat hoe waarom ik met voor dat op zijn".split()),
    "pl": frozenset("i jest nie co jak dlaczego w na z do to się że czy po dla".split()),
    "tr": frozenset("ve bir bu ne nasıl neden için ile mi değil çok da de ben".split()),
    "sv": frozenset("och är en ett det inte vad hur varför jag med för som på att".split()),
}


def is_code(text: str) -> bool:
    return _CODE.search(text[:LOOKED_AT]) is not None


def is_maths(text: str) -> bool:
    return _MATHS.search(text[:LOOKED_AT]) is not None


def asks_for_json(text: str) -> bool:
    return _JSON.search(text[:LOOKED_AT]) is not None


def language(text: str) -> str | None:
    """ISO 639-1 code by script, or by common words among Latin-script languages; None if nothing tells."""
    sample = text[:LOOKED_AT]
    if not sample.isascii():
        found = _by_script(sample)
        if found is not None:
            return found
    words = re.findall(r"[^\W\d_]+", sample.lower())[:200]
    hits = {code: sum(word in common for word in words) for code, common in _COMMON.items()}
    best = max(hits, key=lambda code: hits[code])
    return best if hits[best] >= max(1, len(words) // 12) else None


def _by_script(sample: str) -> str | None:
    """The language of the script that most letters beyond Latin have, if they are many. Kana among Chinese characters is Japanese."""
    counts: dict[str, int] = {}
    letters = [character for character in sample[:400] if character.isalpha()]
    for character in letters:
        if not character.isascii():
            code = _SCRIPTS.get(unicodedata.name(character, "").partition(" ")[0])
            if code is not None:
                counts[code] = counts.get(code, 0) + 1
    if sum(counts.values()) * 3 < len(letters) or not counts:
        return None
    return "ja" if counts.get("ja") else max(counts, key=lambda code: counts[code])
