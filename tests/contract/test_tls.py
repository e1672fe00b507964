"""A backend behind TLS, by the default transport."""

from __future__ import annotations

import asyncio
import shutil
import ssl
import subprocess
from pathlib import Path

import pytest

from backends.api import BackendError, Call, Timeouts
from backends.http1 import Http1Transport


def certify(folder: Path) -> tuple[Path, Path]:
    """A key and a certificate for localhost."""
    key, certificate = folder / "key.pem", folder / "cert.pem"
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=localhost"]
    command += ["-addext", "subjectAltName=DNS:localhost", "-keyout", str(key), "-out", str(certificate)]
    subprocess.run(command, check=True, capture_output=True)
    return key, certificate


async def test_tls_with_a_known_and_an_unknown_certificate(tmp_path: Path) -> None:
    if shutil.which("openssl") is None:
        pytest.skip("openssl is not here")
    key, certificate = certify(tmp_path)
    server_side = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server_side.load_cert_chain(certificate, key)

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok")
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(handle, "127.0.0.1", 0, ssl=server_side)
    url = f"https://localhost:{server.sockets[0].getsockname()[1]}/v1"
    call = Call("GET", "/models", (), b"", Timeouts(connect=3, first_byte=3))
    known = Http1Transport(url, tls=ssl.create_default_context(cafile=str(certificate)))
    response = await known.send(call)
    assert (response.status, await response.read()) == (200, b"ok")
    with pytest.raises(BackendError) as caught:
        await Http1Transport(url).send(call)
    assert caught.value.kind == "connect"
    await known.aclose()
    server.close()
