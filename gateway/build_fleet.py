"""From the models of a configuration to the fleet: pools, backends, and how these are called."""

from __future__ import annotations

from random import Random

from backends.api import Header, Timeouts, Transport
from backends.breaker import Breaker
from backends.deadlines import Deadlines
from backends.http1 import Http1Transport
from backends.pool import Backend, Pool, TwoChoices
from gateway.config import Config
from gateway.fleet import Fleet, Served
from gateway.sections.models import ModelSection, TimeoutsSection
from routers.api import Model, Price


def build_fleet(config: Config, deadlines: Deadlines, rng: Random) -> Fleet:
    """All models of a configuration. `deadlines`: one timer for all their calls."""
    return Fleet({section.name: _served(section, config, deadlines, rng) for section in config.models})


def _served(section: ModelSection, config: Config, deadlines: Deadlines, rng: Random) -> Served:
    price = None if section.price is None else Price(**section.price.model_dump())
    model = Model(section.name, price, section.context_window, frozenset(section.capabilities), section.description)
    served_as = section.served_as or section.name
    headers: tuple[Header, ...] = ()
    if section.api_key is not None:
        headers = ((b"authorization", b"Bearer " + section.api_key.get_secret_value().encode()),)

    def make(url: str) -> Backend:
        breaker = Breaker(config.health.failures, rng=rng)
        return Backend(model.name, url, served_as, _transport(section, url, deadlines), breaker, headers=headers)

    pool = Pool([make(url) for url in section.backends], TwoChoices(rng))
    return Served(model, served_as, pool, headers, _timeouts(section.timeouts or config.timeouts))


def _transport(section: ModelSection, url: str, deadlines: Deadlines) -> Transport:
    if section.transport == "httpx":
        from backends.httpx_transport import HttpxTransport

        return HttpxTransport(url)
    return Http1Transport(url, deadlines=deadlines)


def _timeouts(section: TimeoutsSection) -> Timeouts:
    return Timeouts(section.connect, section.first_byte, section.idle, section.total)
