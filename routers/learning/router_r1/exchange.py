"""Questions as rows that veRL reads, and back; and rows of tokens as it wants them. Needs nothing of veRL itself."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from routers.api import Model, Price
from routers.learning.router_r1.chains import Row
from routers.learning.router_r1.questions import Question, Said, mean_costs

LOOP = "router_r1"


def rows(questions: Sequence[Question], models: Mapping[str, Model]) -> Iterator[dict[str, object]]:
    """A row for each question. `models`: the experts, as the policy reads of them."""
    costs = mean_costs(questions, list(models))
    shown = [{**asdict(model), "capabilities": sorted(model.capabilities), "cost_usd": costs[name]} for name, model in models.items()]
    experts = json.dumps(shown)
    for number, question in enumerate(questions):
        yield {
            "data_source": LOOP,
            "agent_name": LOOP,
            "prompt": [{"role": "user", "content": question.text}],
            "reward_model": {"style": "rule", "ground_truth": question.right},
            "extra_info": {"index": number, "question": json.dumps(asdict(question)), "experts": experts},
        }


def read(told: Mapping[str, Any]) -> tuple[Question, Mapping[str, Model], Mapping[str, float]]:
    """The question of a row's `extra_info`, the experts, and USD of a call of each."""
    found = json.loads(told["question"])
    found["said"] = {name: Said(**said) for name, said in found["said"].items()}
    models, costs = {}, {}
    for one in json.loads(told["experts"]):
        costs[one["name"]] = float(one.pop("cost_usd"))
        price = None if one["price"] is None else Price(**one["price"])
        models[one["name"]] = Model(**{**one, "price": price, "capabilities": frozenset(one["capabilities"])})
    return Question(**found), models, costs


def fitted(row: Row, prompt: int, response: int) -> Row:
    """A row whose prompt has at most so many tokens, its rest being masked in the completion, and whose completion has at most so many."""
    rest = row.prompt[prompt:]
    completion, mask = rest + row.completion, (0,) * len(rest) + row.mask
    return Row(row.prompt[:prompt], completion[:response], mask[:response])


def write(folder: Path, questions: Sequence[Question], models: Mapping[str, Model]) -> list[Path]:
    """A Parquet file for each split that there is. Raises OSError."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    folder.mkdir(parents=True, exist_ok=True)
    made = []
    for split in sorted({question.split for question in questions}):
        path = folder / f"{split}.parquet"
        pq.write_table(pa.Table.from_pylist(list(rows([one for one in questions if one.split == split], models))), path)
        made.append(path)
    return made
