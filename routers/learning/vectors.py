"""The vectors of many prompts: computed side by side, and kept in a file for the next time if one is named."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

if TYPE_CHECKING:
    from routers.api import Embeddings, Encoder

PORTION = 16
"""Prompts that a thread takes at a time."""


def encode(prompts: Sequence[str], encoder: Encoder, threads: int, done: Callable[[int], None], kept: Path | None = None) -> Embeddings:
    """Vectors (n, d) of n prompts. `done` hears how many more are ready. `kept`: a file of vectors of the same encoder, read where it
    knows a prompt, and written anew with all of them.
    """
    known = {} if kept is None else _read(kept, encoder.hash)
    names = [hashlib.sha256(prompt.encode(errors="replace")).hexdigest() for prompt in prompts]
    missing = [place for place, name in enumerate(names) if name not in known]
    done(len(prompts) - len(missing))
    portions = [missing[start : start + PORTION] for start in range(0, len(missing), PORTION)]

    def work(places: Sequence[int]) -> None:
        for place, vector in zip(places, encoder.encode([prompts[place] for place in places]), strict=True):
            known[names[place]] = vector
        done(len(places))

    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(work, portions))
    if kept is not None and missing:
        _write(kept, encoder.hash, known)
    return np.stack([known[name] for name in names])


def _read(path: Path, encoder_hash: str) -> dict[str, Embeddings]:
    """Vectors by the hash of their prompt; none if the file is not there, is no such file, or is another encoder's."""
    try:
        with safe_open(path, framework="numpy") as file:
            if (file.metadata() or {}).get("encoder") != encoder_hash:
                return {}
            names, vectors = file.get_tensor("names"), file.get_tensor("vectors")
    except (OSError, SafetensorError):
        return {}
    return {bytes(name).hex(): vector for name, vector in zip(names, vectors, strict=True)}


def _write(path: Path, encoder_hash: str, known: dict[str, Embeddings]) -> None:
    names = np.array([list(bytes.fromhex(name)) for name in known], dtype=np.uint8)
    path.parent.mkdir(parents=True, exist_ok=True)
    fresh = path.with_name(f".{path.name}.new")
    save_file({"names": names, "vectors": np.stack(list(known.values()))}, fresh, metadata={"encoder": encoder_hash})
    fresh.replace(path)
