"""The ledger's files: appended to by several processes at once, rotated by size, and read while that goes on.

`path` is the newest file, `path.1` the one before it, and so on. Only lines are known here, not what stands in them.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import stat
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import BinaryIO

_BLOCK = 65_536
_Identity = tuple[int, int]


class LedgerDown(Exception):
    """Lines could not be written. `reason`: the error's name, such as ENOSPC. `written`: how many lines are in the file all the same."""

    def __init__(self, reason: str, written: int) -> None:
        super().__init__(f"the ledger's file cannot be written ({reason})")
        self.reason = reason
        self.written = written


class LedgerFile:
    """A file of lines, for its owner's eyes only (mode 600). `max_bytes`: it is rotated before it grows beyond; `keep`: rotated files.

    Whoever writes holds a lock on the file, so that no line of another process is lost or torn. Lines reach the operating system, but no
    fsync waits for the disk.
    """

    def __init__(self, path: Path, max_bytes: int, keep: int) -> None:
        self._path = path
        self._max_bytes = max_bytes
        self._keep = keep

    def append(self, lines: Sequence[bytes]) -> None:
        """Writes lines, which have no line break yet. Blocks. Raises LedgerDown; a line is then in the file whole or not at all."""
        done = 0
        try:
            while done < len(lines):
                with _locked(self._path) as file:
                    done += self._append_some(file, lines, done)
        except OSError as error:
            raise LedgerDown(errno.errorcode.get(error.errno or 0, type(error).__name__), done) from None

    def _append_some(self, file: int, lines: Sequence[bytes], start: int) -> int:
        """Writes as many lines as have room, or rotates if none has. Returns how many were written."""
        size = os.fstat(file).st_size
        if size and size + len(lines[start]) + 1 > self._max_bytes:
            self._rotate()
            return 0
        torn = size and os.pread(file, 1, size - 1) != b"\n"  # a process died while it wrote
        data = bytearray(b"\n" if torn else b"")
        end = start
        while end < len(lines) and (end == start or size + len(data) + len(lines[end]) + 1 <= self._max_bytes):
            data += lines[end] + b"\n"
            end += 1
        _write(file, bytes(data), size)
        return end - start

    def _rotate(self) -> None:
        """Moves every file one place on, up to the first free one. The lock is on the newest file: so that one moves last."""
        places = [self._path, *(_rotated(self._path, number) for number in range(1, self._keep + 1))]
        last = next((number for number in range(1, self._keep) if not places[number].exists()), self._keep)
        for number in range(last, 0, -1):
            places[number - 1].replace(places[number])


def _rotated(path: Path, number: int) -> Path:
    return path.with_name(f"{path.name}.{number}")


@contextmanager
def _locked(path: Path) -> Iterator[int]:
    """The newest file, open and locked. Another process may rotate it between the two: then it is opened again."""
    while True:
        file = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            if not stat.S_ISREG(os.fstat(file).st_mode):
                raise OSError(errno.EINVAL, "not a regular file")
            fcntl.flock(file, fcntl.LOCK_EX)
            if _identity(os.fstat(file)) == _identity_at(path):
                yield file
                return
        finally:
            os.close(file)


def _write(file: int, data: bytes, size: int) -> None:
    """All of the data or none. `size`: of the file before."""
    left = memoryview(data)
    try:
        while left:
            left = left[os.write(file, left) :]
    except OSError:
        with contextlib.suppress(OSError):
            os.ftruncate(file, size)
        raise


def _identity(found: os.stat_result) -> _Identity:
    return found.st_dev, found.st_ino


def _identity_at(path: Path) -> _Identity | None:
    try:
        return _identity(path.stat())
    except FileNotFoundError:
        return None


def read_lines(path: Path, since: float | None = None) -> Iterator[bytes]:
    """The lines of all files, oldest first, each with its line break if it has one. Files untouched since `since` (Unix time) are left out.

    A rotation meanwhile neither hides nor repeats a line. Raises OSError if a file cannot be read; no file at all gives no line.
    """
    with ExitStack() as stack:
        file = _open_after(path, None, stack)
        while file is not None:
            found = os.fstat(file.fileno())
            if since is None or found.st_mtime >= since:
                yield from file
            following = _open_after(path, _identity(found), stack)
            file.close()  # not before: a new file could be given its identity
            file = following


