"""github.com/lm-sys/RouteLLM: a strong and a weak model on MMLU and GSM8K, `routellm/evals/{mmlu/responses,gsm8k}/*.csv`.

Prompts and right/wrong as published, also those that RouteLLM leaves out as too close to its own training data; a prompt that a subject
has twice is kept once. On MMLU each model wrote one token. The other tokens are estimates, and costs come from list prices.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from routers.learning.sources import files
from routers.learning.sources.models import known, with_list_price
from routers.learning.sources.rows import BadSource, Model, Reading, Row, estimate_tokens

TABLE = "routellm"
GSM8K = "routellm/evals/gsm8k/gsm8k_responses.csv"
MMLU = "routellm/evals/mmlu/responses"
_FLAGS = {"True": 1.0, "False": 0.0}


def read(folder: Path) -> Reading:
    """Raises BadSource."""
    models = [with_list_price(model) for _, model in sorted(known(TABLE).items())]
    (math,) = files.existing(folder, GSM8K)
    subjects = sorted((folder / MMLU).glob("mmlu_*.csv"))
    if not subjects:
        raise BadSource(folder / MMLU, "holds no mmlu_SUBJECT.csv")
    rows: list[Row] = []
    repeated = 0
    for path in [math, *subjects]:
        found, twice = _rows(path, models, "gsm8k" if path is math else path.stem.replace("_", "-", 1))
        rows += found
        repeated += twice
    return Reading(rows, models, [f"{repeated} prompts that stand twice in their subject are kept once"])


def _rows(path: Path, models: Sequence[Model], subject: str) -> tuple[list[Row], int]:
    """The answers of a file, and how many of its prompts came again."""
    one_token = subject != "gsm8k"
    responses = [] if one_token else [f"{model.name}_response" for model in models]
    dataset = f"{TABLE}/{subject.partition('-')[0]}"
    rows: list[Row] = []
    seen: set[str] = set()
    repeated = 0
    for number, cells in files.table(path, ["prompt", *(model.name for model in models), *responses]):
        prompt = cells["prompt"]
        if prompt in seen:
            repeated += 1
            continue
        seen.add(prompt)
        into = estimate_tokens(prompt)
        for model in models:
            if cells[model.name] not in _FLAGS:
                raise BadSource(path, f"{model.name} is {cells[model.name][:40]!r}, neither True nor False", f"row {number}")
            out = 1 if one_token else estimate_tokens(cells[f"{model.name}_response"].strip())
            name = f"{TABLE}-{subject}-{number - 1:04d}"
            rows.append(Row(name, dataset, prompt, model.name, _FLAGS[cells[model.name]], model.cost(into, out), into, out))
    return rows, repeated
