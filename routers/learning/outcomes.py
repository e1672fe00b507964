"""The outcomes table: how well each model did on each question, and what it cost. (Columns: the contract's; unknown is null.)"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal, TypeAlias, get_args

import numpy as np

if TYPE_CHECKING:
    import pyarrow as pa
    import pyarrow.parquet as pq
    from numpy.typing import NDArray

    Floats: TypeAlias = NDArray[np.float64]
    Codes: TypeAlias = NDArray[np.int32]
    Coded: TypeAlias = tuple[Codes, list[str]]

Split = Literal["train", "validation", "test"]
SPLITS: tuple[str, ...] = get_args(Split)
REQUIRED = ("query_id", "dataset", "split", "prompt", "model", "score")
OPTIONAL = ("cost_usd", "tokens_in", "tokens_out", "latency_s")
TEXTS = ("query_id", "dataset", "split", "prompt", "model")
SHOWN = 5
"""Rows named in one complaint."""
BATCH = 65_536
"""Rows that are in memory as they stand in the file; of all others only codes and numbers are."""


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
    """Reads a Parquet table and checks all of it. `known_models`: no others may be in it. The file is read batch by batch and every text
    kept once: 10^7 rows of 20 models and 500,000 prompts take about a gigabyte, most of it the four matrices and what fills them.

    Raises BadOutcomes: for a file that is none, a missing or wrong column, a (query_id, model) that occurs twice, a score that is unknown
    or outside [0, 1], a negative cost, an unknown split or model, and a question or prompt that is in two splits.
    """
    columns, numbers = _read(path)
    problems = _wrong_values(columns, numbers, known_models)
    rows, models = columns["query_id"][0], columns["model"][0]
    problems += _twice(rows, models, columns)
    problems += _leaks(columns)
    if problems:
        raise BadOutcomes(path, problems)
    return _matrices(columns, numbers, _hash(path))


class _Texts:
    """A text column, filled batch by batch. `codes`: (n,) into the values, in the order in which they came; -1 is null."""

    def __init__(self, rows: int) -> None:
        self.codes: Codes = np.full(rows, -1, dtype=np.int32)
        self._places: dict[str, int] = {}

    def fill(self, start: int, column: pa.DictionaryArray) -> None:
        """The rows from `start` on. Of the column's dictionary only those values count that a row has."""
        local = column.indices.fill_null(-1).to_numpy(zero_copy_only=False)
        used = np.zeros(len(column.dictionary) + 1, dtype=bool)
        used[local] = True
        used[-1] = False
        found = np.flatnonzero(used)
        places = np.full(len(used), -1, dtype=np.int32)
        values = column.dictionary.take(found).to_pylist()
        places[found] = [-1 if value is None else self._places.setdefault(value, len(self._places)) for value in values]
        self.codes[start : start + len(local)] = places[local]

    def coded(self) -> Coded:
        return self.codes, list(self._places)


