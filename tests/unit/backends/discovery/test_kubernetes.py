"""Backends from EndpointSlices, by an API server on a socket."""

from __future__ import annotations

import contextlib
import shutil
import ssl
import subprocess
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

import pytest

from backends.discovery.cluster import Cluster, EndpointSlices
from backends.discovery.endpoint_slices import Wanted
from backends.discovery.kubernetes import KubernetesSource
from tests.unit.backends.discovery.cluster_server import SILENCE, ClusterServer, cluster_server, endpoint, piece
from tests.unit.backends.discovery.following import Following, Pauses, following, until

ONE, TWO, THREE = (f"http://10.0.0.{number}:8000/v1" for number in (1, 2, 3))


@dataclass
class Watched:
    """A cluster, and a source that follows it."""

    cluster: ClusterServer
    found: Following
    pauses: Pauses
    token_file: Path

    @property
    def failures(self) -> int:
        return self.found.source.standing.failures

    async def is_watched(self, watches: int = 1) -> bool:
        """Whether that many watches have begun, and one goes on."""
        return await until(lambda: len(self.cluster.watches) >= watches and self.cluster.watching == 1)


@contextlib.asynccontextmanager
async def watched(tmp_path: Path, *pieces: dict[str, Any], page: int = 250, timeout: float = 5.0, **more: Any) -> AsyncIterator[Watched]:
    token_file = tmp_path / "token"
    token_file.write_text("t0\n")
    (tmp_path / "namespace").write_text("models")
    async with cluster_server() as cluster:
        for one in pieces:
            cluster.set(one)
        pauses = Pauses()
        slices = EndpointSlices(Cluster(cluster.url, None, token_file, None), "app=vllm", page=page, timeout=timeout)
        source = KubernetesSource(slices, Wanted(), rng=Random(1), sleep=pauses, **more)
        async with following(source) as found:
            yield Watched(cluster, found, pauses, token_file)


async def test_it_lists_once_and_then_hears_of_every_change(tmp_path: Path) -> None:
    async with watched(tmp_path, piece("a", endpoint("10.0.0.1"))) as it:
        assert await it.found.tells(ONE)
        assert await it.is_watched()
        it.cluster.set(piece("b", endpoint("10.0.0.2")))
        assert await it.found.tells(ONE, TWO)
        it.cluster.set(piece("b", endpoint("10.0.0.3")))
        assert await it.found.tells(ONE, THREE)
        it.cluster.delete("a")
        assert await it.found.tells(THREE)
        it.cluster.delete("b")
        assert await it.found.tells()
        it.cluster.set(piece("c", endpoint("10.0.0.1", ready=False)))
        it.cluster.set(piece("c", endpoint("10.0.0.1", ready=True)))
        assert await it.found.tells(ONE)
        assert len(it.found.sets) == 6, "a change that is none is not told"
        assert it.cluster.lists == [{"labelSelector": "app=vllm", "limit": "250"}]
        (query,) = it.cluster.watches
        assert 240 <= int(query.pop("timeoutSeconds")) <= 360
        assert query == {"labelSelector": "app=vllm", "watch": "true", "allowWatchBookmarks": "true", "resourceVersion": "101"}
        assert it.failures == 0


async def test_a_long_list_comes_in_pages(tmp_path: Path) -> None:
    pieces = [piece(f"s{number}", endpoint(f"10.0.0.{number}")) for number in range(1, 8)]
    async with watched(tmp_path, *pieces, page=3) as it:
        assert await it.found.tells(*(f"http://10.0.0.{number}:8000/v1" for number in range(1, 8)))
        assert [query.get("continue") for query in it.cluster.lists] == [None, "after:s3", "after:s6"]
        assert len(it.found.sets) == 1, "half a list is none"


