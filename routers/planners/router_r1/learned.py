"""What a trained policy was trained for: the words that it read, and the bounds that it kept. The weights are its server's to load."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from routers.planners.router_r1.grammar import TAGS
from routers.planners.router_r1.wording import WORDING

KIND = "router_r1"
MOST = MappingProxyType({"max_asks": 16, "policy_tokens": 32_768, "expert_tokens": 32_768})


@dataclass(frozen=True, slots=True)
class Learned:
    """`max_asks`, `policy_tokens`, `expert_tokens`: as the planner has them. `hash`: of the artifact."""

    max_asks: int
    policy_tokens: int
    expert_tokens: int
    hash: str = ""

    def settings(self) -> dict[str, object]:
        """As an artifact keeps it."""
        bounds = {"max_asks": self.max_asks, "policy_tokens": self.policy_tokens, "expert_tokens": self.expert_tokens}
        return {"wording": WORDING, "tags": list(TAGS), **bounds}


def load(folder: Path) -> Learned:
    """Raises BadArtifact; also for a policy that was trained on other words or tags than those that it would be shown."""
    from routers.artifacts import SETTINGS, BadArtifact
    from routers.artifacts import load as read  # its packages are not needed by who has no artifact

    loaded = read(folder, KIND)
    settings = loaded.settings
    if settings.get("wording") != WORDING:
        raise BadArtifact(folder, f"it was trained on wording {settings.get('wording')!r} of the prompt, and this is wording {WORDING}")
    if settings.get("tags") != list(TAGS):
        raise BadArtifact(folder, f"it was trained on other tags than {', '.join(TAGS)}")
    bounds: dict[str, int] = {}
    for name, most in MOST.items():
        value = settings.get(name)
        if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= most:
            raise BadArtifact(folder, f"{SETTINGS}: {name} must be a whole number from 1 to {most}")
        bounds[name] = value
    return Learned(bounds["max_asks"], bounds["policy_tokens"], bounds["expert_tokens"], loaded.hash)
