"""Spans on their way to the collector: they wait in a bounded queue, and a thread of their own sends them."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections import deque

from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult

BATCH = 512
PAUSE_SECONDS = 1.0
CLOSE_SECONDS = 3.0
_log = logging.getLogger("pointsman")


class SpanQueue(SpanProcessor):
    """Takes spans that have ended, and never waits. `exporter`: may block; it is only ever called in the thread.

    Beyond `size` waiting spans the newest are dropped, and a batch that the collector does not take is dropped; `dropped` counts both.
    The SDK's own processor does not say how many it has lost.
    """

    def __init__(self, exporter: SpanExporter, size: int, pause: float = PAUSE_SECONDS) -> None:
        self._exporter = exporter
        self._size = size
        self._pause = pause
        self._waiting: deque[ReadableSpan] = deque()
        self._wake = threading.Event()
        self._closing = False
        self._thread: threading.Thread | None = None
        self._is_away = False
        self._lost = 0
        self._overflown = 0

    @property
    def dropped(self) -> int:
        """Spans that were lost so far."""
        return self._lost + self._overflown

    def __len__(self) -> int:
        return len(self._waiting)

    def on_end(self, span: ReadableSpan) -> None:
        """Called by the SDK for each span, in the event loop's thread."""
        if self._closing or len(self._waiting) >= self._size:
            self._overflown += 1
            return
        self._waiting.append(span)
        if self._thread is None:  # not before there is something to send: whoever only checks a configuration starts none
            self._thread = threading.Thread(target=self._send_all, name="pointsman-traces", daemon=True)
            self._thread.start()
        if len(self._waiting) >= BATCH:
            self._wake.set()

    async def aclose(self) -> None:
        """Sends what waits, and ends. A collector that does not answer costs CLOSE_SECONDS, and what waits."""
        self._closing = True
        self._wake.set()
        thread = self._thread
        if thread is not None:
            await asyncio.to_thread(thread.join, CLOSE_SECONDS)
        self._exporter.shutdown()
        self._lost += len(self._waiting)
        self._waiting.clear()

    def _send_all(self) -> None:
        while not self._closing:
            self._wake.wait(self._pause)
            self._wake.clear()
            self._send_waiting()
        self._send_waiting()

    def _send_waiting(self) -> None:
        while self._waiting:
            batch = [self._waiting.popleft() for _ in range(min(BATCH, len(self._waiting)))]
            arrived = self._exporter.export(batch) is SpanExportResult.SUCCESS
            if not arrived:
                self._lost += len(batch)
            self._tell(arrived)
            if not arrived and self._closing:
                return

    def _tell(self, arrived: bool) -> None:
        """Once when the collector goes, and once when it is back."""
        if arrived and self._is_away:
            _log.info("traces: the collector takes spans again; %d were dropped so far", self.dropped)
        if not arrived and not self._is_away:
            _log.warning("traces: the collector does not take spans; they are dropped and counted until it does")
        self._is_away = not arrived