def last_lines(path: Path, count: int, wait: Callable[[], None] | None = None) -> Iterator[bytes]:
    """The newest `count` lines of all files, oldest first. With `wait` it then goes on with what is written, without an end.

    `wait` is called when there is nothing new.
    """
    with ExitStack() as stack:
        files: dict[_Identity, BinaryIO] = {}
        found: list[bytes] = []
        end = 0
        for place, _ in _newest_first(path):
            if files and len(found) >= count:
                break
            file = _open(place, stack)
            if file is None or _identity(os.fstat(file.fileno())) in files:
                continue  # it has moved on, and is met again or was read already
            ended, lines = _end_of(file, count - len(found))
            end = end if files else ended
            files[_identity(os.fstat(file.fileno()))] = file
            found = lines + found
        yield from found
        if wait is not None:
            yield from _follow(path, next(iter(files.values()), None), end, wait, stack)


def _follow(path: Path, file: BinaryIO | None, position: int, wait: Callable[[], None], stack: ExitStack) -> Iterator[bytes]:
    while file is None:
        file = _open_after(path, None, stack)
        if file is None:
            wait()
    while True:
        # The next file is looked for first: whatever is in this one after it was rotated, is there by then.
        following = _open_after(path, _identity(os.fstat(file.fileno())), stack, newest=True)
        file.seek(position)
        whole, cut, _ = file.read().rpartition(b"\n")
        position += len(whole + cut)
        if cut:
            yield from (whole + cut).splitlines(keepends=True)
        elif following is None:
            wait()
        if following is not None:
            file.close()
            file, position = following, 0


def _end_of(file: BinaryIO, count: int) -> tuple[int, list[bytes]]:
    """Where the last whole line ends, and the last `count` whole lines."""
    size = os.fstat(file.fileno()).st_size
    length = _BLOCK
    while True:
        start = max(0, size - length)
        file.seek(start)
        whole, cut, _ = file.read(size - start).rpartition(b"\n")
        lines = (whole + cut).split(b"\n")[:-1] if start == 0 else (whole + cut).split(b"\n")[1:-1]
        if len(lines) >= count or start == 0:
            return start + len(whole + cut), [line + b"\n" for line in lines[max(0, len(lines) - count) :]]
        length *= 4


def _newest_first(path: Path) -> Iterator[tuple[Path, _Identity]]:
    """The files, looked at one by one while they may be rotated.

    Files move from the newest place to the oldest, and so does the look: one that moves meanwhile may be met twice, but is never missed.
    """
    rotated = (one.name.removeprefix(f"{path.name}.") for one in path.parent.glob("*") if one.name.startswith(f"{path.name}."))
    most = max((int(text) for text in rotated if text.isdecimal()), default=0)
    number = 0
    while True:
        place = _rotated(path, number) if number else path
        identity = _identity_at(place)
        if identity is not None:
            yield place, identity
        elif number > most:
            return
        number += 1


def _open(path: Path, stack: ExitStack) -> BinaryIO | None:
    """None if it has moved on."""
    try:
        return stack.enter_context(path.open("rb"))
    except FileNotFoundError:
        return None


def _open_after(path: Path, last: _Identity | None, stack: ExitStack, newest: bool = False) -> BinaryIO | None:
    """The file that follows the one read last; None after the newest. If that one is gone: the oldest, or `path` alone if `newest`."""
    while True:
        places = {identity: place for place, identity in _newest_first(path)}
        there = list(places)
        if last in there:
            there = there[: there.index(last)]
        elif newest:
            there = [identity for identity in there if places[identity] == path]
        if not there:
            return None
        file = _open(places[there[-1]], stack)
        if file is not None:
            if _identity(os.fstat(file.fileno())) == there[-1]:
                return file
            file.close()
