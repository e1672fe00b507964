"""EndpointSlices of Kubernetes (discovery.k8s.io/v1), as far as we read them, and the backends in them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from msgspec import Struct, field

from backends.discovery.api import Unusable, found, server_url


class Conditions(Struct, frozen=True, gc=False):
    """What the cluster knows of an endpoint; None is "unknown", which counts as ready, as serving if it is ready, as not terminating."""

    ready: bool | None = None
    serving: bool | None = None
    terminating: bool | None = None

    def may_start(self) -> bool:
        """Whether it may get new calls. `publishNotReadyAddresses` makes even those ready that are about to end."""
        return self.ready is not False and not self.terminating

    def still_serves(self) -> bool:
        return bool(self.terminating) and (self.ready is not False if self.serving is None else self.serving)


class Reference(Struct, frozen=True, gc=False):
    uid: str = ""


class Endpoint(Struct, frozen=True, gc=False, rename="camel"):
    """`target_ref`: the pod. `addresses`: all lead to the same place."""

    addresses: list[str] = []
    conditions: Conditions | None = None
    target_ref: Reference | None = None


class Port(Struct, frozen=True, gc=False):
    name: str | None = None
    port: int | None = None
    protocol: str | None = None


class Metadata(Struct, frozen=True, gc=False, rename="camel"):
    """Of an object, or of a page of a list: then `continue_` leads to the next page, if there is one."""

    name: str = ""
    resource_version: str = ""
    continue_: str | None = field(default=None, name="continue")


class Slice(Struct, frozen=True, gc=False, rename="camel"):
    metadata: Metadata = Metadata()
    address_type: str = "IPv4"
    endpoints: list[Endpoint] | None = None
    ports: list[Port] | None = None


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which of the endpoints, and how URLs are made of them.

    `port`: a port's name or number in the slices; None: the only one that they have. `address_type`: None: any, and a pod that has
    addresses of both kinds counts once, by that for IPv4.
    """

    port: str | int | None = None
    scheme: Literal["http", "https"] = "http"
    path: str = "/v1"
    address_type: Literal["IPv4", "IPv6"] | None = None


def backends(slices: Iterable[Slice], wanted: Wanted) -> frozenset[str]:
    """The base URLs of all endpoints that may get new calls. Raises Unusable if there are endpoints, but none at the wanted port.

    If there is none, those that are about to end but serve as yet, as kube-proxy has it: the last pod of a service that moves is better
    than no pod.
    """
    starting: dict[tuple[str, int], str] = {}
    ending: dict[tuple[str, int], str] = {}
    others: set[str] = set()
    for piece in sorted(slices, key=lambda one: (one.address_type, one.metadata.name)):
        if wanted.address_type not in (None, piece.address_type) or not piece.endpoints:
            continue
        port = _port(piece.ports or [], wanted.port)
        if port is None:
            others.update(f"{one.port} ({one.name})" if one.name else f"{one.port}" for one in piece.ports or ())
            continue
        for endpoint in piece.endpoints:
            conditions = endpoint.conditions or Conditions()
            group = starting if conditions.may_start() else ending if conditions.still_serves() else None
            if group is not None and endpoint.addresses:
                url = _url(endpoint.addresses[0], port, wanted)
                who = endpoint.target_ref.uid if endpoint.target_ref is not None else ""
                group.setdefault((who or url, port), url)
    if others and not starting and not ending:
        named = "`port` must name one of the ports" if wanted.port is None else f"there is no port {wanted.port!r}; there are"
        raise Unusable(f"{named}: {', '.join(sorted(others)[:10])}")
    return found((starting or ending).values())


def _port(ports: list[Port], wanted: str | int | None) -> int | None:
    """The wanted port's number; None if it is not there, or not to be told. A slice without ports, or with a port None, has all of them."""
    usable = [port for port in ports if port.protocol in (None, "TCP")]
    if isinstance(wanted, int):
        return wanted if not ports or any(port.port in (None, wanted) for port in usable) else None
    if wanted is not None:
        return next((port.port for port in usable if port.name == wanted), None)
    return usable[0].port if len(usable) == 1 else None


def _url(address: str, port: int, wanted: Wanted) -> str:
    try:
        return server_url(wanted.scheme, address, port, wanted.path)
    except ValueError as error:
        raise Unusable(str(error)) from None
