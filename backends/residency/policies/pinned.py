"""A fixed set stays awake; the others share what memory is left."""

from __future__ import annotations

from backends.residency.policies.lru import Lru


class Pinned(Lru):
    """The group never puts its pinned experts to sleep. Among the others the least recently used goes."""
