"""From the section on traces to whoever begins them."""

from __future__ import annotations

import logging

from gateway import __version__
from gateway.account.tracing import NoTracing, Tracing
from gateway.sections.tracing import TracingSection


def build_tracing(section: TracingSection) -> Tracing:
    """Without an endpoint nothing is traced, and what would send spans is not even loaded."""
    if section.endpoint is None:
        return NoTracing()
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.sampling import ParentBased, TraceIdRatioBased

    from gateway.account.span_queue import SpanQueue
    from gateway.account.spans import OtelTracing

    # The exporter logs several lines for each batch that is lost; the queue says it once, and counts.
    logging.getLogger("opentelemetry").setLevel(logging.CRITICAL)
    headers = {name: value.get_secret_value() for name, value in section.headers.items()}
    exporter = OTLPSpanExporter(section.url, headers=headers, timeout=section.timeout_seconds)
    queue = SpanQueue(exporter, section.queue)
    provider = TracerProvider(
        sampler=ParentBased(TraceIdRatioBased(section.sample_ratio)),
        resource=Resource.create({"service.name": section.service_name, "service.version": __version__}),
        shutdown_on_exit=False,
    )
    provider.add_span_processor(queue)
    return OtelTracing(provider, queue, section.prompts)
