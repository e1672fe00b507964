"""In which language is a text? By its script first, then by common words and letters among the languages in Latin script.

A quick sign, for tables and for routers that treat languages apart; no proof. Less than 50 µs for a prompt of any length.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Mapping

OTHER = "other"
"""What cannot be told: code, figures, a language that is not in the tables."""

LOOKED_AT = 240
"""Characters from the start that are looked at. A question's language shows early, and its examples are often in another one."""

FOREIGN = 16
"""Characters beyond Latin that are looked at."""

_BLOCKS: tuple[tuple[int, int, str], ...] = (
    (0x0370, 0x03FF, "el"),
    (0x0400, 0x052F, "cyrillic"),
    (0x0530, 0x058F, "hy"),
    (0x0590, 0x05FF, "he"),
    (0x0600, 0x06FF, "arabic"),
    (0x0750, 0x077F, "arabic"),
    (0x0900, 0x097F, "hi"),
    (0x0980, 0x09FF, "bn"),
    (0x0B80, 0x0BFF, "ta"),
    (0x0C00, 0x0C7F, "te"),
    (0x0E00, 0x0E7F, "th"),
    (0x10A0, 0x10FF, "ka"),
    (0x1100, 0x11FF, "ko"),
    (0x1F00, 0x1FFF, "el"),
    (0x3040, 0x30FF, "kana"),
    (0x3400, 0x4DBF, "han"),
    (0x4E00, 0x9FFF, "han"),
    (0xAC00, 0xD7AF, "ko"),
)
_STARTS = [first for first, _, _ in _BLOCKS]

# One-letter words of the Latin alphabet are left out: they are the letters of formulas.
_COMMON: Mapping[str, str] = {
    "en": "the and is are was of to in what which how why that this with for please you it if does following on an from be do as at "
    "by has have can many were your me my his her he she they will would there when who or but not all write give make explain find per",
    "de": "der die das und ist sind nicht ein eine einen wie was warum welche ich mit für von zu auf bitte den dem im wird",
    "fr": "le la les et est une des que pour dans pas je vous comment pourquoi avec du qui quelle quel sont sur au ce en",
    "es": "el la los las es una que para por con no cómo qué del cuál son está en un se al cuántos escribe",
    "it": "il lo gli è una che per con non come perché del della sono di questo qual quale un nel alla scrivi",
    "pt": "os as é uma que para por com não como você do da em isso está um são qual no ao escreva",
    "nl": "de het een en is niet van wat hoe waarom ik met voor dat op zijn welke aan bij deze wordt schrijf",
    "pl": "jest nie co jak dlaczego na do to się że czy po dla który są ile od napisz",
    "tr": "ve bir bu ne nasıl neden için ile mi değil çok da de hangi olan kaç nedir yaz",
    "sv": "och är en ett det inte vad hur varför jag med för som på att till av vilken den skriv",
    "da": "og er en et det ikke hvad hvordan hvorfor jeg med for som på at til af hvilken den skriv",
    "cs": "je to na se že co jak proč pro není které který do jsou kolik napiš",
    "ro": "și este nu ce cum de la în pentru cu un care din sunt pe mai câte scrie",
    "fi": "ja on ei mikä miten miksi se että ovat tämä mitä kuinka jos voi ole kuka kirjoita",
    "id": "yang dan di apa bagaimana mengapa untuk dengan ini itu adalah tidak dari dalam ke pada berapa tulis",
    "vi": "là và của có không gì như tại sao cho với một này các trong được những bao nhiêu viết",
}
_LETTERS: Mapping[str, str] = {
    "de": "ß",
    "es": "ñ¿¡",
    "pt": "ãõ",
    "pl": "łżśźąęń",
    "tr": "ğış",
    "cs": "řěůž",
    "ro": "țșă",
    "vi": "ơưđạảấầậắằặẹẻếềểệịọỏốồộớờợụủứừự",
    "fr": "œ",
    "da": "øæ",
}
_WORD = re.compile(r"[^\W\d_]+")
_FOREIGN = re.compile("[\u0370-\u1fff\u3040-\ud7af]")
_LATIN = re.compile("[a-z\u00df-\u024f]")


def _votes(table: Mapping[str, str], split: bool) -> dict[str, tuple[tuple[str, float], ...]]:
    """Sign -> the languages that it speaks for, with a vote that they share."""
    found: dict[str, list[str]] = {}
    for code, signs in table.items():
        for sign in signs.split() if split else signs:
            found.setdefault(sign, []).append(code)
    return {sign: tuple((code, 1 / len(codes)) for code in codes) for sign, codes in found.items()}


_BY_WORD = _votes(_COMMON, split=True)
_BY_LETTER = _votes(_LETTERS, split=False)


def language(text: str) -> str:
    """ISO 639-1 code of the language of a text, or OTHER. Any text will do; only its start is looked at."""
    sample = text[:LOOKED_AT].lower()
    if not sample.isascii():
        found = _by_script(sample)
        if found is not None:
            return found
    words = _WORD.findall(sample)[:32]
    votes: dict[str, float] = {}
    for word in words:
        for code, vote in _BY_WORD.get(word, ()):
            votes[code] = votes.get(code, 0.0) + vote
    if not sample.isascii():
        for letter in _BY_LETTER.keys() & set(sample):
            for code, vote in _BY_LETTER[letter]:
                votes[code] = votes.get(code, 0.0) + vote * min(4, sample.count(letter))
    if not votes:
        return OTHER
    best = max(votes, key=lambda code: votes[code])
    return best if votes[best] >= max(0.5, len(words) / 12) else OTHER


def _by_script(sample: str) -> str | None:
    """The language of the script beyond Latin that most of the letters are of, if they are at least a quarter of all."""
    foreign = _FOREIGN.findall(sample)
    if not foreign:
        return None
    counts: dict[str, int] = {}
    for character in foreign[:FOREIGN]:
        script = _script(ord(character))
        if script is not None:
            counts[script] = counts.get(script, 0) + 1
    if not counts:
        return None
    # A Chinese character says about as much as four letters.
    weight = 4 if counts.keys() & {"han", "kana"} else 1
    if len(foreign) * weight * 3 < len(_LATIN.findall(sample)):
        return None
    if counts.get("kana", 0) * 8 > counts.get("han", 0):
        return "ja"
    script = max(counts, key=lambda name: counts[name])
    return _told_apart(script, set(foreign))


def _script(point: int) -> str | None:
    place = bisect_right(_STARTS, point) - 1
    if place < 0 or point > _BLOCKS[place][1]:
        return None
    return _BLOCKS[place][2]


def _told_apart(script: str, letters: set[str]) -> str:
    """Languages that share a script, by letters that only one of them writes."""
    if script == "cyrillic":
        return "uk" if letters & set("іїєґ") else "ru"
    if script == "arabic":
        return "ur" if letters & set("ٹڈڑےں") else "fa" if letters & set("پچژگ") else "ar"
    return "zh" if script == "han" else "ja" if script == "kana" else script
