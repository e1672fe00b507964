"""github.com/RouteWorks/RouterArena: recorded answers of single models to questions of many tasks, `cached_results/MODEL.jsonl`.

Scores, token counts and costs as published; prices from `model_cost/cost.json`. One of its measures, for free text, dips a little below 0:
such a score counts as 0.
"""

from __future__ import annotations

from pathlib import Path

import msgspec

from routers.learning.sources import files
from routers.learning.sources.models import with_source_price
from routers.learning.sources.rows import DIGITS, BadSource, Dollars, Model, Reading, Row, Tokens, check_score

TABLE = "routerarena"
RESULTS = "cached_results"
PRICES = "model_cost/cost.json"


class _Tokens(msgspec.Struct, frozen=True):
    input_tokens: Tokens
    output_tokens: Tokens


class _Judged(msgspec.Struct, frozen=True):
    score: float | None
    inference_cost: Dollars | None = None


class _Answer(msgspec.Struct, frozen=True):
    global_index: str
    question: str
    token_usage: _Tokens | None = None
    evaluation_result: _Judged | None = None


class _Price(msgspec.Struct, frozen=True):
    input_token_price_per_million: Dollars
    output_token_price_per_million: Dollars


def read(folder: Path) -> Reading:
    """Raises BadSource."""
    (prices,) = files.existing(folder, PRICES)
    price = files.parse(files.content(prices), dict[str, _Price], prices)
    results = sorted((folder / RESULTS).glob("*.jsonl"))
    if not results:
        raise BadSource(folder / RESULTS, "holds no MODEL.jsonl")
    rows: list[Row] = []
    models: list[Model] = []
    unjudged, raised = 0, 0
    for path in results:
        found = price.get(path.stem)
        pair = None if found is None else (found.input_token_price_per_million, found.output_token_price_per_million)
        models.append(with_source_price(path.stem, TABLE, pair))
        answers, without, below = _rows(path)
        rows += answers
        unjudged += without
        raised += below
    notes = [f"{unjudged} answers that were not judged are left out", f"{raised} scores below 0 count as 0"]
    return Reading(rows, models, notes)


def _rows(path: Path) -> tuple[list[Row], int, int]:
    """The judged answers of a model, how many others it gave, and how many scores were below 0."""
    rows: list[Row] = []
    seen: set[str] = set()
    unjudged, raised = 0, 0
    for number, answer in files.lines(path, _Answer):
        where = f"line {number}"
        if answer.global_index in seen:
            raise BadSource(path, f"{answer.global_index} is answered twice", where)
        seen.add(answer.global_index)
        judged, tokens = answer.evaluation_result, answer.token_usage
        if judged is None or judged.score is None:
            unjudged += 1
            continue
        name = f"{TABLE}-{answer.global_index.replace(' ', '_')}"
        dataset = f"{TABLE}/{answer.global_index.partition('_')[0]}"
        below = -1 <= judged.score < 0
        raised += below
        score = check_score(0.0 if below else judged.score, path, where)
        cost = None if judged.inference_cost is None else round(judged.inference_cost, DIGITS)
        into, out = (None, None) if tokens is None else (tokens.input_tokens, tokens.output_tokens)
        rows.append(Row(name, dataset, answer.question, path.stem, score, cost, into, out))
    return rows, unjudged, raised
