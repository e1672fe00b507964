"""github.com/ulab-uiuc/LLMRouter: nine models on 14 tasks, `data/dcrouter_preprocessed/{train,test}.json`.

Both files are joined and a prompt that comes again is dropped. Tasks' names are in `data/example_data/query_data`, prices in
`data/example_data/llm_candidates/default_llm.json`. The project counted no tokens: those of the prompt are estimates, those of the
answer are unknown, and a cost is nominal, as if every answer had 200 tokens.
"""

from __future__ import annotations

from pathlib import Path

import msgspec

from routers.learning.sources import files
from routers.learning.sources.models import with_source_price
from routers.learning.sources.rows import BadSource, Dollars, Reading, Row, check_score, estimate_tokens

TABLE = "llmrouter"
ANSWERS = ("data/dcrouter_preprocessed/train.json", "data/dcrouter_preprocessed/test.json")
TASKS = ("data/example_data/query_data/default_query_train.jsonl", "data/example_data/query_data/default_query_test.jsonl")
PRICES = "data/example_data/llm_candidates/default_llm.json"
NOMINAL_TOKENS_OUT = 200
OTHER = "other"


class _Asked(msgspec.Struct, frozen=True):
    question: str
    scores: dict[str, float]


class _Task(msgspec.Struct, frozen=True):
    task_name: str
    query: str


class _Price(msgspec.Struct, frozen=True):
    input_price: Dollars
    output_price: Dollars


def read(folder: Path) -> Reading:
    """Raises BadSource."""
    answers, tasks = files.existing(folder, *ANSWERS), files.existing(folder, *TASKS)
    (prices,) = files.existing(folder, PRICES)
    names: dict[str, str] = {}
    for path in tasks:
        for _, task in files.lines(path, _Task):
            names.setdefault(task.query, task.task_name)
    price = files.parse(files.content(prices), dict[str, _Price], prices)
    models = {name: with_source_price(name, TABLE, (found.input_price, found.output_price)) for name, found in price.items()}
    rows: list[Row] = []
    seen: set[str] = set()
    repeated = 0
    for path in answers:
        for number, asked in enumerate(files.parse(files.content(path), list[_Asked], path), 1):
            if asked.question in seen:
                repeated += 1
                continue
            into = estimate_tokens(asked.question)
            name, dataset = f"{TABLE}-{len(seen):05d}", f"{TABLE}/{names.get(asked.question, OTHER)}"
            seen.add(asked.question)
            for model, score in sorted(asked.scores.items()):
                if model not in models:
                    raise BadSource(path, f"{model!r} has no price in {PRICES}", f"row {number}")
                cost = models[model].cost(into, NOMINAL_TOKENS_OUT)
                rows.append(Row(name, dataset, asked.question, model, check_score(score, path, f"row {number}"), cost, into, None))
    answered = {row.model for row in rows}
    unnamed = len({row.query_id for row in rows if row.dataset == f"{TABLE}/{OTHER}"})
    notes = [f"{repeated} prompts that stand there again are kept once", f"{unnamed} prompts belong to no task that has a name"]
    return Reading(rows, [models[name] for name in sorted(answered)], notes)
