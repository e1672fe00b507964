"""How far two versions of an artifact are apart."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

from routers.artifacts import Artifact

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Doubles: TypeAlias = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Apart:
    """Greatest and mean absolute difference of two arrays."""

    largest: float
    mean: float


@dataclass(frozen=True, slots=True)
class Change:
    """A tensor that is not the same in both. `what`: "added", "removed", "reshaped", or "changed", which alone has numbers.

    `models`: the part of each model, where a dimension of the tensor is the models and that model's part changed.
    """

    tensor: str
    what: str
    apart: Apart | None = None
    models: Mapping[str, Apart] = field(default_factory=dict)


def changes(before: Artifact, after: Artifact, axes: Mapping[str, int]) -> list[Change]:
    """What differs, by name of the tensor. `axes`: tensor -> the dimension that is the models. NaN is equal to NaN alone."""
    found = []
    for name in sorted({*before.tensors, *after.tensors}):
        if name not in before.tensors or name not in after.tensors:
            found.append(Change(name, "removed" if name in before.tensors else "added"))
            continue
        old, new = before.tensors[name], after.tensors[name]
        if old.shape != new.shape or old.dtype != new.dtype:
            found.append(Change(name, "reshaped"))
        elif not np.array_equal(old, new, equal_nan=old.dtype.kind == "f"):
            gap = _gap(old.astype(np.float64), new.astype(np.float64))
            models = before.manifest.models
            axis = axes.get(name) if models == after.manifest.models else None
            found.append(Change(name, "changed", _apart(gap), {} if axis is None else _by_model(np.moveaxis(gap, axis, 0), models)))
    return found


def _gap(old: Doubles, new: Doubles) -> Doubles:
    gap: Doubles = np.abs(new - old)
    gap[np.isnan(old) & np.isnan(new)] = 0
    return np.nan_to_num(gap, nan=np.inf)


def _apart(gap: Doubles) -> Apart:
    return Apart(float(gap.max()), float(gap.mean()))


def _by_model(gap: Doubles, models: tuple[str, ...]) -> dict[str, Apart]:
    parts = {name: _apart(part) for name, part in zip(models, gap, strict=True)}
    return {name: apart for name, apart in parts.items() if apart.largest > 0}
