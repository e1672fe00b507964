"""What a configuration may say of discovery, and where its errors are."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from random import Random
from typing import Any

import pytest
import yaml
from pydantic import Field, ValidationError

from backends.discovery.dns import DnsSource
from backends.discovery.file import FileSource
from backends.discovery.kubernetes import KubernetesSource
from gateway.config import Config
from gateway.sections.base import Section
from gateway.sections.discovery import Discovery, DnsDiscovery, FileDiscovery, KubernetesDiscovery, build_source, contradictions
from gateway.sections.kinds import inner_sections, locate, wrong_kind
from gateway.source import dotted


class Expert(Section):
    name: str = ""
    discovery: Discovery | None = Field(None)
    several: list[Discovery] = Field([])


class Root(Section):
    models: list[Expert]


def read(**discovery: Any) -> Discovery:
    found = Root.model_validate({"models": [{"discovery": discovery}]}).models[0].discovery
    assert found is not None
    return found


def problems(value: object, key: str = "discovery") -> list[tuple[str, str, str]]:
    """Of each error: the path in the file, the section that it is about, and what is wrong if it is about the type."""
    with pytest.raises(ValidationError) as caught:
        Root.model_validate({"models": [{}, {key: value}]})
    found = []
    for detail in caught.value.errors():
        path, section = locate(Root, detail["loc"])
        wrong = wrong_kind(dict(detail), path)
        found.append((dotted(path if wrong is None else wrong[0]), section.__name__, detail["msg"] if wrong is None else wrong[1]))
    return found


def test_three_kinds_with_their_defaults() -> None:
    assert read(type="file", path="b.yaml") == FileDiscovery(type="file", path="b.yaml")
    assert read(type="dns", name="_http._tcp.vllm.models.svc.cluster.local.", record="SRV") == DnsDiscovery(
        type="dns", name="_http._tcp.vllm.models.svc.cluster.local.", record="SRV"
    )
    found = read(type="kubernetes", service="vllm", selector="size in (s, m)", port="8000")
    assert isinstance(found, KubernetesDiscovery)
    assert (found.labels, found.port) == ("kubernetes.io/service-name=vllm,size in (s, m)", 8000)
    assert list(inner_sections(Expert.model_fields["discovery"].annotation)) == [FileDiscovery, DnsDiscovery, KubernetesDiscovery]


def test_an_unknown_kind_is_refused_with_the_nearest_and_its_place() -> None:
    message = "no discovery of type 'kubernets', did you mean 'kubernetes'?; known: file, dns, kubernetes"
    assert problems({"type": "kubernets", "service": "vllm"}) == [("models[1].discovery.type", "Expert", message)]
    assert problems({"path": "x"}) == [("models[1].discovery.type", "Expert", "is required")]
    (found,) = problems([{"type": "flie"}], "several")
    assert found[0] == "models[1].several[0].type"
    assert "no several of type 'flie'" in found[2]


@pytest.mark.parametrize(
    ("section", "key", "kind"),
    [
        ({"type": "file", "pth": "x", "path": "x"}, "pth", "FileDiscovery"),
        ({"type": "file"}, "path", "FileDiscovery"),
        ({"type": "file", "path": ""}, "path", "FileDiscovery"),
        ({"type": "dns", "name": "a..b", "port": 1}, "name", "DnsDiscovery"),
        ({"type": "dns", "name": "a b"}, "name", "DnsDiscovery"),
        ({"type": "dns", "name": "a", "record": "MX"}, "record", "DnsDiscovery"),
        ({"type": "dns", "name": "a", "port": 70_000}, "port", "DnsDiscovery"),
        ({"type": "dns", "name": "a", "servers": ["ns.example.com"]}, "servers", "DnsDiscovery"),
        ({"type": "dns", "name": "a", "path": "v1"}, "path", "DnsDiscovery"),
        ({"type": "dns", "name": "a", "min_seconds": 0}, "min_seconds", "DnsDiscovery"),
        ({"type": "kubernetes", "service": "Big"}, "service", "KubernetesDiscovery"),
        ({"type": "kubernetes", "port": True}, "port", "KubernetesDiscovery"),
        ({"type": "kubernetes", "port": 0}, "port", "KubernetesDiscovery"),
        ({"type": "kubernetes", "port": "Http"}, "port", "KubernetesDiscovery"),
        ({"type": "kubernetes", "port": [8000]}, "port", "KubernetesDiscovery"),
        ({"type": "kubernetes", "namespace": "a/b"}, "namespace", "KubernetesDiscovery"),
        ({"type": "kubernetes", "api": "kubernetes.default.svc"}, "api", "KubernetesDiscovery"),
        ({"type": "kubernetes", "api": "https://u:p@kubernetes"}, "api", "KubernetesDiscovery"),
        ({"type": "kubernetes", "scheme": "ftp"}, "scheme", "KubernetesDiscovery"),
        ({"type": "kubernetes", "labels": "a=b"}, "labels", "KubernetesDiscovery"),
    ],
)
def test_what_is_wrong_with_one_is_found_at_its_place_in_the_file(section: dict[str, Any], key: str, kind: str) -> None:
    assert [found[:2] for found in problems(section)] == [(f"models[1].discovery.{key}", kind)]
    assert [found[:2] for found in problems([{"type": "file", "path": "x"}, section], "several")] == [(f"models[1].several[1].{key}", kind)]


@pytest.mark.parametrize(
    ("section", "found"),
    [
        ({"type": "file", "path": "x"}, []),
        ({"type": "dns", "name": "a", "port": 8000}, []),
        ({"type": "dns", "name": "a"}, [("models[0].discovery.port", "is required: A records do not name it")]),
        ({"type": "dns", "name": "a", "record": "SRV", "port": 1}, [("models[0].discovery.port", "SRV records name the ports themselves")]),
        (
            {"type": "dns", "name": "a", "port": 1, "min_seconds": 10, "max_seconds": 5},
            [("models[0].discovery.min_seconds", "is more than `max_seconds` (5)")],
        ),
        ({"type": "kubernetes", "service": "vllm"}, []),
        (
            {"type": "kubernetes"},
            [("models[0].discovery", "needs `service` or `selector`; else it would take every endpoint of the namespace")],
        ),
        ({"type": "kubernetes", "service": "vllm", "api": "http://127.0.0.1:8001"}, []),
        (
            {"type": "kubernetes", "service": "vllm", "api": "http://10.0.0.1:8001"},
            [("models[0].discovery.api", "would send the token unencrypted; use https, or `token_file: null`")],
        ),
        ({"type": "kubernetes", "service": "vllm", "api": "http://10.0.0.1", "token_file": None, "namespace": "models"}, []),
        (
            {"type": "kubernetes", "service": "vllm", "token_file": None},
            [("models[0].discovery.namespace", "is required without `token_file`, beside which it would be read")],
        ),
    ],
)
def test_what_contradicts_itself(section: dict[str, Any], found: list[tuple[str, str]]) -> None:
    told = contradictions(read(**section), ("models", 0, "discovery"))
    assert [(dotted(path), message) for path, message in told] == found


def test_what_is_not_installed_is_said_at_the_kind() -> None:
    code = (
        "import sys; sys.modules['dns'] = None\n"
        "from gateway.sections.discovery import DnsDiscovery, contradictions\n"
        "print(contradictions(DnsDiscovery(type='dns', name='a', port=1), ('discovery',)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[(('discovery', 'type'), 'needs dnspython: pip install pointsman[dns]')]"


def test_sources_are_made_from_them(tmp_path: Path) -> None:
    made = [
        build_source(read(**section), "small", tmp_path, Random(0))
        for section in (
            {"type": "file", "path": "b.yaml"},
            {"type": "dns", "name": "vllm.test", "port": 8000, "servers": ["10.0.0.2:8600"]},
            {"type": "kubernetes", "service": "vllm", "token_file": "token", "ca_file": None},
        )
    ]
    assert [type(source) for source in made] == [FileSource, DnsSource, KubernetesSource]
    assert [source.standing.failures for source in made] == [0, 0, 0]


def test_paths_of_errors_elsewhere_stay_as_they_are() -> None:
    path, section = locate(Config, ("models", 0, "price", "inpt"))
    assert (path, section.__name__) == (("models", 0, "price", "inpt"), "PriceSection")
    path, section = locate(Config, ("routes", 2, "policy", "scorers", 1, "weight"))
    assert (path, section.__name__) == (("routes", 2, "policy", "scorers", 1, "weight"), "ScorerSection")
    assert locate(Config, ("nothing",)) == (("nothing",), Config)


def test_the_page_about_it_has_configurations_that_are_valid() -> None:
    page = (Path(__file__).parents[2] / "docs" / "discovery.md").read_text(encoding="utf-8")
    kinds = set()
    for block in re.findall(r"```yaml\n(.*?)```", page, re.DOTALL):
        for document in yaml.safe_load_all(block):
            for index, expert in enumerate(document.get("models", ())):
                found = read(**expert["discovery"])
                kinds.add(found.type)
                assert contradictions(found, ("models", index)) == []
            if document.get("kind") == "Role":
                assert document["rules"] == [
                    {"apiGroups": ["discovery.k8s.io"], "resources": ["endpointslices"], "verbs": ["get", "list", "watch"]}
                ]
    assert kinds == {"file", "dns", "kubernetes"}
