"""The outcomes table: how well each model did on each question, and what it cost. (Columns: the contract's; unknown is null.)"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, get_args

import numpy as np

if TYPE_CHECKING:
    import pyarrow as pa
    from numpy.typing import NDArray

    Floats: TypeAlias = NDArray[np.float64]
    Codes: TypeAlias = NDArray[np.int64]

Split = Literal["train", "validation", "test"]
SPLITS: tuple[str, ...] = get_args(Split)
REQUIRED = ("query_id", "dataset", "split", "prompt", "model", "score")
OPTIONAL = ("cost_usd", "tokens_in", "tokens_out", "latency_s")
SHOWN = 5
"""Rows named in one complaint."""
_SPACE = re.compile(r"\s+")


class BadOutcomes(ValueError):
    """A table that cannot be used. `problems`: what is wrong and in which rows, counted from 1."""

    def __init__(self, path: Path, problems: Sequence[str]) -> None:
        super().__init__("\n".join(f"{path}: {problem}" for problem in problems))
        self.path = path
        self.problems = tuple(problems)


@dataclass(frozen=True, slots=True)
class Outcomes:
    """n questions and m models. `scores` in [0, 1], `costs` in USD, `tokens_in`, `tokens_out`: float64 (n, m), NaN where unknown.

    `splits`: n of train, validation, test. `data_hash`: sha256 of the file that they come from.
    """

    queries: tuple[str, ...]
    datasets: tuple[str, ...]
    splits: tuple[str, ...]
    prompts: tuple[str, ...]
    models: tuple[str, ...]
    scores: Floats
    costs: Floats
    tokens_in: Floats
    tokens_out: Floats
    data_hash: str

    def __len__(self) -> int:
        return len(self.queries)

    def of(self, models: Sequence[str]) -> Outcomes:
        """The same questions with these models alone, in this order. Raises ValueError for a model that has no outcome at all."""
        unknown = [name for name in models if name not in self.models]
        if unknown:
            raise ValueError(f"no outcomes of {', '.join(map(repr, unknown))}; there are: {', '.join(self.models)}")
        columns = [self.models.index(name) for name in models]
        return self._taken(range(len(self)), columns, tuple(models))

    def complete(self) -> Outcomes:
        """The questions that every model answered, at a known cost."""
        known = ~(np.isnan(self.scores) | np.isnan(self.costs)).any(axis=1)
        return self._taken(np.flatnonzero(known).tolist(), range(len(self.models)), self.models)

    def rows(self, places: Sequence[int]) -> Outcomes:
        """The questions at these places."""
        return self._taken(places, range(len(self.models)), self.models)

    def split(self, name: str) -> Outcomes:
        """The questions of one split."""
        rows = [row for row, split in enumerate(self.splits) if split == name]
        return self._taken(rows, range(len(self.models)), self.models)

    def _taken(self, rows: Sequence[int], columns: Sequence[int], models: tuple[str, ...]) -> Outcomes:
        picked = np.ix_(np.asarray(rows, dtype=np.int64), np.asarray(columns, dtype=np.int64))
        return Outcomes(
            tuple(self.queries[row] for row in rows),
            tuple(self.datasets[row] for row in rows),
            tuple(self.splits[row] for row in rows),
            tuple(self.prompts[row] for row in rows),
            models,
            self.scores[picked],
            self.costs[picked],
            self.tokens_in[picked],
            self.tokens_out[picked],
            self.data_hash,
        )


def load(path: Path, known_models: Sequence[str] | None = None) -> Outcomes:
    """Reads a Parquet table and checks all of it. `known_models`: no others may be in it.

    Raises BadOutcomes: for a file that is none, a missing or wrong column, a (query_id, model) that occurs twice, a score that is unknown
    or outside [0, 1], a negative cost, an unknown split or model, and a question or prompt that is in two splits.
    """
    table = _read(path)
    columns = {name: _codes(table, name) for name in ("query_id", "dataset", "split", "prompt", "model")}
    numbers = {name: _numbers(table, name) for name in ("score", *OPTIONAL)}
    problems = _wrong_values(columns, numbers, known_models)
    rows, models = columns["query_id"][0], columns["model"][0]
    problems += _twice(rows, models, columns)
    problems += _leaks(columns)
    if problems:
        raise BadOutcomes(path, problems)
    return _matrices(columns, numbers, _hash(path))


def _read(path: Path) -> pa.Table:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        names = pq.read_schema(path).names
        missing = [name for name in REQUIRED if name not in names]
        if missing:
            raise BadOutcomes(path, [f"column {name!r} is missing; a table has {', '.join((*REQUIRED, *OPTIONAL))}" for name in missing])
        wanted = [name for name in (*REQUIRED, *OPTIONAL) if name in names]
        texts = ["query_id", "dataset", "split", "prompt", "model"]
        table = pq.read_table(path, columns=wanted, read_dictionary=texts)
    except OSError as error:
        raise BadOutcomes(path, [f"cannot be read: {error.strerror or 'it is no whole Parquet file'}"]) from None
    except pa.ArrowInvalid as error:
        raise BadOutcomes(path, [f"is no whole Parquet file: {str(error).splitlines()[0]}"]) from None
    if not table.num_rows:
        raise BadOutcomes(path, ["holds no rows"])
    return table


def _codes(table: pa.Table, name: str) -> tuple[Codes, list[Any]]:
    """A text column as codes (n,) into its values; -1 is null."""
    import pyarrow as pa
    import pyarrow.compute as pc

    column = table.column(name)
    if not pa.types.is_dictionary(column.type):
        column = pc.dictionary_encode(column.cast(pa.string()))
    whole = column.unify_dictionaries().combine_chunks()
    if isinstance(whole, pa.ChunkedArray):
        whole = whole.chunk(0)
    codes = whole.indices.fill_null(-1).to_numpy(zero_copy_only=False).astype(np.int64)
    return codes, whole.dictionary.to_pylist()


def _numbers(table: pa.Table, name: str) -> Floats:
    """A column of numbers, NaN where it is null or not there."""
    import pyarrow as pa

    if name not in table.column_names:
        return np.full(table.num_rows, np.nan)
    found: Floats = table.column(name).cast(pa.float64()).to_numpy().astype(np.float64)
    return found


def _wrong_values(columns: dict[str, tuple[Codes, list[Any]]], numbers: dict[str, Floats], known_models: Sequence[str] | None) -> list[str]:
    problems = []
    for name, (codes, _) in columns.items():
        problems += _complain(codes < 0, f"{name} is null")
    score = numbers["score"]
    problems += _complain(np.isnan(score), "score is unknown")
    problems += _complain((score < 0) | (score > 1), "score is outside [0, 1]")
    for name in OPTIONAL:
        problems += _complain((numbers[name] < 0) | np.isinf(numbers[name]), f"{name} is negative or infinite")
    codes, values = columns["split"]
    odd = [value not in SPLITS for value in values]
    problems += _complain(_where(codes, odd), "split is none of " + ", ".join(SPLITS))
    if known_models is not None:
        codes, values = columns["model"]
        unknown = [value for value in values if value not in known_models]
        odd = [value in unknown for value in values]
        problems += _complain(_where(codes, odd), f"model is not known ({', '.join(map(repr, unknown[:SHOWN]))})")
    return problems


def _where(codes: Codes, odd: Sequence[bool]) -> NDArray[np.bool_]:
    """The rows whose value is odd."""
    found: NDArray[np.bool_] = np.append(np.asarray(odd, dtype=bool), False)[codes]
    return found


def _complain(wrong: NDArray[np.bool_], what: str) -> list[str]:
    rows = np.flatnonzero(wrong) + 1
    if not len(rows):
        return []
    named = ", ".join(map(str, rows[:SHOWN].tolist()))
    more = f" and {len(rows) - SHOWN} more" if len(rows) > SHOWN else ""
    return [f"row {named}{more}: {what}"]


def _twice(queries: Codes, models: Codes, columns: dict[str, tuple[Codes, list[Any]]]) -> list[str]:
    """Rows that repeat a (query_id, model)."""
    pairs = queries * (len(columns["model"][1]) + 1) + models
    order = np.argsort(pairs, kind="stable")
    again = np.zeros(len(pairs), dtype=bool)
    again[order[1:]] = pairs[order[1:]] == pairs[order[:-1]]
    return _complain(again, "this query_id and model stand in the table already")


def _leaks(columns: dict[str, tuple[Codes, list[Any]]]) -> list[str]:
    """Rows whose question, or whose prompt but for case and white space, is in another split as well."""
    splits = columns["split"][0]
    codes, prompts = columns["prompt"]
    places: dict[str, int] = {}
    same = np.array([places.setdefault(_SPACE.sub(" ", str(prompt).lower()).strip(), len(places)) for prompt in prompts] + [-1])
    problems = []
    for what, keys in (("query_id", columns["query_id"][0]), ("prompt", same[codes])):
        first: Codes = np.full(int(keys.max()) + 2, -1, dtype=np.int64)
        first[keys[::-1]] = splits[::-1]
        problems += _complain(first[keys] != splits, f"this {what} is in another split as well")
    return problems


def _matrices(columns: dict[str, tuple[Codes, list[Any]]], numbers: dict[str, Floats], data_hash: str) -> Outcomes:
    rows, queries = columns["query_id"]
    models = columns["model"][1]
    order = np.argsort(np.argsort(np.asarray(models)))  # models by name, so that the same data always gives the same matrices
    names = tuple(sorted(models))
    place = (rows, order[columns["model"][0]])

    def matrix(name: str) -> Floats:
        found = np.full((len(queries), len(names)), np.nan)
        found[place] = numbers[name]
        return found

    def texts(name: str) -> tuple[str, ...]:
        codes, values = columns[name]
        found = np.zeros(len(queries), dtype=np.int64)
        found[rows] = codes
        return tuple(values[code] for code in found)

    return Outcomes(
        tuple(queries),
        texts("dataset"),
        texts("split"),
        texts("prompt"),
        names,
        matrix("score"),
        matrix("cost_usd"),
        matrix("tokens_in"),
        matrix("tokens_out"),
        data_hash,
    )


def _hash(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
