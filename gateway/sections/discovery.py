"""Where the backends of a model are found, beside those that the file names or instead of them."""

from __future__ import annotations

import re
from importlib.util import find_spec
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, Annotated, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field, field_validator

from gateway.sections.base import Seconds, Section
from gateway.source import Key

if TYPE_CHECKING:
    from backends.discovery.api import Source

ACCOUNT = "/var/run/secrets/kubernetes.io/serviceaccount"

Scheme = Literal["http", "https"]
PortNumber = Annotated[int, Field(ge=1, le=65_535)]


def _like(pattern: str, message: str) -> AfterValidator:
    """Refuses what does not match, in words that the file's author understands."""

    def check(text: str) -> str:
        if re.fullmatch(pattern, text) is None:
            raise ValueError(message)
        return text

    return AfterValidator(check)


DnsText = Annotated[
    str, _like(r"(?=.{1,254}$)([A-Za-z0-9_-]{1,63}\.)*[A-Za-z0-9_-]{1,63}\.?", "is not a name such as _http._tcp.vllm.example.com")
]
UrlPath = Annotated[str, _like(r"(/[A-Za-z0-9._~-]+)*/?", "is not a path such as /v1")]
ObjectName = Annotated[str, _like(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?", "is not a name of Kubernetes: a-z, 0-9 and -, at most 63")]


class FileDiscovery(Section):
    """A file that lists backends and is watched."""

    type: Literal["file"] = Field(description="`file`")
    path: str = Field(
        min_length=1, description="JSON or YAML: a list of URLs, or models and their lists; beside this file unless its path is absolute"
    )


class DnsDiscovery(Section):
    """DNS records, asked for again at the end of their time to live."""

    type: Literal["dns"] = Field(description="`dns` (needs `pip install pointsman[dns]`)")
    name: DnsText = Field(description="the name; if it ends with a dot, no search domain is tried")
    record: Literal["A", "AAAA", "SRV"] = Field("A", description="A: IPv4 addresses, AAAA: IPv6 addresses, SRV: servers with ports")
    port: PortNumber | None = Field(None, description="of every server, for A and AAAA; SRV records say it themselves")
    scheme: Scheme = Field("http", description="of the backends' URLs; with `https` the names in SRV records stay in them")
    path: UrlPath = Field("/v1", description="of the backends' URLs")
    servers: list[str] = Field([], max_length=10, description="name servers, `10.0.0.2` or `10.0.0.2:8600`; default: those of the system")
    min_seconds: Seconds = Field(1, description="shortest time between two questions, whatever the time to live")
    max_seconds: Seconds = Field(300, description="longest time between two questions, whatever the time to live")
    timeout_seconds: Seconds = Field(5, description="for one question")
    confirmations: int = Field(3, ge=1, le=1000, description="answers in a row that must say that there is no record, to be believed")

    @field_validator("servers")
    @classmethod
    def _addresses(cls, servers: list[str]) -> list[str]:
        from backends.discovery.dns import name_server

        for server in servers:
            name_server(server)
        return servers


class KubernetesDiscovery(Section):
    """EndpointSlices of a Kubernetes cluster, listed and watched."""

    type: Literal["kubernetes"] = Field(description="`kubernetes`")
    service: ObjectName | None = Field(None, description="a Service: the slices made for it")
    selector: str | None = Field(None, min_length=1, max_length=4096, description="labels of the slices, such as `app=vllm,size in (s, m)`")
    namespace: ObjectName | None = Field(None, description="where they are; default: the gateway's own")
    port: int | str | None = Field(None, description="the port's name or number in the slices; may be left out if they have one port")
    scheme: Scheme = Field("http", description="of the backends' URLs")
    path: UrlPath = Field("/v1", description="of the backends' URLs")
    address_type: Literal["IPv4", "IPv6"] | None = Field(None, description="default: both, and a pod with both counts once, by IPv4")
    api: str = Field("https://kubernetes.default.svc", description="the API server")
    token_file: str | None = Field(f"{ACCOUNT}/token", min_length=1, description="the service account's token; `null`: none is sent")
    ca_file: str | None = Field(f"{ACCOUNT}/ca.crt", min_length=1, description="who vouches for the API server; `null`: the system's list")
    watch_seconds: float = Field(300, ge=1, le=3600, description="how long one watch lasts, give or take a fifth")
    timeout_seconds: Seconds = Field(10, description="for a page of a list, and for a watch to begin")

    @field_validator("port", mode="before")
    @classmethod
    def _port(cls, port: object) -> object:
        if isinstance(port, str) and port.isascii() and port.isdigit():
            port = int(port[:6])  # from the environment
        named = isinstance(port, str) and re.fullmatch(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?", port)
        if port is not None and not named and (isinstance(port, bool) or not isinstance(port, int) or not 1 <= port <= 65_535):
            raise ValueError("should be a port's name, or a number from 1 to 65535")
        return port

    @field_validator("api")
    @classmethod
    def _url(cls, url: str) -> str:
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname or "@" in parts.netloc or parts.query or parts.fragment:
            raise ValueError("is not a URL like https://kubernetes.default.svc")
        return url

    @property
    def labels(self) -> str:
        """The label selector: both, if both are given."""
        named = None if self.service is None else f"kubernetes.io/service-name={self.service}"
        return ",".join(part for part in (named, self.selector) if part)


Discovery = Annotated[FileDiscovery | DnsDiscovery | KubernetesDiscovery, Field(discriminator="type")]


def contradictions(section: Discovery, place: tuple[Key, ...]) -> list[tuple[tuple[Key, ...], str]]:
    """What is wrong with a discovery as a whole: where, and why. `place`: its own path in the file."""
    found: list[tuple[tuple[Key, ...], str]] = []
    if isinstance(section, DnsDiscovery):
        if find_spec("dns") is None:
            found.append(((*place, "type"), "needs dnspython: pip install pointsman[dns]"))
        if section.record == "SRV" and section.port is not None:
            found.append(((*place, "port"), "SRV records name the ports themselves"))
        if section.record != "SRV" and section.port is None:
            found.append(((*place, "port"), f"is required: {section.record} records do not name it"))
        if section.min_seconds > section.max_seconds:
            found.append(((*place, "min_seconds"), f"is more than `max_seconds` ({section.max_seconds:g})"))
    if isinstance(section, KubernetesDiscovery):
        if not section.labels:
            found.append((place, "needs `service` or `selector`; else it would take every endpoint of the namespace"))
        parts = urlsplit(section.api)
        if parts.scheme == "http" and section.token_file is not None and parts.hostname not in ("127.0.0.1", "::1", "localhost"):
            found.append(((*place, "api"), "would send the token unencrypted; use https, or `token_file: null`"))
        if section.token_file is None and section.namespace is None:
            found.append(((*place, "namespace"), "is required without `token_file`, beside which it would be read"))
    return found


def build_source(section: Discovery, model: str, folder: Path, rng: Random) -> Source:
    """Who finds the backends of a model. `folder`: that of the configuration file. Raises SourceError if something is not installed."""
    if isinstance(section, FileDiscovery):
        from backends.discovery.file import FileSource

        return FileSource(folder / section.path, model)
    if isinstance(section, DnsDiscovery):
        from backends.discovery.dns import DnsName, DnsPace, DnsSource

        name = DnsName(section.name, section.record, section.port, section.scheme, section.path)
        pace = DnsPace(section.min_seconds, section.max_seconds, section.timeout_seconds, section.confirmations)
        return DnsSource(name, pace, servers=section.servers, rng=rng)
    from backends.discovery.cluster import Cluster, EndpointSlices
    from backends.discovery.endpoint_slices import Wanted
    from backends.discovery.kubernetes import KubernetesSource

    token_file, ca_file = (None if path is None else folder / path for path in (section.token_file, section.ca_file))
    slices = EndpointSlices(Cluster(section.api, section.namespace, token_file, ca_file), section.labels, timeout=section.timeout_seconds)
    wanted = Wanted(section.port, section.scheme, section.path, section.address_type)
    where = f"the EndpointSlices with {section.labels}"
    return KubernetesSource(slices, wanted, watch_seconds=section.watch_seconds, rng=rng, where=where)
