"""Takes out of an environment what a gateway never opens: trim_image.py ENVIRONMENT.

For the image alone. Tests of other people's packages and their data, the second copy of a library, debugging symbols. The packages' own
lists of files (RECORD) are left as they were, so what was taken out can be told from them.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

FOLDERS = (
    "numpy/**/tests",
    "numpy/f2py",
    "onnx/backend/test",
    "onnxruntime/quantization",
    "onnxruntime/tools",
    "onnxruntime/transformers",
)
FILES = (
    "onnxruntime/capi/libonnxruntime.so.*",  # for programs in C; Python's module has all of it in itself
    "onnx/**/*.cc",
    "onnx/**/*.h",
    "uvloop/**/*.p[xy]*[dxi]",
)
STRIPPED = ("httptools", "msgspec", "uvloop")
"""Packages whose wheels come with debugging symbols. Others are left alone: rewriting a library can break one that was patched before."""


def trim(packages: Path) -> None:
    """`packages`: a site-packages folder. Raises SystemExit if a pattern finds nothing: then this list is old."""
    for pattern in (*FOLDERS, *FILES):
        found = sorted(packages.glob(pattern))
        if not found:
            raise SystemExit(f"trim_image: nothing is named {pattern} any more")
        for path in found:
            if path.is_dir():
                shutil.rmtree(path)
            elif path.exists():
                path.unlink()
    libraries = [path for package in STRIPPED for path in sorted((packages / package).rglob("*.so"))]
    subprocess.run(["strip", "--strip-unneeded", *map(str, libraries)], check=True)


def megabytes(folder: Path) -> float:
    return sum(path.lstat().st_size for path in folder.rglob("*") if not path.is_dir()) / 1e6


def main() -> None:
    (packages,) = Path(sys.argv[1]).glob("lib/python3*/site-packages")
    before = megabytes(packages)
    trim(packages)
    print(f"trim_image: {before:.0f} MB before, {megabytes(packages):.0f} MB after")


if __name__ == "__main__":
    main()
