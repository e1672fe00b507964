"""Reading other people's files: of bounded size, whole or not at all, and with the place of what is wrong."""

from __future__ import annotations

import csv
import io
import lzma
import re
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

import msgspec

from routers.learning.sources.rows import BadSource

MAX_BYTES = 512 * 1024 * 1024
"""Of one file, and of what a zip's entry unpacks to."""
_POINTER = b"version https://git-lfs"
_PLACE = re.compile(r" - at `\$\[(\d+)\]")
T = TypeVar("T")


def existing(folder: Path, *names: str) -> list[Path]:
    """These files of a clone. Raises BadSource for the first that is not there."""
    paths = [folder / name for name in names]
    for path in paths:
        if not path.is_file():
            raise BadSource(path, "there is no such file; PATH is the folder of a whole clone")
    return paths


def content(path: Path) -> bytes:
    """All of a file. Raises BadSource if it cannot be read, is too large, or is only Git LFS's note of where the file is."""
    try:
        with path.open("rb") as file:
            found = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise BadSource(path, f"cannot be read: {error.strerror or type(error).__name__}") from None
    if len(found) > MAX_BYTES:
        raise BadSource(path, f"is larger than {MAX_BYTES} bytes")
    if found.startswith(_POINTER):
        raise BadSource(path, "is a Git LFS pointer and not the file; `git lfs pull` in the clone brings it")
    return found


def zipped(path: Path) -> bytes:
    """The one JSON entry of a zip, unpacked. Raises BadSource, also for a zip that holds several or unpacks to too much."""
    raw = content(path)
    try:
        with zipfile.ZipFile(io.BytesIO(raw)) as archive:
            names = [name for name in archive.namelist() if name.endswith(".json") and not name.startswith("__MACOSX/")]
            if len(names) != 1:
                raise BadSource(path, f"holds {len(names)} JSON files, not one")
            with archive.open(names[0]) as file:
                found = file.read(MAX_BYTES + 1)
    except (zipfile.BadZipFile, zlib.error, lzma.LZMAError, EOFError, NotImplementedError, RuntimeError, OSError) as error:
        raise BadSource(path, f"is no whole zip: {error}") from None
    if len(found) > MAX_BYTES:
        raise BadSource(path, f"unpacks to more than {MAX_BYTES} bytes")
    return found


def parse(raw: bytes, kind: type[T], path: Path) -> T:
    """JSON of this shape. Raises BadSource; where the document is a list, with the row."""
    try:
        return msgspec.json.decode(raw, type=kind)
    except msgspec.ValidationError as error:
        place = _PLACE.search(str(error))
        raise BadSource(path, str(error), "" if place is None else f"row {int(place[1]) + 1}") from None
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
        raise BadSource(path, f"is no whole JSON: {error}") from None


def lines(path: Path, kind: type[T]) -> Iterator[tuple[int, T]]:
    """A JSONL file's lines of this shape, each with its number. Raises BadSource with the line."""
    decoder = msgspec.json.Decoder(kind)
    for number, line in enumerate(content(path).splitlines(), 1):
        if not line.strip():
            continue
        try:
            yield number, decoder.decode(line)
        except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
            raise BadSource(path, str(error), f"line {number}") from None


def table(path: Path, columns: Sequence[str]) -> Iterator[tuple[int, dict[str, str]]]:
    """A CSV file's rows below the heading, each with its number. Raises BadSource for a missing column, and with the row for one that is
    torn, too short or too long.
    """
    with _csv_faults(path), path.open(encoding="utf-8", newline="") as file:
        if path.stat().st_size > MAX_BYTES:
            raise BadSource(path, f"is larger than {MAX_BYTES} bytes")
        reader = csv.reader(file, strict=True)
        heading = next(reader, [])
        missing = [name for name in columns if name not in heading]
        if missing:
            raise BadSource(path, f"column {missing[0]!r} is missing")
        number = 0
        while True:
            number += 1
            try:
                cells = next(reader, None)
            except csv.Error as error:
                raise BadSource(path, str(error), f"row {number}") from None
            if cells is None:
                return
            if len(cells) != len(heading):
                raise BadSource(path, f"has {len(cells)} cells, not {len(heading)}", f"row {number}")
            yield number, dict(zip(heading, cells, strict=True))


@contextmanager
def _csv_faults(path: Path) -> Iterator[None]:
    try:
        yield
    except csv.Error as error:
        raise BadSource(path, str(error), "heading") from None
    except UnicodeDecodeError:
        raise BadSource(path, "is not UTF-8") from None
    except OSError as error:
        raise BadSource(path, f"cannot be read: {error.strerror or type(error).__name__}") from None
