"""Writes what is installed as a CycloneDX 1.6 document (JSON): sbom.py ENVIRONMENT [--root FOLDER] [--out FILE].

Python packages come from the metadata of the environment and of the Python that runs this, which is named too; system packages from dpkg.
Needs nothing but Python.
The document depends on what is installed and on nothing else, so the same image has the same one. Source: the CycloneDX specification
(ECMA-424) and the package-url types `pypi`, `deb` and `generic`.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import platform
import re
import uuid
from collections.abc import Iterator
from importlib.metadata import Distribution, distributions
from pathlib import Path
from typing import Any
from urllib.parse import quote

PRODUCT = "pointsman"
Component = dict[str, Any]


def python_packages(environment: Path) -> Iterator[Component]:
    """Every distribution of a virtual environment, and of the Python that runs this."""
    for distribution in [*distributions(path=[str(path) for path in environment.glob("lib/python3*/site-packages")]), *distributions()]:
        name = re.sub(r"[-_.]+", "-", distribution.metadata["Name"]).lower()
        yield _component("library", name, distribution.version, f"pkg:pypi/{name}@{quote(distribution.version)}", _license(distribution))


def _license(distribution: Distribution) -> str | None:
    """The SPDX expression if the package gives one; else what it says in a word; else its classifiers."""
    metadata = distribution.metadata
    expression, short = metadata.get("License-Expression"), metadata.get("License")
    if expression or (short and "\n" not in short and len(short) < 80):
        return str(expression or short)
    names = [text.rsplit(" :: ", 1)[1] for text in metadata.get_all("Classifier", []) if text.startswith("License :: ")]
    return " / ".join(names) or None


def system_packages(root: Path) -> Iterator[Component]:
    """Every package that dpkg has installed; none where there is no dpkg."""
    status, release = root / "var/lib/dpkg/status", root / "etc/os-release"
    if not status.exists():
        return
    words = dict(line.split("=", 1) for line in release.read_text(encoding="utf-8").splitlines() if "=" in line)
    system, version = (words.get(key, "").strip('"') for key in ("ID", "VERSION_ID"))
    for entry in status.read_text(encoding="utf-8").split("\n\n"):
        fields = dict(line.split(": ", 1) for line in entry.splitlines() if ": " in line and not line.startswith(" "))
        if fields.get("Status", "").endswith(" installed"):
            name, number, machine = fields["Package"], fields["Version"], fields["Architecture"]
            purl = f"pkg:deb/{system}/{quote(name)}@{quote(number)}?arch={machine}&distro={system}-{version}"
            yield _component("library", name, number, purl, None)


def _component(kind: str, name: str, version: str, purl: str, license: str | None) -> Component:
    licenses = {"licenses": [{"license": {"name": license}}]} if license else {}
    return {"type": kind, "bom-ref": purl, "name": name, "version": version, "purl": purl, **licenses}


def document(environment: Path, root: Path) -> dict[str, Any]:
    """The whole document, its components in order. `root`: where dpkg's list is. Raises SystemExit if the product is not installed."""
    found = {str(component["bom-ref"]): component for component in python_packages(environment)}
    packages = sorted(found.values(), key=lambda component: str(component["bom-ref"]))
    ours = [component for component in packages if component["name"] == PRODUCT]
    if not ours:
        raise SystemExit(f"sbom: {PRODUCT} is not installed in {environment}")
    version = platform.python_version()
    python = _component("platform", "python", version, f"pkg:generic/python@{version}", "PSF-2.0")
    system = sorted(system_packages(root), key=lambda component: str(component["bom-ref"]))
    parts = [*(component for component in packages if component not in ours), python, *system]
    digest = hashlib.sha256(json.dumps([ours, parts]).encode()).hexdigest()
    return {
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "serialNumber": f"urn:uuid:{uuid.uuid5(uuid.NAMESPACE_OID, digest)}",
        "version": 1,
        "metadata": {"component": {**ours[0], "type": "application"}},
        "components": parts,
        "dependencies": [{"ref": ours[0]["bom-ref"], "dependsOn": [component["bom-ref"] for component in parts]}],
    }


def main() -> None:
    arguments = argparse.ArgumentParser(description="Writes what is installed as a CycloneDX document.")
    arguments.add_argument("environment", type=Path, help="a virtual environment")
    arguments.add_argument("--root", type=Path, default=Path("/"), help="the root of the system whose packages count; default: /")
    arguments.add_argument("--out", type=Path, help="default: standard output")
    given = arguments.parse_args()
    text = json.dumps(document(given.environment, given.root), indent=1, ensure_ascii=False) + "\n"
    if given.out is None:
        print(text, end="")
    else:
        given.out.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
