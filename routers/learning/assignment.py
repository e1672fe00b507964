"""Who is kept and who serves what: an integer programme, solved exactly by HiGHS."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from routers.api import Model

_SIZE = re.compile(r"(?<![\w.])(?:(\d+)\s*x\s*)?(\d+(?:\.\d+)?)\s*[bB](?![a-zA-Z])")


def billions(card: Model) -> float | None:
    """Parameters of a model, in billions, if its name or description says so ("7B", "8x7B"); None if neither does."""
    for text in (card.name.replace("-", " ").replace("_", " "), card.description):
        found = _SIZE.search(text)
        if found is not None:
            return float(found[1] or 1) * float(found[2])
    return None


def assign(table: Any, costs: Any, shares: Any, cards: Sequence[Model], usd: float | None, size: float | None) -> Any:
    """Who serves each of c kinds: (c,) of models, so that the expected score is greatest.

    `table`, `costs`: (c, m), mean scores and mean USD by kind. `shares`: (c,) of the questions. `usd`: bound on the mean cost of one.
    `size`: bound on the parameters, in billions, of all models that serve something. Raises ValueError if nothing keeps within the
    bounds, or a model's size is asked for and unknown.
    """
    from scipy.optimize import LinearConstraint, milp
    from scipy.sparse import coo_matrix, csr_matrix

    kinds, models = table.shape
    cells = kinds * models
    gain = np.concatenate([-(table * shares[:, None]).ravel(), np.full(models, 1e-9)])
    one_each = csr_matrix((np.ones(cells), (np.repeat(np.arange(kinds), models), np.arange(cells))), shape=(kinds, cells + models))
    rows, columns = np.arange(cells), np.arange(cells)
    opened = coo_matrix((np.ones(cells), (rows, columns)), shape=(cells, cells + models)) - coo_matrix(
        (np.ones(cells), (rows, cells + np.tile(np.arange(models), kinds))), shape=(cells, cells + models)
    )
    rules = [LinearConstraint(one_each, 1, 1), LinearConstraint(opened.tocsr(), -np.inf, 0)]
    if usd is not None:
        rules.append(LinearConstraint(np.concatenate([(costs * shares[:, None]).ravel(), np.zeros(models)])[None], -np.inf, usd))
    if size is not None:
        rules.append(LinearConstraint(np.concatenate([np.zeros(cells), _sizes(cards)])[None], -np.inf, size))
    found = milp(gain, constraints=rules, integrality=np.ones(cells + models), bounds=(0, 1))
    if found.x is None:
        raise ValueError(f"no plan keeps within the bounds: {found.message}")
    return np.argmax(found.x[:cells].reshape(kinds, models), axis=1)


def _sizes(cards: Sequence[Model]) -> Any:
    sizes = [billions(card) for card in cards]
    unknown = [card.name for card, size in zip(cards, sizes, strict=True) if size is None]
    if unknown:
        raise ValueError(f"the size of {', '.join(unknown)} is unknown: neither name nor description says it, as in '7B'")
    return np.array(sizes)
