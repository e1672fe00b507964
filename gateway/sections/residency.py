"""Experts that share GPUs and take turns on them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated, Literal

from pydantic import Field

from backends.residency.policies.api import Policy
from backends.residency.policies.cost_aware import CostAware
from backends.residency.policies.lru import Lru
from backends.residency.policies.pinned import Pinned
from gateway.sections.base import Seconds, Section
from gateway.sections.models import ModelSection
from gateway.source import Key
from routers.registry import nearest

Found = tuple[tuple[Key, ...], str]
Units = Annotated[float, Field(gt=0, le=1e9, allow_inf_nan=False)]
WakeSeconds = Annotated[float, Field(ge=0, le=86_400, allow_inf_nan=False)]


class LruPolicy(Section):
    """Wakes at once, and puts to sleep what was used the longest ago."""

    type: Literal["lru"] = Field(description="`lru`")

    def build(self) -> Policy:
        return Lru()


class PinnedPolicy(Section):
    """Keeps the `pinned` models awake; the others share what memory is left, the least recently used goes."""

    type: Literal["pinned"] = Field(description="`pinned`")

    def build(self) -> Policy:
        return Pinned()


class CostAwarePolicy(Section):
    """Puts to sleep what will be missed the least, when those who wait have waited as long as it will make others wait."""

    type: Literal["cost_aware"] = Field(description="`cost_aware`")
    thrift: float = Field(
        3.0, ge=0, le=1000, allow_inf_nan=False, description="more of it: fewer switches, longer waits; 0 switches at once"
    )
    horizon_seconds: Seconds = Field(15, description="an expert that is likely to be asked for within this time is missed")
    memory_seconds: Seconds = Field(300, description="how often an expert is asked for is judged by so long a past")

    def build(self) -> Policy:
        return CostAware(self.thrift, self.horizon_seconds, self.memory_seconds)


PolicySection = Annotated[LruPolicy | PinnedPolicy | CostAwarePolicy, Field(discriminator="type")]


class SwitchingSection(Section):
    """What a switch takes, in seconds, until it was measured."""

    sleep: WakeSeconds = Field(1.0, description="to put a model to sleep")
    wake: WakeSeconds = Field(1.5, description="to wake one from level 1")
    wake_from_level_2: WakeSeconds = Field(5.0, description="to wake one from level 2, whose weights are read from disk")
    load: WakeSeconds = Field(1.0, description="to load an adapter")
    unload: WakeSeconds = Field(0.1, description="to unload an adapter")


class ResidencySection(Section):
    """A group of models that share GPU memory."""

    models: list[str] = Field(min_length=2, description="names of the models that share the memory")
    capacity: Units = Field(description="memory for models that are awake at once, in the units of `sizes`")
    sizes: dict[str, Units] = Field({}, description="model: memory that it takes while awake, in any unit; default: 1")
    policy: PolicySection = Field(CostAwarePolicy(type="cost_aware"), description="who is woken, and who makes room")
    how: Literal["sleep", "lora"] = Field("sleep", description="`sleep`: vLLM's sleep mode; `lora`: adapters are loaded and unloaded")
    level: Literal[1, 2] = Field(1, description="of sleep: 1 keeps the weights in CPU memory, 2 discards them")
    paths: dict[str, str] = Field({}, description="model: where its servers find its adapter; for `how: lora`")
    pinned: list[str] = Field([], description="models that are always awake")
    min_stay_seconds: float = Field(3, ge=0, le=86_400, description="a model that was woken stays awake so long at least")
    max_wait_seconds: Seconds = Field(30, description="a model that was asked for so long ago is woken next, whatever the policy says")
    action_seconds: Seconds = Field(120, description="for one call that wakes, puts to sleep or loads")
    retry_seconds: Seconds = Field(1, description="pause after a failed switch; it doubles with each one")
    max_retry_seconds: Seconds = Field(60, description="the longest pause")
    look_seconds: Seconds = Field(10, description="between two looks at where the servers stand")
    seconds: SwitchingSection = Field(SwitchingSection(), description="what a switch takes until it was measured")

    def size(self, model: str) -> float:
        return self.sizes.get(model, 1.0)


def contradictions(groups: Sequence[ResidencySection], models: Sequence[ModelSection]) -> list[Found]:
    """What cannot hold together, each with its path in the file."""
    known = {model.name: model for model in models}
    owners: dict[str, int] = {}
    found: list[Found] = []
    for index, group in enumerate(groups):
        place = ("residency", index)
        for number, name in enumerate(group.models):
            if owners.setdefault(name, index) != index:
                found.append(((*place, "models", number), f"{name!r} is in another group already"))
        found += [*_members(group, known, place), *_memory(group, place), *_means(group, known, place), *_pace(group, place)]
    return found


def _members(group: ResidencySection, known: Mapping[str, ModelSection], place: tuple[Key, ...]) -> Iterator[Found]:
    for number, name in enumerate(group.models):
        where = (*place, "models", number)
        if name not in known:
            yield where, f"no model named {name!r}{nearest(name, list(known))}"
        elif name in group.models[:number]:
            yield where, f"{name!r} is named twice"
        elif known[name].discovery is not None:
            yield where, f"{name!r} finds its backends by `discovery`; who takes turns must name them in `backends`"
    for key, names in (("sizes", list(group.sizes)), ("paths", list(group.paths)), ("pinned", group.pinned)):
        for number, name in enumerate(names):
            if name not in group.models:
                yield (
                    (*place, key, number if key == "pinned" else name),
                    f"{name!r} is not among the group's models{nearest(name, group.models)}",
                )


def _memory(group: ResidencySection, place: tuple[Key, ...]) -> Iterator[Found]:
    pinned = sum(group.size(name) for name in set(group.pinned))
    others = [name for name in group.models if name not in group.pinned]
    largest = max(group.models, key=group.size)
    if group.size(largest) > group.capacity:
        yield (*place, "capacity"), f"is less than {largest!r} takes ({group.size(largest):g}), so that it could never wake"
    elif pinned > group.capacity:
        yield (*place, "pinned"), f"take {pinned:g} together, more than `capacity` ({group.capacity:g})"
    elif others and (name := max(others, key=group.size)) and group.size(name) > group.capacity - pinned:
        yield (
            (*place, "pinned"),
            f"leave {group.capacity - pinned:g} of `capacity`, and {name!r} takes {group.size(name):g}: it could never wake",
        )
    if isinstance(group.policy, PinnedPolicy) and not group.pinned:
        yield (*place, "policy", "type"), "needs models in `pinned`"


def _means(group: ResidencySection, known: Mapping[str, ModelSection], place: tuple[Key, ...]) -> Iterator[Found]:
    if group.how == "lora":
        missing = [name for name in group.models if name not in group.paths]
        if missing:
            yield (*place, "paths"), f"says nothing of {', '.join(map(repr, missing))}"
        if "level" in group.model_fields_set:
            yield (*place, "level"), "is of sleep mode; adapters have none"
        return
    if group.paths:
        yield (*place, "paths"), "are of adapters, and need `how: lora`"
    servers: dict[str, str] = {}
    for number, name in enumerate(group.models):
        for url in known[name].backends if name in known else ():
            owner = servers.setdefault(url.rstrip("/"), name)
            if owner != name:
                yield (*place, "models", number), f"{name!r} and {owner!r} are on one server, which can only sleep as a whole"


def _pace(group: ResidencySection, place: tuple[Key, ...]) -> Iterator[Found]:
    if group.min_stay_seconds > group.max_wait_seconds:
        yield (*place, "min_stay_seconds"), f"is more than `max_wait_seconds` ({group.max_wait_seconds:g})"
    if group.retry_seconds > group.max_retry_seconds:
        yield (*place, "retry_seconds"), f"is more than `max_retry_seconds` ({group.max_retry_seconds:g})"
