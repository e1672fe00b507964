"""ONNX runtime, told to keep to itself: its official builds send telemetry to their maker unless they are told not to before they start.

Source: ONNX Runtime's Privacy.md, "Disabling Telemetry".
"""

from __future__ import annotations

import os
from typing import Any

QUIET = "ORT_DISABLE_TELEMETRY"


def runtime() -> Any:
    """The module onnxruntime. Whoever wants its telemetry sets ORT_DISABLE_TELEMETRY=0 himself. Raises ImportError without the extra."""
    os.environ.setdefault(QUIET, "1")
    import onnxruntime

    return onnxruntime