def _read(path: Path) -> tuple[dict[str, Coded], dict[str, Floats]]:
    """The text columns, and the columns of numbers (n,), NaN where they are null or not there."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    with _file_faults(path):
        schema = pq.read_schema(path)
    names = schema.names
    missing = [name for name in REQUIRED if name not in names]
    if missing:
        raise BadOutcomes(path, [f"column {name!r} is missing; a table has {', '.join((*REQUIRED, *OPTIONAL))}" for name in missing])
    flat = [name for name in TEXTS if not pa.types.is_nested(schema.field(name).type)]  # pyarrow knows the others by other names
    with _file_faults(path), pq.ParquetFile(path, read_dictionary=flat) as file:
        rows = file.metadata.num_rows
        if not rows:
            raise BadOutcomes(path, ["holds no rows"])
        texts = {name: _Texts(rows) for name in TEXTS}
        numbers = {name: np.full(rows, np.nan) for name in ("score", *OPTIONAL)}
        start = 0
        for batch in _batches(file, [*REQUIRED, *(name for name in OPTIONAL if name in names)]):
            for name, column in zip(batch.schema.names, batch.columns, strict=True):
                if name in texts:
                    texts[name].fill(start, _dictionary(path, name, column))
                else:
                    numbers[name][start : start + len(column)] = _floats(path, name, column)
            start += batch.num_rows
    pa.default_memory_pool().release_unused()  # the matrices come next, and need what the reader had
    return {name: column.coded() for name, column in texts.items()}, numbers


@contextmanager
def _file_faults(path: Path) -> Iterator[None]:
    import pyarrow as pa

    try:
        yield
    except OSError as error:
        raise BadOutcomes(path, [f"cannot be read: {error.strerror or 'it is no whole Parquet file'}"]) from None
    except UnicodeDecodeError:
        raise BadOutcomes(path, ["holds a text that is not UTF-8"]) from None
    except pa.ArrowInvalid as error:
        raise BadOutcomes(path, [f"is no whole Parquet file: {str(error).splitlines()[0]}"]) from None


def _batches(file: pq.ParquetFile, names: list[str]) -> Iterator[pa.RecordBatch]:
    """One row group after another: a batch over the border of two would have to join their dictionaries."""
    for group in range(file.num_row_groups):
        yield from file.iter_batches(BATCH, row_groups=[group], columns=names)


def _dictionary(path: Path, name: str, column: pa.Array) -> pa.DictionaryArray:
    import pyarrow as pa

    if pa.types.is_dictionary(column.type):
        if pa.types.is_string(column.type.value_type) or pa.types.is_large_string(column.type.value_type):
            return column
        column = column.dictionary_decode()
    try:
        return column.cast(pa.string()).dictionary_encode()
    except pa.ArrowException:
        raise BadOutcomes(path, [f"column {name!r} holds {column.type}, not texts"]) from None


def _floats(path: Path, name: str, column: pa.Array) -> Floats:
    import pyarrow as pa

    try:
        found: Floats = column.cast(pa.float64()).to_numpy(zero_copy_only=False)
    except pa.ArrowException:
        raise BadOutcomes(path, [f"column {name!r} holds {column.type}, not numbers"]) from None
    return found


def _wrong_values(columns: dict[str, Coded], numbers: dict[str, Floats], known_models: Sequence[str] | None) -> list[str]:
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


def _twice(queries: Codes, models: Codes, columns: dict[str, Coded]) -> list[str]:
    """Rows that repeat a (query_id, model)."""
    pairs = queries.astype(np.int64) * (len(columns["model"][1]) + 1) + models
    order = np.argsort(pairs, kind="stable")
    again = np.zeros(len(pairs), dtype=bool)
    again[order[1:]] = pairs[order[1:]] == pairs[order[:-1]]
    return _complain(again, "this query_id and model stand in the table already")


def _leaks(columns: dict[str, Coded]) -> list[str]:
    """Rows whose question, or whose prompt but for case and white space, is in another split as well."""
    splits = columns["split"][0]
    codes, prompts = columns["prompt"]
    places: dict[bytes, int] = {}
    same = np.array([places.setdefault(_digest(prompt), len(places)) for prompt in prompts] + [-1], dtype=np.int32)
    problems = []
    for what, keys in (("query_id", columns["query_id"][0]), ("prompt", same[codes])):
        first: Codes = np.full(int(keys.max()) + 2, -1, dtype=np.int32)
        first[keys[::-1]] = splits[::-1]
        problems += _complain(first[keys] != splits, f"this {what} is in another split as well")
    return problems


def _digest(prompt: str) -> bytes:
    """16 bytes for a prompt but for case and white space: a second copy of all prompts would be as large as the matrices."""
    return hashlib.blake2b(" ".join(prompt.lower().split()).encode(errors="replace"), digest_size=16).digest()


def _matrices(columns: dict[str, Coded], numbers: dict[str, Floats], data_hash: str) -> Outcomes:
    """`numbers` is used up: each column is let go when its matrix stands."""
    rows, queries = columns["query_id"]
    models = columns["model"][1]
    order = np.argsort(np.argsort(np.asarray(models)))  # models by name, so that the same data always gives the same matrices
    names = tuple(sorted(models))
    place = (rows, order.astype(np.int32)[columns["model"][0]])

    def matrix(name: str) -> Floats:
        found = np.full((len(queries), len(names)), np.nan)
        found[place] = numbers.pop(name)
        return found

    def texts(name: str) -> tuple[str, ...]:
        codes, values = columns[name]
        found = np.zeros(len(queries), dtype=np.int32)
        found[rows] = codes
        return tuple(values[code] for code in found.tolist())

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
