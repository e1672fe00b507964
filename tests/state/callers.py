"""A keys file for tests."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from gateway.guard.keys import new_key


class Keys:
    """Writes a keys file as keys are added. `auth`: the section of the configuration that names it."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / "keys.yaml"
        self._entries: list[dict[str, Any]] = []
        self.auth = {"keys": str(self._path)}

    def add(self, **rights: Any) -> dict[str, str]:
        """A new key's entry in the file. Returns the header that a client sends."""
        key, id, digest = new_key()
        self._entries.append({"id": id, "name": "test", "sha256": digest, **rights})
        self._path.write_text(json.dumps({"keys": self._entries}))
        return {"authorization": f"Bearer {key}"}

    def id(self, number: int = -1) -> str:
        found: str = self._entries[number]["id"]
        return found
