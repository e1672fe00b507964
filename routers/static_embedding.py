"""Texts as vectors without a model: a table with a row for each word piece, made from MiniLM, and nothing but a sum at serving.

`static_table.safetensors` was distilled by `scripts/distil_static.py`: MiniLM read each piece alone and definitions of WordNet 3.1
(Princeton University; no text of it is kept), and the rows are those whose sums come nearest to what it said. The idea is model2vec's
(Tulkens and van Dongen, "Model2Vec", 2024); the weight of frequent words is Arora et al., "A Simple but Tough-to-Beat Baseline for
Sentence Embeddings" (2017). A sum knows no order of words and no negation: take it where microseconds count, and MiniLM where quality
does.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from importlib.resources import files
from importlib.resources.abc import Traversable
from typing import TYPE_CHECKING

from routers.encoder_files import intact
from routers.wordpieces import VOCABULARY_SHA256, WordPieces, ends, vocabulary

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from routers.api import Embedding, Embeddings

DIMENSIONS = 128
END_CHARACTERS = 1_000
"""Of a text longer than twice this, only so many characters at either end are read: more would cost time and change little."""

TABLE = "static_table.safetensors"
TABLE_SHA256 = "a487beffac169e986941000b62c6541f2a89930913e95451b6791f662cc000c9"

_NOTHING = 101
"""The mark with which MiniLM begins a text: its row stands for a text without words."""


class Static:
    """The table: float32 (n, 128), unit length. `folder`: where its files lie.

    A text's vector is the sum of the rows of its word pieces, each distinct piece once. A text without words has a vector of its own.
    Safe to call from several threads. Raises ImportError without the extra `embed`, BadEncoderFile (a ValueError) if its files are not
    the known ones.
    """

    name = "static"
    quick = True

    def __init__(self, folder: Traversable | None = None) -> None:
        import numpy as np

        folder = folder or files("routers")
        self._sum = np.add.reduce
        self._rows = unpacked(intact(folder.joinpath(TABLE), TABLE_SHA256))
        self._pieces = WordPieces(vocabulary(folder))
        self.hash = hashlib.sha256(f"{TABLE_SHA256} {VOCABULARY_SHA256} {END_CHARACTERS}".encode()).hexdigest()

    def encode(self, texts: Sequence[str]) -> Embeddings:
        if len(texts) == 1:  # what a decision asks for: its vector need not be copied
            return self._encode(texts[0])[None]
        import numpy as np

        vectors = np.empty((len(texts), DIMENSIONS), dtype=np.float32)
        for row, text in enumerate(texts):
            vectors[row] = self._encode(text)
        return vectors

    def _encode(self, text: str) -> Embedding:
        pieces = dict.fromkeys(self._pieces.cut(ends(text, END_CHARACTERS)))
        total = self._sum(self._rows.take(list(pieces) or [_NOTHING], axis=0), axis=0)
        length = float(total.dot(total)) ** 0.5
        if length == 0:  # rows of few bits may cancel out
            return self._encode("")
        vector: Embedding = total / length
        return vector


def packed(rows: NDArray[np.float32]) -> bytes:
    """A table (n, d) with even d in 4 bits a number: whole numbers from -7 to 7 times the row's scale, two a byte, the first one lower."""
    import numpy as np
    from safetensors.numpy import save

    scales = (np.abs(rows).max(axis=1) / 7).astype(np.float16)
    steps = np.where(scales > 0, scales, 1).astype(np.float32)[:, None]
    codes = (np.clip(np.rint(rows / steps), -7, 7) + 8).astype(np.uint8)
    return save({"codes": codes[:, ::2] | codes[:, 1::2] << 4, "scales": scales})


def unpacked(content: bytes) -> NDArray[np.float32]:
    """The table (n, d) that `packed` made so small."""
    import numpy as np
    from safetensors.numpy import load

    tensors = load(content)
    codes, scales = tensors["codes"], tensors["scales"].astype(np.float32)
    numbers = np.stack([codes & 15, codes >> 4], axis=2).reshape(len(codes), -1).astype(np.float32) - 8
    rows: NDArray[np.float32] = numbers * scales[:, None]
    return rows
