"""How one server is switched, and how it is asked where it stands. vLLM's own endpoints: docs/features/sleep_mode.md and lora.md there."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Literal, Protocol

import msgspec
from msgspec import Struct

from backends.api import BackendError, Call, Header, Timeouts, Transport
from backends.residency.actions import Action, Load, Sleep, Unload, Wake
from backends.residency.experts import State

MAX_BODY_BYTES = 4_000_000
_LEVELS = {"weights_offloaded": 1, "discard_all": 2}
_SLEEP_STATE = re.compile(rb'^vllm:engine_sleep_state\{[^}]*sleep_state="(\w+)"[^}]*\} 1(?:\.0)?$', re.MULTILINE)


class SwitchFailed(Exception):
    """An action had no effect, or half of it. The text is safe to log. `gone`: the server's process does not answer at all."""

    def __init__(self, message: str, gone: bool = False) -> None:
        super().__init__(message)
        self.gone = gone


class Standing(Struct, frozen=True):
    """Where a server stands. `why`: what an operator should know of it, "" if nothing."""

    state: State
    level: int = 0
    why: str = ""


class Server(Protocol):
    """One server of one expert."""

    async def carry_out(self, action: Action) -> None:
        """Raises SwitchFailed."""

    async def look(self) -> Standing:
        """Where it stands. Raises SwitchFailed if it does not say."""


class _Sleeping(Struct):
    is_sleeping: bool


class _Model(Struct):
    id: str = ""


class _Models(Struct):
    data: list[_Model] = []


class Line:
    """Calls to one server. `seconds`: for a call that switches, `look_seconds`: for one that asks."""

    def __init__(
        self, name: str, transport: Transport, headers: Sequence[Header] = (), *, seconds: float = 120.0, look_seconds: float = 5.0
    ) -> None:
        self.name = name
        self._transport = transport
        self._headers = (*headers, (b"content-type", b"application/json"), (b"accept-encoding", b"identity"))
        self._timeouts = {
            "POST": Timeouts(look_seconds, seconds, seconds, seconds),
            "GET": Timeouts(look_seconds, look_seconds, look_seconds, look_seconds),
        }

    async def ask(self, method: Literal["GET", "POST"], path: str, body: bytes = b"", root: bool = False) -> tuple[int, bytes]:
        """Status and body. Raises SwitchFailed if there is no answer."""
        call = Call(method, path, self._headers, body, self._timeouts[method], root)
        try:
            try:
                return await self._once(call)
            except BackendError as error:
                if error.kind != "stale":
                    raise
            return await self._once(call)
        except BackendError as error:
            raise SwitchFailed(f"{self.name}: {method} {path}: {error}", gone=error.kind == "connect") from None

    async def must(self, method: Literal["GET", "POST"], path: str, body: bytes = b"", root: bool = False) -> bytes:
        """The body of an answer with status 200. Raises SwitchFailed for any other."""
        status, answer = await self.ask(method, path, body, root)
        if status != 200:
            raise SwitchFailed(f"{self.name}: {method} {path}: status {status}{_hint(status, root)}")
        return answer

    async def _once(self, call: Call) -> tuple[int, bytes]:
        response = await self._transport.send(call)
        parts: list[bytes] = []
        try:
            while (data := await response.read()) and sum(map(len, parts)) < MAX_BODY_BYTES:
                parts.append(data)
        finally:
            response.close()
        return response.status, b"".join(parts)


def _hint(status: int, root: bool) -> str:
    if status not in (404, 405):
        return ""
    needed = "VLLM_SERVER_DEV_MODE=1 and --enable-sleep-mode" if root else "VLLM_ALLOW_RUNTIME_LORA_UPDATING=True and --enable-lora"
    return f"; vLLM needs {needed}"


class SleepServer:
    """A vLLM server with sleep mode.

    It is put to sleep with `mode=wait`: versions that know it let calls of others finish first, older ones ignore the parameter.
    Level 2 has thrown the weights away, so waking reads them from disk again, and only then is the memory for the cache taken.
    """

    def __init__(self, line: Line, level: int) -> None:
        self._line = line
        self._level = level
        self._half_awake = False

    async def carry_out(self, action: Action) -> None:
        ask = self._line.must
        match action:
            case Sleep(level=level):
                await ask("POST", f"/sleep?level={level}&mode=wait", root=True)
                self._half_awake = False
            case Wake(level=2):
                self._half_awake = True
                await ask("POST", "/wake_up?tags=weights", root=True)
                await ask("POST", "/collective_rpc", b'{"method":"reload_weights"}', root=True)
                await ask("POST", "/wake_up?tags=kv_cache", root=True)
                await ask("POST", "/reset_prefix_cache", root=True)
                self._half_awake = False
            case Wake():
                await ask("POST", "/wake_up", root=True)

    async def look(self) -> Standing:
        """A server without the endpoint is awake for ever. One that woke from level 2 only halfway still counts as asleep: it would
        answer without its weights.
        """
        status, body = await self._line.ask("GET", "/is_sleeping", root=True)
        if status in (404, 405):
            return Standing("awake", why=f"{self._line.name} cannot sleep{_hint(status, True)}")
        try:
            sleeping = status == 200 and msgspec.json.decode(body, type=_Sleeping).is_sleeping
        except msgspec.DecodeError:
            status = 0
        if status != 200:
            raise SwitchFailed(f"{self._line.name}: GET /is_sleeping says nothing of use")
        if self._half_awake:
            return Standing("asleep", 2)
        return Standing("asleep", await self._sleep_level()) if sleeping else Standing("awake")

    async def _sleep_level(self) -> int:
        """Only the metrics tell the level; where they do not, it is the configured one."""
        try:
            text = await self._line.must("GET", "/metrics", root=True)
        except SwitchFailed:
            return self._level
        state = _SLEEP_STATE.search(text)
        return self._level if state is None else _LEVELS.get(state[1].decode(), self._level)


class AdapterServer:
    """A vLLM server that loads adapters at run time. `adapter`: the name that clients of the server use; `path`: where it finds it."""

    def __init__(self, line: Line, adapter: str, path: str) -> None:
        self._line = line
        self._adapter = adapter
        self._path = path

    async def carry_out(self, action: Action) -> None:
        match action:
            case Load():
                fields = {"lora_name": self._adapter, "lora_path": self._path}
                status, _ = await self._line.ask("POST", "/load_lora_adapter", msgspec.json.encode(fields))
                loaded = status == 200 or (status == 400 and (await self.look()).state == "awake")
                if not loaded:
                    raise SwitchFailed(f"{self._line.name}: loading {self._adapter!r}: status {status}{_hint(status, False)}")
            case Unload():
                status, _ = await self._line.ask("POST", "/unload_lora_adapter", msgspec.json.encode({"lora_name": self._adapter}))
                if status not in (200, 404):
                    raise SwitchFailed(f"{self._line.name}: unloading {self._adapter!r}: status {status}")

    async def look(self) -> Standing:
        body = await self._line.must("GET", "/models")
        try:
            listed = {model.id for model in msgspec.json.decode(body, type=_Models).data}
        except msgspec.DecodeError:
            raise SwitchFailed(f"{self._line.name}: GET /models is no list of models") from None
        return Standing("awake" if self._adapter in listed else "unloaded")
