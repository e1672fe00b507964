"""Which endpoints of EndpointSlices are backends."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from backends.discovery.api import MAX_BACKENDS, Unusable
from backends.discovery.endpoint_slices import Slice, Wanted, backends
from tests.unit.backends.discovery.cluster_server import endpoint, piece


def found(*pieces: dict[str, Any], **wanted: Any) -> set[str]:
    return set(backends(msgspec.convert(list(pieces), list[Slice]), Wanted(**wanted)))


def hosts(*conditions: dict[str, bool]) -> set[str]:
    """The last numbers of the addresses of those endpoints that are taken."""
    one = piece("s", *(endpoint(f"10.0.0.{number}", **said) for number, said in enumerate(conditions)))
    return {url.removesuffix(":8000/v1").rpartition(".")[2] for url in found(one)}


def test_who_may_get_calls() -> None:
    ready = {"ready": True, "serving": True, "terminating": False}
    starting = {"ready": False, "serving": False, "terminating": False}
    ending = {"ready": False, "serving": True, "terminating": True}
    dying = {"ready": False, "serving": False, "terminating": True}
    overridden = {"ready": True, "serving": False, "terminating": True}
    assert hosts(ready, starting, ending, dying, {}) == {"0", "4"}, "what is unknown is ready"
    assert hosts(starting, ending, dying) == {"1"}, "nobody is ready: those who leave serve as yet"
    assert hosts(ready, ending) == {"0"}
    assert hosts(starting, dying) == set()
    assert hosts({"terminating": True}) == {"0"}, "serving, as long as nothing else is said"
    assert hosts(overridden) == set(), "publishNotReadyAddresses makes it ready, but it is about to end"
    assert hosts(ready, overridden) == {"0"}


def test_a_pod_counts_once() -> None:
    four = piece("v4", endpoint("10.0.0.1", "pod-1"), endpoint("10.0.0.2", "pod-2"))
    six = piece("v6", endpoint("fd00::1", "pod-1"), endpoint("fd00::3", "pod-3"), kind="IPv6")
    assert found(six, four) == {"http://10.0.0.1:8000/v1", "http://10.0.0.2:8000/v1", "http://[fd00::3]:8000/v1"}
    assert found(six, four, address_type="IPv6") == {"http://[fd00::1]:8000/v1", "http://[fd00::3]:8000/v1"}
    assert found(six, four, address_type="IPv4") == {"http://10.0.0.1:8000/v1", "http://10.0.0.2:8000/v1"}
    moving = piece("old", endpoint("10.0.0.1", "pod-1", ready=False)), piece("new", endpoint("10.0.0.1", "pod-1", ready=True))
    assert found(*moving) == {"http://10.0.0.1:8000/v1"}
    ranks = [piece(name, endpoint("10.0.0.1", "pod-1"), ports=[{"port": port}]) for name, port in (("a", 8000), ("b", 8001))]
    assert found(*ranks) == {"http://10.0.0.1:8000/v1", "http://10.0.0.1:8001/v1"}, "two servers in one pod"


def test_which_port() -> None:
    two = piece("s", endpoint("10.0.0.1"), ports=[{"name": "http", "port": 8000}, {"name": "metrics", "port": 9000}])
    assert found(two, port="metrics", scheme="https", path="/") == {"https://10.0.0.1:9000"}
    assert found(two, port=8000) == {"http://10.0.0.1:8000/v1"}
    with pytest.raises(Unusable, match=r"`port` must name one of the ports: 8000 \(http\), 9000 \(metrics\)"):
        found(two)
    with pytest.raises(Unusable, match=r"there is no port 80; there are: 8000 \(http\), 9000 \(metrics\)"):
        found(two, port=80)
    with pytest.raises(Unusable, match="there is no port 'grpc'"):
        found(two, port="grpc")
    other = piece("t", endpoint("10.0.0.2"), ports=[{"name": "http", "port": 8080}])
    assert found(two, other, port="http") == {"http://10.0.0.1:8000/v1", "http://10.0.0.2:8080/v1"}, "each slice has its own number"
    assert found(two, other, port=8080) == {"http://10.0.0.2:8080/v1"}
    assert found(piece("s", endpoint("10.0.0.1"), ports=None), port=7) == {"http://10.0.0.1:7/v1"}
    assert found(piece("s", endpoint("10.0.0.1"), ports=[{"name": ""}]), port=7) == {"http://10.0.0.1:7/v1"}
    assert found(piece("s", endpoint("10.0.0.1"), ports=[{"port": 1, "protocol": "UDP"}, {"port": 2}])) == {"http://10.0.0.1:2/v1"}


def test_a_slice_without_endpoints_says_nothing_about_ports() -> None:
    assert found(piece("s", ports=[])) == set()
    assert found(piece("s"), port="other") == set()
    assert found() == set()
    assert found(piece("s", {"addresses": []})) == set()


def test_what_no_url_can_be_made_of_is_refused_as_a_whole() -> None:
    for address in ("a/b", "a:1@b", "a b", "-a", "", "fd00::1]/x["):
        with pytest.raises(Unusable, match=r"is not a name|in '(a:1|fd00)"):
            found(piece("s", endpoint("10.0.0.1"), endpoint(address), kind="FQDN"))
    assert found(piece("s", endpoint("vllm.example.com"), kind="FQDN")) == {"http://vllm.example.com:8000/v1"}
    with pytest.raises(Unusable, match="are more than"):
        found(piece("s", *(endpoint(f"10.0.{number // 250}.{number % 250}") for number in range(MAX_BACKENDS + 1))))
