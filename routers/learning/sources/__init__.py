"""Outcomes of real models from the files of public projects: one reader a format, all behind `Reader`.

A reader opens a local copy of the project, never a network. None of those files, and no question of theirs, is part of Pointsman.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Protocol

from routers.learning.sources import llmrouter, mmlu_pro, routellm, routerarena, routerbench
from routers.learning.sources.rows import Reading


class Reader(Protocol):
    """From a path to rows: the clone's folder, or for `routerbench` its one file. Raises BadSource, naming the file and the place in it."""

    def __call__(self, path: Path, /) -> Reading: ...


READERS: Mapping[str, Reader] = MappingProxyType(
    {
        "mmlu-pro": mmlu_pro.read,
        "routellm": routellm.read,
        "llmrouter": llmrouter.read,
        "routerarena": routerarena.read,
        "routerbench": routerbench.read,
    }
)
"""The format's name on the command line -> what reads it."""
