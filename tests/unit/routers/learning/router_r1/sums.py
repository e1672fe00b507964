"""Recorded answers that are made up: sums with four options each, a cheap expert that is often wrong and a dear one that never is."""

from __future__ import annotations

import json
from pathlib import Path
from random import Random
from typing import Any

EXPERTS = {"abacus": (0.02, "fast, and often wrong."), "euler": (0.5, "slow, and right.")}
"""USD for a million tokens, and what is said of them."""
CHANCES = {"abacus": 0.6, "euler": 1.0}


def rows(count: int = 60, seed: int = 0) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """An outcomes table and the table of answers to it; 80 % train."""
    rng = Random(seed)
    outcomes, answers = [], []
    for number in range(count):
        left, right = 1 + number % 9, 1 + number // 9
        options = rng.sample([left + right + more for more in (-1, 0, 1, 2)], 4)
        gold = "ABCD"[options.index(left + right)]
        listed = "\n".join(f"{letter}. {option}" for letter, option in zip("ABCD", options, strict=True))
        name, split = f"sum-{number:03}", "train" if number % 5 else "test"
        for model, (price, _) in EXPERTS.items():
            letter = gold if rng.random() < CHANCES[model] else rng.choice([one for one in "ABCD" if one != gold])
            tokens = 4 if model == "abacus" else 30
            one = {"query_id": name, "model": model, "split": split}
            prompt = f"What is {left} + {right}?\n{listed}"
            score = float(letter == gold)
            outcomes.append(
                {**one, "dataset": "sums", "prompt": prompt, "score": score, "cost_usd": price * tokens / 1e6, "tokens_out": tokens}
            )
            answers.append({**one, "answer": f"({letter})", "gold": gold})
    return outcomes, answers


def write(folder: Path, count: int = 60, seed: int = 0) -> tuple[Path, Path]:
    """The two tables as Parquet files, and the experts' cards beside them."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    outcomes, answers = rows(count, seed)
    found = folder / "sums.parquet", folder / "sums.answers.parquet"
    for path, table in zip(found, (outcomes, answers), strict=True):
        pq.write_table(pa.Table.from_pylist(table), path)
    cards = [
        {"name": name, "table": "sums", "usd_per_1m_tokens_in": price, "usd_per_1m_tokens_out": price, "description": told}
        for name, (price, told) in EXPERTS.items()
    ]
    (folder / "models.jsonl").write_text("".join(json.dumps(card) + "\n" for card in cards), encoding="utf-8")
    return found
