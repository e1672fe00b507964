"""From the residency sections of a configuration to the drivers that switch the experts."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from random import Random

from backends.pool import Backend
from backends.residency.costs import FirstCosts
from backends.residency.driver import Driver
from backends.residency.experts import Expert
from backends.residency.group import Group, Rules
from backends.residency.servers import AdapterServer, Line, Server, SleepServer
from gateway.sections.residency import ResidencySection


def build_driver(section: ResidencySection, backends: Mapping[str, Sequence[Backend]], clock: Callable[[], float], rng: Random) -> Driver:
    """`backends`: of each model of the group. They are told when requests may go to them."""

    def ready(name: str) -> None:
        for backend in backends[name]:
            if section.how == "lora" and backend.health == "loading":
                backend.health, backend.why = "up", ""  # its server lists the adapter now, and health checks will find it a second later
            backend.notify()

    servers = {name: [_server(section, name, backend) for backend in backends[name]] for name in section.models}
    return Driver(build_group(section, clock, rng), servers, ready, clock=clock, look_seconds=section.look_seconds)


def build_group(section: ResidencySection, clock: Callable[[], float], rng: Random) -> Group:
    """The group of a section, as a state machine alone."""
    seconds, pinned = section.seconds, set(section.pinned)
    costs = FirstCosts(seconds.sleep, seconds.wake, seconds.wake_from_level_2, seconds.load, seconds.unload)
    experts = [Expert(name, section.size(name), name in pinned, costs) for name in section.models]
    rules = Rules(
        section.how,
        section.level,
        min_stay=section.min_stay_seconds,
        max_wait=section.max_wait_seconds,
        retry=section.retry_seconds,
        retry_cap=section.max_retry_seconds,
    )
    return Group(experts, section.capacity, section.policy.build(), rules, clock=clock, rng=rng)


def _server(section: ResidencySection, name: str, backend: Backend) -> Server:
    line = Line(backend.name, backend.transport, backend.headers, seconds=section.action_seconds)
    if section.how == "lora":
        return AdapterServer(line, backend.served_as, section.paths[name])
    return SleepServer(line, section.level)
