"""How a request ends that has no answer of a model: with an error, with the end of the process, or with what it was answered before."""

from __future__ import annotations

import asyncio

from backends.api import Header
from gateway.account.visit import Visit
from gateway.api.errors import headers_of
from gateway.errors import GatewayError
from gateway.flow.client import Client
from gateway.flow.sse import event
from gateway.memory.idempotency import Answered


def send_error(client: Client, error: GatewayError, visit: Visit) -> None:
    """Answers with an error of the closed table."""
    body = error.body()
    headers: list[Header] = [
        (b"content-type", b"application/json"),
        (b"x-request-id", visit.request_id.encode()),
    ]
    if visit.record is not None:
        headers.append((b"x-router-decision-id", visit.record.decision.id.encode()))
        headers.append((b"x-router-attempts", b"%d" % len(visit.record.attempts)))
    headers += headers_of(error)
    client.whole(error.status, headers, body)


async def break_off(client: Client, visit: Visit) -> None:
    """The process ends amid a request. The client is told: by an error, or in a stream by its last event."""
    task = asyncio.current_task()
    assert task is not None
    task.uncancel()
    if client.served:
        return
    visit.fail(503, "draining")
    error = GatewayError("draining", "this process ends, and the answer was not complete", retry_after=1)
    if not client.committed:
        visit.worked = False
        send_error(client, error, visit)
    elif visit.record is not None and visit.record.stream:
        await client.write(event(error.body()), more=False)


def send_again(client: Client, answered: Answered) -> None:
    """Answers with what the same request got before."""
    client.whole(answered.status, [*answered.headers, (b"idempotent-replayed", b"true")], answered.body)
