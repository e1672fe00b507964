"""Backends from DNS records, by a name server on a socket."""

from __future__ import annotations

import subprocess
import sys
from random import Random
from typing import Any

import dns.rcode
import pytest

from backends.discovery.dns import DnsName, DnsPace, DnsSource, name_server
from tests.unit.backends.discovery.dns_server import DnsServer, dns_server
from tests.unit.backends.discovery.following import Pauses, following, until

NAME = "vllm.test."
SERVICE = "_http._tcp.vllm.test."


def source(server: DnsServer, pauses: Pauses, name: str = NAME, pace: DnsPace | None = None, **more: Any) -> DnsSource:
    options = {"record": "A", "port": 8000, **more}
    pace = pace or DnsPace(timeout=0.5)
    return DnsSource(DnsName(name, **options), pace, servers=[f"127.0.0.1:{server.port}"], rng=Random(1), sleep=pauses)


def services(server: DnsServer, pauses: Pauses, **more: Any) -> DnsSource:
    return source(server, pauses, SERVICE, record="SRV", port=None, **more)


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("10.0.0.2", ("10.0.0.2", 53)),
        ("10.0.0.2:8600", ("10.0.0.2", 8600)),
        ("fd00::2", ("fd00::2", 53)),
        ("[fd00::2]", ("fd00::2", 53)),
        ("[fd00::2]:8600", ("fd00::2", 8600)),
        ("10.0.0.2:", None),
        ("10.0.0.2:70000", None),
        ("[fd00::2]x", None),
        ("ns.example.com", None),
        ("", None),
    ],
)
def test_how_a_name_server_is_named(text: str, found: tuple[str, int] | None) -> None:
    if found is not None:
        assert name_server(text) == found
        return
    with pytest.raises(ValueError, match=r"port|address"):
        name_server(text)


async def test_addresses_are_asked_for_again_at_the_end_of_their_time() -> None:
    pauses = Pauses()
    async with dns_server() as server:
        server.records[NAME, "A"] = (30, ["10.0.0.1", "10.0.0.2"])
        async with following(source(server, pauses)) as found:
            assert await found.tells("http://10.0.0.1:8000/v1", "http://10.0.0.2:8000/v1")
            server.records[NAME, "A"] = (30, ["10.0.0.2", "10.0.0.3"])
            assert await found.tells("http://10.0.0.2:8000/v1", "http://10.0.0.3:8000/v1")
            assert len(found.sets) == 2
            assert all(30 <= pause <= 33 for pause in pauses)
            for ttl, low, high in ((0, 1, 1.1), (86_400, 300, 330)):
                server.records[NAME, "A"] = (ttl, [f"10.0.1.{int(low) % 256}"])
                assert await found.tells(f"http://10.0.1.{int(low) % 256}:8000/v1")
                assert low <= pauses[-1] <= high, "within bounds"


async def test_other_shapes_of_urls() -> None:
    async with dns_server() as server:
        server.records["alias.test.", "CNAME"] = (5, [NAME])
        server.records[NAME, "A"] = (60, ["10.0.0.1"])
        server.records[NAME, "AAAA"] = (60, ["fd00::1"])
        pauses = Pauses()
        async with following(source(server, pauses, record="AAAA", path="/")) as found:
            assert await found.tells("http://[fd00::1]:8000")
        async with following(source(server, pauses, "alias.test.", scheme="https", path="/v1/")) as found:
            assert await found.tells("https://10.0.0.1:8000/v1")
        assert pauses[-1] < 6, "the alias lives for a shorter time than what it leads to"


async def test_a_long_answer_comes_over_tcp() -> None:
    async with dns_server() as server:
        server.records[NAME, "A"] = (30, [f"10.0.2.{number}" for number in range(200)])
        async with following(source(server, Pauses())) as found:
            assert await found.tells(*(f"http://10.0.2.{number}:8000/v1" for number in range(200)))
        assert server.over_tcp > 0


@pytest.mark.parametrize(
    ("code", "why"),
    [
        (dns.rcode.NXDOMAIN, "no such name"),
        (dns.rcode.SERVFAIL, "SERVFAIL"),
        (dns.rcode.REFUSED, "SERVFAIL"),
        (None, "no answer in time"),
    ],
)
async def test_an_error_changes_nothing(code: dns.rcode.Rcode | None, why: str, caplog: pytest.LogCaptureFixture) -> None:
    pauses = Pauses()
    caplog.set_level("INFO", "pointsman.discovery")
    async with dns_server() as server:
        server.records[NAME, "A"] = (2, ["10.0.0.1"])
        async with following(source(server, pauses, pace=DnsPace(timeout=0.2))) as found:
            assert await found.tells("http://10.0.0.1:8000/v1")
            server.broken[NAME] = code
            assert await found.fails(why)
            asked = len(server.asked)
            assert await until(lambda: found.source.standing.failures >= 4)
            assert len(server.asked) > asked, "it is tried again"
            del server.broken[NAME]
            assert await found.mends()
            server.records[NAME, "A"] = (2, ["10.0.0.2"])
            assert await found.tells("http://10.0.0.2:8000/v1")
            assert len(found.sets) == 2
    assert [record.levelname for record in caplog.records] == ["WARNING", "INFO"], "once each way"


