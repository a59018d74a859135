"""Spans to a collector: OpenTelemetry's own queue, batches and OTLP by HTTP, of the extra `otel`.

Spans are made elsewhere and whole, with the ids and times that they are to have, so no tracer of the SDK is asked, only
its processor. It has a thread of its own, a queue that is bounded, and drops what is too much.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from opentelemetry.exporter.otlp.proto.http import Compression
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import SpanContext, SpanKind, Status, StatusCode, TraceFlags

from pilothouse.core.spans import Span
from pilothouse.core.telemetry import Telemetry
from pilothouse.core.traceparent import Place

_KINDS = {"internal": SpanKind.INTERNAL, "server": SpanKind.SERVER, "client": SpanKind.CLIENT}


class Otlp:
    def __init__(self, telemetry: Telemetry, version: str, exporter: SpanExporter | None = None) -> None:
        self._telemetry = telemetry
        self._resource = Resource({**telemetry.resource, "service.version": version})
        self._scope = InstrumentationScope("pilothouse", version)
        self._processor = BatchSpanProcessor(
            exporter or _exporter(telemetry), schedule_delay_millis=max(telemetry.delay_s * 1000, 1)
        )

    def samples(self, trace: str, parent: Place | None) -> bool:
        return self._telemetry.samples(trace, parent)

    def send(self, spans: Sequence[Span]) -> None:
        for span in spans:
            self._processor.on_end(self._readable(span))

    async def close(self) -> None:
        """What waits is sent, for as long as the exporter's time-out."""
        await asyncio.to_thread(self._processor.shutdown)

    def _readable(self, span: Span) -> ReadableSpan:
        about = dict(span.attributes)
        if span.error:
            about["error.type"] = span.error
        return ReadableSpan(
            span.name,
            context=_context(span.place.trace, span.place.span, span.place.sampled, remote=False),
            parent=_context(span.place.trace, span.parent, span.place.sampled, remote=span.remote)
            if span.parent
            else None,
            resource=self._resource,
            attributes=about,
            kind=_KINDS[span.kind],
            status=Status(StatusCode.ERROR) if span.error else Status(StatusCode.UNSET),
            start_time=int(span.start * 1e9),
            end_time=int(span.end * 1e9),
            instrumentation_scope=self._scope,
        )


def _context(trace: str, span: str, sampled: bool, *, remote: bool) -> SpanContext:
    return SpanContext(int(trace, 16), int(span, 16), remote, TraceFlags(int(sampled)))


def _exporter(telemetry: Telemetry) -> OTLPSpanExporter:
    return OTLPSpanExporter(
        endpoint=telemetry.endpoint,
        headers=dict(telemetry.headers),
        timeout=telemetry.timeout_s,
        compression=Compression.Gzip if telemetry.gzip else Compression.NoCompression,
        certificate_file=telemetry.certificate,
    )
