"""`make chaos`"""

from __future__ import annotations

import argparse
import asyncio
import sys
import tempfile
from pathlib import Path

from tests.chaos.run import run


def main() -> int:
    """Prints the table; 1 if something that must hold does not."""
    parser = argparse.ArgumentParser(description="Traffic over two gateways while everything behind them breaks and mends.")
    parser.add_argument("--seconds", type=float, default=180)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--rate", type=float, default=25, help="requests a second")
    parser.add_argument("--logs", type=Path, default=None, help="keep the processes' logs in this folder")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="pointsman-chaos-") as temporary:
        folder = asked.logs or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        findings, text = asyncio.run(run(folder, asked.seconds, asked.seed, asked.rate))
    print(text)
    return 1 if any(one.holds is False for one in findings) else 0


if __name__ == "__main__":
    sys.exit(main())
