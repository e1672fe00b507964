"""What is known of the sources' models beside their answers: facts that we wrote down, in models.json."""

from __future__ import annotations

from importlib.resources import files

import msgspec

from routers.learning.sources.rows import Model


class Known(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A model as models.json has it. Without prices: the source has its own."""

    name: str
    table: str
    family: str
    context_window: int
    description: str
    usd_per_1m_tokens_in: float | None = None
    usd_per_1m_tokens_out: float | None = None


class _List(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    basis: str
    models: list[Known]


def known(table: str) -> dict[str, Known]:
    """The models of a source by name."""
    text = files("routers.learning.sources").joinpath("models.json").read_bytes()
    return {model.name: model for model in msgspec.json.decode(text, type=_List).models if model.table == table}


def with_list_price(model: Known) -> Model:
    """A model with the list price of its time."""
    return _model(model, model.usd_per_1m_tokens_in, model.usd_per_1m_tokens_out, "derived")


def with_source_price(name: str, table: str, price: tuple[float, float] | None) -> Model:
    """A model with the price of its source, USD per 1M tokens in and out, and what else is known of it."""
    found = known(table).get(name)
    into, out = (None, None) if price is None else price
    basis = None if price is None else "source"
    if found is None:
        return Model(name, table, None, into, out, basis, None, None)
    return _model(found, into, out, basis)


def _model(model: Known, into: float | None, out: float | None, basis: str | None) -> Model:
    return Model(model.name, model.table, model.family, into, out, basis, model.context_window, model.description)