async def test_a_list_that_is_forgotten_between_its_pages_is_read_anew(tmp_path: Path) -> None:
    async with watched(tmp_path, *(piece(f"s{number}", endpoint(f"10.0.0.{number}")) for number in (1, 2, 3)), page=2) as it:
        it.cluster.pages_forgotten = True
        assert await it.found.tells(ONE, TWO, THREE)
        assert [query.get("continue") for query in it.cluster.lists] == [None, "after:s2", None, "after:s2"]


async def test_after_a_break_the_watch_goes_on_where_it_was(tmp_path: Path) -> None:
    async with watched(tmp_path, piece("a", endpoint("10.0.0.1"))) as it:
        assert await it.is_watched()
        it.cluster.set(piece("b", endpoint("10.0.0.2")))
        assert await it.found.tells(ONE, TWO)
        it.cluster.elsewhere(1000)
        it.cluster.bookmark()
        it.cluster.drop()
        it.cluster.delete("a")
        assert await it.found.tells(TWO), "what happened meanwhile is told"
        assert await it.is_watched(2)
        assert it.cluster.watches[0]["resourceVersion"] == "101"
        assert it.cluster.watches[-1]["resourceVersion"] in ("102", "1102"), "the bookmark may be lost in the break"
        assert len(it.cluster.lists) == 1
        assert it.failures == 1
        assert await it.found.mends()


async def test_a_bookmark_spares_the_server_old_history(tmp_path: Path) -> None:
    async with watched(tmp_path, piece("a", endpoint("10.0.0.1"))) as it:
        assert await it.is_watched()
        it.cluster.elsewhere(1000)
        it.cluster.bookmark()
        it.cluster.set(piece("b", endpoint("10.0.0.2")))
        assert await it.found.tells(ONE, TWO)
        it.cluster.elsewhere(1000)
        it.cluster.bookmark()
        it.cluster.finish()
        assert await it.is_watched(2)
        assert it.cluster.watches[-1]["resourceVersion"] == "2102"
        assert it.pauses == [], "a watch that ends in order is followed by the next at once"
        assert it.failures == 0


@pytest.mark.parametrize("by_status", [False, True])
async def test_when_the_server_has_forgotten_the_list_is_read_anew(tmp_path: Path, by_status: bool) -> None:
    async with watched(tmp_path, piece("a", endpoint("10.0.0.1")), piece("b", endpoint("10.0.0.2"))) as it:
        assert await it.is_watched()
        it.cluster.gone_by_status = by_status
        it.cluster.drop()
        it.cluster.delete("a")
        it.cluster.set(piece("c", endpoint("10.0.0.3")))
        it.cluster.forget()
        assert await it.found.tells(TWO, THREE)
        assert len(it.cluster.lists) == 2
        assert await it.is_watched(2)
        assert [set(urls) for urls in it.found.sets] == [{ONE, TWO}, {TWO, THREE}], "until then the old set stays"
        assert it.failures <= 1, "to be forgotten is no failure; the break was one"


