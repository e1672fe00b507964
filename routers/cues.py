"""What can be told of a text at a glance: is it code, is it maths, does it ask for JSON? Cheap signs, not proofs."""

from __future__ import annotations

import re

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


def is_code(text: str) -> bool:
    return _CODE.search(text[:LOOKED_AT]) is not None


def is_maths(text: str) -> bool:
    return _MATHS.search(text[:LOOKED_AT]) is not None


def asks_for_json(text: str) -> bool:
    return _JSON.search(text[:LOOKED_AT]) is not None
