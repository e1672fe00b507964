"""Programs that models write are run, and can do nothing else."""

from __future__ import annotations

import os
import socket
import time
from pathlib import Path

import pytest

from routers.learning.grading import prepare
from routers.learning.grading.sandbox import Limits, SandboxUnavailable, passes


def available() -> bool:
    try:
        passes("pass", ["pass"])
    except SandboxUnavailable:
        return False
    return True


pytestmark = pytest.mark.skipif(not available(), reason="foreign code cannot be run safely here")
WALLS = pytest.mark.parametrize(
    "namespaces",
    [True, pytest.param(False, marks=pytest.mark.skipif(os.geteuid() != 0, reason="without namespaces only root can become nobody"))],
    ids=["namespaces", "filter"],
)


def graded(answer: str, tests: list[str]) -> float:
    check = prepare("code", None, {"tests": tests, "entry": "area"}).check
    assert check is not None
    return check(answer)


def test_code_passes_its_tests() -> None:
    right = "```python\nimport math\ndef area(r):\n    return math.pi * r ** 2\n```"
    tests = ["assert abs(area(1) - 3.14159) < 1e-3", "assert area(0) == 0"]
    assert graded(right, tests) == 1
    assert graded(right.replace("** 2", "** 3"), [*tests, "assert area(2) < 13"]) == 0
    assert graded("I cannot do that.", tests) == 0


NASTY: dict[str, str] = {
    "leaves early": "import os; os._exit(0)",
    "exits": "raise SystemExit(0)",
    "loops": "while True: pass",
    "sleeps": "import time; time.sleep(1000)",
    "eats memory": "x = bytearray(4 * 1024 ** 3)",
    "eats memory bit by bit": "x = []\nwhile True: x.append(' ' * 10_000_000)",
    "forks": "import os\nwhile True: os.fork()",
    "starts threads": "import threading, time\nfor _ in range(50): threading.Thread(target=time.sleep, args=(9,)).start()",
    "starts a program": "import os; assert os.system('true') == 0",
    "reads the environment": "import os; assert os.environ",
    "reads its parent's environment": "import os; open(f'/proc/{os.getppid()}/environ', 'rb').read(1)[0]",
    "reads secrets": "open('/etc/shadow').read()",
    "fills the disk": "f = open('big', 'wb')\nfor _ in range(100): f.write(bytes(1024 * 1024))\nf.close()",
    "kills its parent": "import os, signal; os.kill(os.getppid(), signal.SIGKILL)",
    "kills everything": "import os, signal; os.kill(-1, signal.SIGKILL)",
    "recurses": "def f(): return f()\nf()",
    "is no Python": "def",
    "holds a null": "x = '\0'",
    "opens a socket": "import _socket; _socket.socket()",
}


@WALLS
@pytest.mark.parametrize("name", sorted(NASTY))
def test_code_that_means_harm_gets_nothing(name: str, namespaces: bool) -> None:
    started = time.monotonic()
    assert not passes(NASTY[name], ["pass"], Limits(seconds=1, memory_bytes=256 * 1024 * 1024, namespaces=namespaces)), name
    assert time.monotonic() - started < 15


@WALLS
def test_code_reaches_no_network_and_sees_only_its_folder(namespaces: bool, tmp_path: Path) -> None:
    limits = Limits(seconds=2, namespaces=namespaces)
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(0.2)
        port = server.getsockname()[1]
        code = f"import _socket\ns = _socket.socket()\ns.connect(('127.0.0.1', {port}))"
        assert not passes(code, ["pass"], limits)
        with pytest.raises(TimeoutError):
            server.accept()
    os.chmod(tmp_path, 0o700)
    assert not passes(f"open({str(tmp_path / 'x')!r}, 'w')", ["pass"], limits)
    assert passes(
        "open('x', 'w').write('y')\nimport os\nnames = os.listdir('.')", ["assert names == ['x']", "assert not os.environ"], limits
    )


def test_code_may_use_the_standard_library() -> None:
    names = "re json math itertools functools collections datetime heapq bisect string statistics fractions decimal typing dataclasses"
    assert passes(f"import {', '.join(names.split())}\nx = datetime.date(2024, 2, 29).strftime('%A')", ["assert x == 'Thursday'"])