async def test_what_the_server_refuses_is_tried_again_and_changes_nothing(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    async with watched(tmp_path, piece("a", endpoint("10.0.0.1"))) as it:
        assert await it.is_watched()
        it.cluster.refusals = [500, 503, 429, 403]
        it.cluster.retry_after = "7"
        it.cluster.drop()
        assert await it.is_watched(6)
        assert it.found.sets == [{ONE}]
        assert len(it.cluster.lists) == 1, "none of it makes the version useless"
        assert len([pause for pause in it.pauses if pause >= 7]) == 4, "the server's wish counts"
        it.cluster.refusals = [400]
        it.cluster.drop()
        assert await until(lambda: len(it.cluster.lists) == 2), "a version that it cannot read is of no use"
    said = [record.getMessage() for record in caplog.records]
    (forbidden,) = [text for text in said if "the API server says 403: the service account may not list and watch" in text]
    assert '"the reason for 403"' in forbidden
    assert "t0" not in caplog.text


async def test_a_server_that_ends_every_watch_at_once_is_not_run_down(tmp_path: Path) -> None:
    async with watched(tmp_path, piece("a", endpoint("10.0.0.1"))) as it:
        for number in range(1, 6):
            assert await it.is_watched(number)
            it.cluster.finish()
        assert await until(lambda: len(it.pauses) >= 5)
        assert it.pauses[3] >= 2, "the pauses grow"
        assert it.found.sets == [{ONE}]


async def test_the_token_is_read_for_every_call(tmp_path: Path) -> None:
    async with watched(tmp_path, piece("a", endpoint("10.0.0.1"))) as it:
        assert await it.is_watched()
        it.cluster.token = "t1"
        it.cluster.drop()
        assert await it.found.fails("401: the token was refused")
        it.token_file.write_text("t1")
        it.cluster.set(piece("b", endpoint("10.0.0.2")))
        assert await it.found.tells(ONE, TWO)
        it.token_file.unlink()
        it.cluster.drop()
        assert await it.found.fails(f"{it.token_file} cannot be read: No such file")
        for wrong in ("", "a b", "gr\xfcn", "a\nb"):
            it.token_file.write_text(wrong, encoding="utf-8")
            assert await it.found.fails("holds no token")
        it.token_file.write_text("t1")
        assert await it.found.mends()
        assert it.cluster.tokens[0] == "t0"
        assert it.cluster.tokens[-1] == "t1"
        assert set(it.found.sets[-1]) == {ONE, TWO}


async def test_errors_and_nonsense_in_a_watch(tmp_path: Path) -> None:
    async with watched(tmp_path, piece("a", endpoint("10.0.0.1"))) as it:
        bad = piece("b", endpoint("10.0.0.2"))
        bad["endpoints"][0]["addresses"] = "10.0.0.2"
        troubles: list[tuple[Any, str]] = [
            ({"type": "ERROR", "object": {"code": 500, "message": "etcd\nis away"}}, 'error 500: "etcd is away"'),
            (b"{nonsense}\n", "is no EndpointSlice"),
            (b'{"type":"ADDED","object":{"metadata":{"name":"\xff"}}}\n', "is no EndpointSlice"),
            (b'{"type":"ADDED","object":' + b'{"x":' * 20_000 + b"\n", "is no EndpointSlice"),
            ({"type": "ADDED", "object": bad}, "is no EndpointSlice"),
            (b"x" * 9_000_000, "is larger than"),
        ]
        watches = 0
        for trouble, why in troubles:
            watches += 1
            assert await it.is_watched(watches)
            assert await it.found.mends()
            it.cluster.send(trouble) if isinstance(trouble, bytes) else it.cluster.say(trouble)
            assert await until(lambda count=watches: it.failures >= count), why
            assert await until(lambda count=watches: len(it.cluster.lists) > count), "the list is read anew"
        assert await it.is_watched(watches + 1)
        it.cluster.send(b"\n\n")
        it.cluster.say({"type": "SOMETHING", "object": {"metadata": {"resourceVersion": "12345"}}})
        it.cluster.set(piece("b", endpoint("10.0.0.2")))
        assert await it.found.tells(ONE, TWO)
        assert it.failures == watches
        assert len(it.found.sets) == 2


async def test_a_watch_that_ends_amid_an_event_is_resumed(tmp_path: Path) -> None:
    async with watched(tmp_path, piece("a", endpoint("10.0.0.1"))) as it:
        assert await it.is_watched()
        it.cluster.send(b'{"type":"DELETED","object":{"metadata":{"name":"a"')
        it.cluster.finish()
        assert await it.is_watched(2)
        assert it.failures == 1
        assert len(it.cluster.lists) == 1
        assert it.found.sets == [{ONE}]


async def test_a_silent_server_is_given_up(tmp_path: Path) -> None:
    async with watched(tmp_path, piece("a", endpoint("10.0.0.1")), timeout=0.3) as it:
        assert await it.is_watched()
        it.cluster.refusals = [SILENCE]
        it.cluster.drop()
        assert await it.found.fails("no answer in time")
        assert await it.is_watched(3)
        assert await it.found.mends()


async def test_a_port_that_is_not_there_leaves_the_set_as_it_was(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", "pointsman.discovery")
    async with watched(tmp_path, piece("a", endpoint("10.0.0.1"))) as it:
        assert await it.found.tells(ONE)
        assert await it.is_watched()
        it.cluster.set(piece("a", endpoint("10.0.0.1"), ports=[{"name": "x", "port": 1}, {"name": "y", "port": 2}]))
        assert await it.found.fails("`port` must name one of the ports: 1 (x), 2 (y)")
        it.cluster.finish()
        assert await it.is_watched(2)
        assert it.found.sets == [{ONE}]
        it.cluster.set(piece("a", endpoint("10.0.0.2")))
        assert await it.found.tells(TWO)
        assert len(it.cluster.lists) == 1, "it is no reason to break off the watch"
    assert [record.levelname for record in caplog.records] == ["WARNING", "INFO"]


@pytest.mark.parametrize("seed", range(4))
async def test_whatever_happens_it_ends_up_where_the_cluster_is(tmp_path: Path, seed: int) -> None:
    rng = Random(seed)
    async with watched(tmp_path, page=2) as it:
        assert await it.is_watched()
        for step in range(150):
            name = f"s{rng.randrange(6)}"
            match rng.choice(["set", "set", "set", "delete", "drop", "finish", "forget", "bookmark", "refuse", "pause"]):
                case "set":
                    numbers = rng.sample(range(1, 30), rng.randrange(4))
                    it.cluster.set(piece(name, *(endpoint(f"10.0.1.{number}", ready=rng.random() < 0.8) for number in numbers)))
                case "delete" if name in it.cluster.slices:
                    it.cluster.delete(name)
                case "drop":
                    it.cluster.drop()
                case "finish":
                    it.cluster.finish()
                case "forget":
                    it.cluster.forget()
                case "bookmark":
                    it.cluster.bookmark()
                case "refuse":
                    it.cluster.refusals = [rng.choice([500, 429, 410, 404])]
            if step % 3 == 0:
                await until(lambda: False, 0.01)
        it.cluster.refusals = []
        expected = {
            f"http://{one['addresses'][0]}:8000/v1"
            for piece_ in it.cluster.slices.values()
            for one in piece_["endpoints"] or ()
            if one["conditions"]["ready"]
        }
        assert await it.found.tells(*expected)
        assert await it.is_watched()


async def test_the_ca_file_says_whom_to_trust_and_may_change(tmp_path: Path) -> None:
    if shutil.which("openssl") is None:
        pytest.skip("openssl is not here")
    (tmp_path / "token").write_text("t0")
    key, certificate = certify(tmp_path, "server")
    _, other = certify(tmp_path, "other")
    ca_file = tmp_path / "ca.crt"
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    async with cluster_server(context) as cluster:
        cluster.set(piece("a", endpoint("10.0.0.1")))
        slices = EndpointSlices(Cluster(cluster.url, "models", tmp_path / "token", ca_file), "app=vllm")
        async with following(KubernetesSource(slices, Wanted(), rng=Random(1), sleep=Pauses())) as found:
            assert await found.fails("cannot be read: No such file")
            ca_file.write_bytes(other.read_bytes())
            assert await found.fails("cannot be reached")
            assert cluster.requests == [], "the token goes to nobody else"
            ca_file.write_text("no certificate")
            assert await found.fails("cannot be read")
            ca_file.write_bytes(certificate.read_bytes())
            assert await found.tells(ONE)


def certify(folder: Path, name: str) -> tuple[Path, Path]:
    """A key and a certificate for localhost."""
    key, certificate = folder / f"{name}.key", folder / f"{name}.crt"
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=localhost"]
    command += ["-addext", "subjectAltName=DNS:localhost", "-keyout", str(key), "-out", str(certificate)]
    subprocess.run(command, check=True, capture_output=True)
    return key, certificate
