"""Programs: `code_writing`, whose answers are run against tests, and `code_reading`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import groupby
from random import Random

from routers.learning.starter.drafts import Draft, Texts


def code_writing(texts: Texts, language: str, rng: Random, number: int) -> Draft:
    name, solution, solve, inputs, a, b = _TASKS[number](rng)
    tests = [f"assert solve({given!r}) == {solve(given)!r}" for given in inputs]
    prompt = texts.say(name, language, {"a": a, "b": b})
    return Draft(prompt, "code", solution, {"tests": tests, "entry": "solve", "seconds": 10})


Task = tuple[str, str, Callable[[object], object], Sequence[object], int, int | None]


def _multiples(rng: Random) -> Task:
    a, b = rng.sample((3, 4, 5, 6, 7, 9), 2)
    solution = f"def solve(n):\n    return sum(k for k in range(1, n) if k % {a} == 0 or k % {b} == 0)\n"

    def solve(n: object) -> object:
        assert isinstance(n, int)
        return sum(set(range(a, n, a)) | set(range(b, n, b)))

    return "multiples", solution, solve, (1, a, a + 1, 50, 1000), a, b


def _long_words(rng: Random) -> Task:
    a = rng.randint(2, 5)
    solution = f"def solve(text):\n    return list(dict.fromkeys(word for word in text.split() if len(word) > {a}))\n"

    def solve(text: object) -> object:
        assert isinstance(text, str)
        found: list[str] = []
        for word in text.split():
            if len(word) >= a + 1 and word not in found:
                found.append(word)
        return found

    return "long_words", solution, solve, ("", "a bb ccc dddd eeeee ffffff ggggggg", "river stone river sky stone", "on an at"), a, None


def _digits(rng: Random) -> Task:
    a = rng.randint(1, 9)
    solution = f"def solve(n):\n    return sum(str(k).count('{a}') for k in range(1, n + 1))\n"

    def solve(n: object) -> object:
        assert isinstance(n, int)
        return "".join(map(str, range(1, n + 1))).count(str(a))

    return "digits", solution, solve, (a, 9, 100, 1234), a, None


def _runs(rng: Random) -> Task:
    a = rng.randint(2, 4)
    solution = (
        "from itertools import groupby\n\n\ndef solve(text):\n    out = ''\n    for sign, run in groupby(text):\n"
        "        size = len(list(run))\n"
        f"        out += f'{{sign}}{{size}}' if size >= {a} else sign * size\n    return out\n"
    )

    def solve(text: object) -> object:
        assert isinstance(text, str)
        sizes = [(sign, len(list(run))) for sign, run in groupby(text)]
        return "".join(f"{sign}{size}" if size >= a else sign * size for sign, size in sizes)

    return "runs", solution, solve, ("", "abc", "aaaaab", "aabbbccccddddd", "xxyyxx"), a, None


_TASKS = (_multiples, _long_words, _digits, _runs)


def code_reading(texts: Texts, language: str, rng: Random, number: int) -> Draft:
    a, b, c = rng.randint(2, 6), rng.randint(5, 9), rng.randint(2, 4)
    program, output = _PROGRAMS[number](a, b, c, rng)
    return Draft(texts.say("prints", language, {"x": f"```python\n{program}\n```"}), "exact", output)


def _doubling(a: int, b: int, c: int, rng: Random) -> tuple[str, str]:
    value = a
    for step in range(b):
        value = value * 2 - step
    return f"x = {a}\nfor i in range({b}):\n    x = x * 2 - i\nprint(x)", str(value)


def _slicing(a: int, b: int, c: int, rng: Random) -> tuple[str, str]:
    words = rng.sample(("harbour", "candle", "meadow", "thunder", "pocket", "velvet", "orchard"), 4)
    place = a % 4
    return f"words = {words!r}\nprint(words[{place}][::-1][:{c}])", words[place][::-1][:c]


def _counting(a: int, b: int, c: int, rng: Random) -> tuple[str, str]:
    numbers = [rng.randint(1, 40) for _ in range(b)]
    total = 0
    for place, value in enumerate(numbers):
        if value % c == 0:
            total += value
        elif place % 2:
            total -= 1
    program = f"total = 0\nfor i, n in enumerate({numbers!r}):\n    if n % {c} == 0:\n        total += n\n"
    program += "    elif i % 2:\n        total -= 1\nprint(total)"
    return program, str(total)


def _recursion(a: int, b: int, c: int, rng: Random) -> tuple[str, str]:
    before, value = 1, 1
    for _ in range(b - 1):
        before, value = value, value + c * before
    return f"def f(n):\n    return 1 if n < 2 else f(n - 1) + {c} * f(n - 2)\n\nprint(f({b}))", str(value)


def _steps(a: int, b: int, c: int, rng: Random) -> tuple[str, str]:
    start = a * 10 + b
    value, steps = start, 0
    while value != 1:
        value, steps = (value // 2 if value % 2 == 0 else 3 * value + 1), steps + 1
    program = f"n, steps = {start}, 0\nwhile n != 1:\n    n = n // 2 if n % 2 == 0 else 3 * n + 1\n    steps += 1\nprint(steps)"
    return program, str(steps)


def _pairs(a: int, b: int, c: int, rng: Random) -> tuple[str, str]:
    total = sum(i * j for i in range(1, a + 1) for j in range(i, b) if (i + j) % c == 0)
    return f"print(sum(i * j for i in range(1, {a + 1}) for j in range(i, {b}) if (i + j) % {c} == 0))", str(total)


_PROGRAMS = (_doubling, _slicing, _counting, _recursion, _steps, _pairs)
