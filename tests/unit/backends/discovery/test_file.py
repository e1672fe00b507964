"""Backends from a watched file."""

from __future__ import annotations

import asyncio
import json
import os
import time
from pathlib import Path

import pytest

from backends.discovery.api import MAX_BACKENDS, Unusable
from backends.discovery.file import MAX_BYTES, SETTLE_SECONDS, FileSource, parse
from tests.unit.backends.discovery.following import Pauses, following

ONE, TWO = "http://10.0.0.1:8000/v1", "http://10.0.0.2:8000/v1"


@pytest.mark.parametrize(
    ("content", "urls"),
    [
        ("[]", set()),
        (f"- {ONE}\n- {TWO}/\n", {ONE, TWO}),
        (f"- {ONE}\n- {ONE}/\n- HTTP://10.0.0.1:8000/v1\n", {ONE}),
        (f"small: [{ONE}]\nlarge: [{TWO}]\n", {ONE}),
        ("small: []\n", set()),
        (json.dumps([ONE, TWO]), {ONE, TWO}),
        (json.dumps({"small": [ONE], "large": [TWO]}, indent="\t"), {ONE}),
        ("\ufeff" + json.dumps([ONE]), {ONE}),
        ("['http://[::1]:8000/v1', 'https://Big.Example']", {"http://[::1]:8000/v1", "https://big.example"}),
    ],
)
def test_what_a_file_may_say(content: str, urls: set[str]) -> None:
    assert parse(content.encode(), "small") == urls


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"", "is empty"),
        (b" \n", "is empty"),
        (b"\xff\xfe[", "is not UTF-8"),
        (b'["http://10.0.0.1:8000', "is neither JSON nor YAML"),
        (b"- http://10.0.0.1:8000/v1\n- http://10.0.0", None),
        (b"large: [http://10.0.0.1:8000/v1]", "has no entry for the model 'small'"),
        (b"small: http://10.0.0.1:8000/v1", "should hold a list"),
        (b"small:", "should hold a list"),
        (b"[1, 2]", "should hold a list"),
        (b"null", "should hold a list"),
        (b"[10.0.0.1:8000]", "is not a URL like"),
        (b"[ftp://10.0.0.1/]", "is not a URL like"),
        (b"[http://user:secret@10.0.0.1/v1]", "is not a URL like"),
        (b"[http://10.0.0.1:99999/v1]", "Port out of range"),
        (b"[http://10.0.0.1:0/v1]", "port 0"),
        (b'["http://a b/v1"]', "is not a URL like"),
        (b'["http://a\\tb/v1"]', "is not a URL like"),
        (b"[http://a/v1?x=1]", "is not a URL like"),
        (b"[" * 100_000, "is neither JSON nor YAML"),
        (b"{a: 2001-99-99}", "is neither JSON nor YAML"),
        (json.dumps([f"http://10.0.0.1:{port}" for port in range(1, MAX_BACKENDS + 2)]).encode(), "are more than"),
    ],
)
def test_what_it_may_not_say(content: bytes, why: str | None) -> None:
    if why is None:
        assert len(parse(content, "small")) == 2, "a cut in the middle of a name cannot be seen: that is what the file must stand still for"
        return
    with pytest.raises(Unusable, match=why):
        parse(content, "small")


async def test_every_way_to_change_it_is_noticed(tmp_path: Path) -> None:
    path = tmp_path / "backends.yaml"
    path.write_text(f"- {ONE}\n")
    async with following(FileSource(path, "small")) as found:
        assert await found.tells(ONE)
        path.write_text(f"- {TWO}\n")
        assert await found.tells(TWO), "written in place, with the same size"
        (tmp_path / "new").write_text(f"- {ONE}\n- {TWO}\n")
        began = time.monotonic()
        (tmp_path / "new").replace(path)
        assert await found.tells(ONE, TWO), "replaced"
        took = time.monotonic() - began
        path.write_text("[]")
        assert await found.tells(), "nobody is left, and that is meant"
    assert took < 5, "on an idle machine it is 0.3 s"
    assert found.source.standing.failures == 0


async def test_a_mounted_config_map_is_swapped_by_a_link(tmp_path: Path) -> None:
    for version, url in (("..v1", ONE), ("..v2", TWO)):
        (tmp_path / version).mkdir()
        (tmp_path / version / "backends.yaml").write_text(f"small: [{url}]\n")
        os.utime(tmp_path / version / "backends.yaml", (1, 1))
    (tmp_path / "..data").symlink_to("..v1")
    (tmp_path / "backends.yaml").symlink_to("..data/backends.yaml")
    async with following(FileSource(tmp_path / "backends.yaml", "small", interval=0.05)) as found:
        assert await found.tells(ONE)
        (tmp_path / "..data_tmp").symlink_to("..v2")
        (tmp_path / "..data_tmp").replace(tmp_path / "..data")
        assert await found.tells(TWO)


async def test_nothing_that_is_wrong_with_it_takes_the_backends_away(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "backends.yaml"
    source = FileSource(path, "small", sleep=Pauses())
    caplog.set_level("INFO", "pointsman.discovery")
    async with following(source) as found:
        assert await found.fails("cannot be read: No such file"), "it may come later"
        assert found.sets == []
        path.write_text(f"- {ONE}\n")
        assert await found.tells(ONE)
        for content, why in ((b"", "is empty"), (b"- http", "is not a URL"), (b"x" * (MAX_BYTES + 1), "is larger"), (b"{", "neither JSON")):
            path.write_bytes(content)
            assert await found.fails(why)
        path.unlink()
        assert await found.fails("cannot be read")
        path.mkdir()
        assert await found.fails("Is a directory")
        path.rmdir()
        path.write_text(f"- {ONE}\n")
        assert await found.mends()
        assert found.sets == [{ONE}]
        path.write_text(f"- {TWO}\n")
        assert await found.tells(TWO)
    assert source.standing.failures == 7, "each once, however often it was looked at"
    said = [record.getMessage() for record in caplog.records]
    assert sum("cannot be read" in text for text in said) == 3
    assert sum("works again" in text for text in said) == 2
    assert str(path) in said[0]


async def test_half_a_file_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "backends.yaml"
    path.write_text(f"- {ONE}\n")
    rest = [f"- {TWO}\n", f"- {ONE}\n"]

    async def writing_meanwhile(seconds: float) -> None:
        if seconds == SETTLE_SECONDS and path.stat().st_size != len(ONE) + 3 and rest:
            with path.open("a") as file:
                file.write(rest.pop(0))
        await asyncio.sleep(0.001)

    async with following(FileSource(path, "small", sleep=writing_meanwhile)) as found:
        assert await found.tells(ONE)
        path.write_text("- http://10.0.0.30:8000/v1\n")
        assert await found.tells(ONE, TWO, "http://10.0.0.30:8000/v1")
    assert len(found.sets) == 2, "what stood there meanwhile was valid, and not what was meant"