async def test_errors_are_retried_after_growing_pauses() -> None:
    pauses = Pauses(0.001)
    async with dns_server() as server, following(source(server, pauses)) as found:
        assert await until(lambda: len(pauses) >= 9)
        assert found.sets == []
    assert all(2**number / 2 <= pause <= 2**number for number, pause in enumerate(pauses[:5])), pauses
    assert all(15 <= pause <= 30 for pause in pauses[5:9])


async def test_an_answer_without_a_record_is_believed_at_its_third_time() -> None:
    pauses = Pauses()
    async with dns_server() as server:
        server.negative_ttl = 3600
        server.records[NAME, "A"] = (2, ["10.0.0.1"])
        async with following(source(server, pauses)) as found:
            assert await found.tells("http://10.0.0.1:8000/v1")
            server.records[NAME, "A"] = (2, [])
            asked = len(server.asked)
            assert await found.fails("there are none")
            assert await found.tells()
            assert len(server.asked) - asked >= 3
            assert await found.mends()
            assert any(30 <= pause <= 33 for pause in pauses), "the time to live of a negative answer counts, within reason"
            server.records[NAME, "A"] = (2, ["10.0.0.1"])
            assert await found.tells("http://10.0.0.1:8000/v1")
        async with following(source(server, pauses, "none.test.")) as found:
            server.records["none.test.", "A"] = (2, [])
            assert await found.tells(), "at the start nothing is taken away by it"


async def test_of_srv_records_the_first_priority_counts_with_its_ports() -> None:
    async with dns_server() as server:
        server.records[SERVICE, "SRV"] = (20, ["10 60 8001 a.test.", "10 0 8002 B.test.", "20 0 8003 c.test.", "10 0 8004 six.test."])
        server.records["a.test.", "A"] = (4, ["10.0.0.1", "10.0.0.2"])
        server.records["b.test.", "A"] = (9, ["10.0.0.3"])
        server.records["c.test.", "A"] = (9, ["10.0.0.4"])
        server.records["six.test.", "AAAA"] = (9, ["fd00::6"])
        pauses = Pauses()
        first = {
            "http://10.0.0.1:8001/v1",
            "http://10.0.0.2:8001/v1",
            "http://10.0.0.3:8002/v1",
            "http://[fd00::6]:8004/v1",
        }
        async with following(services(server, pauses)) as found:
            assert await found.tells(*first)
            server.records[SERVICE, "SRV"] = (20, ["20 0 8003 c.test."])
            assert await found.tells("http://10.0.0.4:8003/v1")
            server.records[SERVICE, "SRV"] = (20, ["0 0 0 ."])
            assert await found.tells(), "a service that is decidedly not there"
        assert 4 <= pauses[0] <= 4.4, "the shortest time to live of all that was asked"
        assert ("c.test.", "A") in server.asked


async def test_srv_addresses_that_come_along_are_not_asked_for() -> None:
    async with dns_server() as server:
        server.records[SERVICE, "SRV"] = (20, ["0 0 8001 a.test.", "0 0 8002 b.test."])
        server.additional = {"A.test.": (7, "10.0.0.1")}
        server.records["b.test.", "A"] = (9, ["10.0.0.2"])
        async with following(services(server, Pauses())) as found:
            assert await found.tells("http://10.0.0.1:8001/v1", "http://10.0.0.2:8002/v1")
        assert ("a.test.", "A") not in server.asked


async def test_srv_names_stay_where_certificates_are_for_them() -> None:
    async with dns_server() as server:
        server.records[SERVICE, "SRV"] = (20, ["0 0 8443 a.test.", "0 0 8443 b.test."])
        async with following(services(server, Pauses(), scheme="https")) as found:
            assert await found.tells("https://a.test:8443/v1", "https://b.test:8443/v1")
        assert {name for name, _ in server.asked} == {SERVICE}


async def test_a_server_of_an_srv_record_that_cannot_be_resolved_for_a_moment_stays() -> None:
    async with dns_server() as server:
        server.records[SERVICE, "SRV"] = (1, ["0 0 8001 a.test.", "0 0 8002 b.test."])
        server.broken["a.test."] = server.broken["b.test."] = dns.rcode.SERVFAIL
        server.records["a.test.", "A"] = (9, ["10.0.0.1"])
        server.records["b.test.", "A"] = (9, ["10.0.0.2"])
        both = {"http://10.0.0.1:8001/v1", "http://10.0.0.2:8002/v1"}
        async with following(services(server, Pauses())) as found:
            assert await found.fails("cannot be resolved")
            assert found.sets == []
            del server.broken["a.test."]
            assert await found.tells("http://10.0.0.1:8001/v1"), "those that are known are of use already"
            assert await found.fails("b.test cannot be resolved")
            del server.broken["b.test."]
            assert await found.tells(*both)
            assert await found.mends()
            server.broken["a.test."] = dns.rcode.SERVFAIL
            assert await found.fails("a.test cannot be resolved")
            assert found.last == both
            server.records[SERVICE, "SRV"] = (1, ["0 0 8002 b.test."])
            assert await found.tells("http://10.0.0.2:8002/v1"), "and goes when the record does"


def test_without_dnspython_the_error_says_what_to_install() -> None:
    code = (
        "import sys; sys.modules['dns'] = None\n"
        "from random import Random\nfrom backends.discovery.dns import DnsName, DnsSource\n"
        "from backends.discovery.api import SourceError\n"
        "try: DnsSource(DnsName('a.test', port=1), rng=Random())\n"
        "except SourceError as error: print(error)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "pip install pointsman[dns]" in done.stdout
