"""What a fake model can do: sums, look-ups and formats up to its skill, always the same for the same question."""

from __future__ import annotations

import ast
import hashlib
import operator
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass

CAPITALS: Mapping[str, tuple[str, float]] = {
    "france": ("Paris", 0.1),
    "germany": ("Berlin", 0.1),
    "italy": ("Rome", 0.1),
    "japan": ("Tokyo", 0.1),
    "spain": ("Madrid", 0.15),
    "canada": ("Ottawa", 0.4),
    "australia": ("Canberra", 0.45),
    "brazil": ("Brasília", 0.5),
    "turkey": ("Ankara", 0.5),
    "kazakhstan": ("Astana", 0.7),
    "myanmar": ("Naypyidaw", 0.75),
    "burkina faso": ("Ouagadougou", 0.8),
    "bhutan": ("Thimphu", 0.85),
    "palau": ("Ngerulmud", 0.95),
}
_OPERATORS: Mapping[type[ast.operator], Callable[[int, int], int]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
}
_SUM = re.compile(r"\d[\d\s()+\-*×]*[+\-*×][\d\s()+\-*×]*\d\)*")
_CAPITAL = re.compile(r"capital of ([a-z ]+?)\s*(?:[?.!,]|$)", re.IGNORECASE)
_WORDS = (
    "the signal stands clear and the next train takes the left track past the old depot before it meets the main line again so that "
    "nobody waits longer than they must while the points are set and locked and every lamp along the way is seen to burn"
).split()


@dataclass(frozen=True, slots=True)
class Task:
    """A question that has a right answer. `difficulty` in [0, 1]: a model solves it if its skill is at least that."""

    right: str
    wrong: str
    difficulty: float


def recognise(prompt: str) -> Task | None:
    """The task in a prompt, or None if there is none that a fake model knows."""
    found = _CAPITAL.search(prompt)
    if found and found[1].strip().lower() in CAPITALS:
        city, difficulty = CAPITALS[found[1].strip().lower()]
        return Task(city, "Springfield", difficulty)
    found = _SUM.search(prompt)
    if found:
        return _arithmetic(found[0])
    return None


def _arithmetic(text: str) -> Task | None:
    try:
        tree = ast.parse(text.replace("×", "*").strip(), mode="eval")
        value = _evaluate(tree.body)
    except (SyntaxError, ValueError, RecursionError):
        return None
    steps = sum(isinstance(node, ast.BinOp) for node in ast.walk(tree))
    digits = sum(len(str(node.value)) for node in ast.walk(tree) if isinstance(node, ast.Constant))
    products = sum(isinstance(node, ast.Mult) for node in ast.walk(tree))
    return Task(str(value), str(value + 10), min(1.0, 0.1 * (steps - 1) + 0.06 * digits + 0.15 * products))


def _evaluate(node: ast.expr) -> int:
    if isinstance(node, ast.Constant) and isinstance(node.value, int) and abs(node.value) < 10**9:
        return node.value
    if isinstance(node, ast.BinOp) and type(node.op) in _OPERATORS:
        return _OPERATORS[type(node.op)](_evaluate(node.left), _evaluate(node.right))
    raise ValueError("not a sum")


def answer(model: str, skill: float, prompt: str, words: int) -> str:
    """What a model of this skill writes. Prose of about `words` words where the prompt holds no known task."""
    task = recognise(prompt)
    if task is None:
        seed = hashlib.sha256(f"{model}\n{prompt}".encode(errors="replace")).digest()
        prose = " ".join(_WORDS[(seed[i % 32] + i) % len(_WORDS)] for i in range(max(1, words)))
        return f"This is {model}: {prose}."
    result = task.right if skill >= task.difficulty else task.wrong
    wish = prompt.lower()
    if "one word" in wish or "only the" in wish or "just the" in wish:
        return result
    if "as json" in wish or "in json" in wish:
        return f'{{"answer": "{result}"}}'
    return f"The answer is {result}."


def pieces(text: str) -> list[str]:
    """A text as tokens: a word with the space before it each."""
    return re.findall(r"\s*\S+\s*$|\s*\S+", text) or [""]
