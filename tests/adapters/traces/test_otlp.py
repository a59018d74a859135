"""Spans through OpenTelemetry's SDK: in memory, and over the wire to a collector that decodes them."""

from __future__ import annotations

import subprocess
import sys
import time

from opentelemetry.proto.trace.v1.trace_pb2 import Span as Wire
from opentelemetry.proto.trace.v1.trace_pb2 import Status
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode

from pilothouse.adapters.traces.otlp import Otlp
from pilothouse.core.spans import Span
from pilothouse.core.telemetry import Telemetry, read
from pilothouse.core.traceparent import Place
from tests.collector import Collector, about

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
JOB = Span(Place(TRACE, "a" * 16, True), "00f067aa0ba902b7", True, "invoke_agent claude", 1000.5, 1002.25)
CALL = Span(
    Place(TRACE, "b" * 16, True), "a" * 16, False, "chat m", 1001.0, 1001.5, "client",
    {"gen_ai.operation.name": "chat", "gen_ai.usage.input_tokens": 7, "x": 0.5, "y": True}, "429",
)  # fmt: skip
ROOT = Span(Place("c" * 32, "d" * 16, True), "", False, "GET /api/me", 1.0, 2.0, "server")


async def test_the_sdk_has_them_as_they_were_made() -> None:
    exporter = InMemorySpanExporter()
    otlp = Otlp(Telemetry("http://nobody", resource={"service.name": "ours"}), "1.2", exporter)
    otlp.send([JOB, CALL, ROOT])
    await otlp.close()
    job, call, root = exporter.get_finished_spans()
    assert job.context is not None
    assert (f"{job.context.trace_id:032x}", f"{job.context.span_id:016x}") == (TRACE, "a" * 16)
    assert job.parent is not None
    assert (f"{job.parent.span_id:016x}", job.parent.is_remote) == (JOB.parent, True)
    assert (job.start_time, job.end_time) == (1_000_500_000_000, 1_002_250_000_000)
    assert job.status.status_code is StatusCode.UNSET
    assert call.parent is not None
    assert (f"{call.parent.span_id:016x}", call.parent.is_remote) == ("a" * 16, False)
    assert (call.kind, call.status.status_code) == (SpanKind.CLIENT, StatusCode.ERROR)
    assert dict(call.attributes or {}) == {**CALL.attributes, "error.type": "429"}
    assert (root.parent, root.kind) == (None, SpanKind.SERVER)
    assert dict(root.resource.attributes) == {"service.name": "ours", "service.version": "1.2"}


async def test_a_collector_reads_them() -> None:
    with Collector() as collector:
        telemetry = read(
            {
                "OTEL_EXPORTER_OTLP_ENDPOINT": collector.url + "/",
                "OTEL_EXPORTER_OTLP_HEADERS": "x-token=a%20b",
                "OTEL_EXPORTER_OTLP_COMPRESSION": "gzip",
                "OTEL_RESOURCE_ATTRIBUTES": "deployment.environment=prod",
            }
        )
        assert telemetry is not None
        otlp = Otlp(telemetry, "1.2")
        otlp.send([JOB, CALL, ROOT])
        await otlp.close()
    assert collector.headers[0][":path"] == "/v1/traces"
    assert collector.headers[0]["x-token"] == "a b"
    assert collector.headers[0]["content-type"] == "application/x-protobuf"
    job, call, root = collector.spans
    assert (job.trace_id.hex(), job.span_id.hex(), job.parent_span_id.hex()) == (TRACE, "a" * 16, JOB.parent)
    assert (job.start_time_unix_nano, job.end_time_unix_nano) == (1_000_500_000_000, 1_002_250_000_000)
    assert (call.name, call.kind, call.status.code) == ("chat m", Wire.SPAN_KIND_CLIENT, Status.STATUS_CODE_ERROR)
    assert about(call) == {**CALL.attributes, "error.type": "429"}
    assert root.parent_span_id == b""
    assert collector.resource() == {
        "service.name": "pilothouse", "service.version": "1.2", "deployment.environment": "prod",
    }  # fmt: skip


async def test_a_collector_that_is_away_holds_nobody_up() -> None:
    telemetry = read({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:9", "OTEL_EXPORTER_OTLP_TIMEOUT": "200"})
    assert telemetry is not None
    otlp = Otlp(telemetry, "1.2")
    since = time.process_time()
    otlp.send([JOB] * 5000)  # more than its queue takes
    assert time.process_time() - since < 5
    await otlp.close()


def test_nothing_of_it_is_loaded_where_nothing_is_traced() -> None:
    code = (
        "import sys, pilothouse.server; "
        "loaded = [m for m in sys.modules if m.startswith(('opentelemetry.sdk', 'opentelemetry.exporter'))]; "
        "assert not loaded, loaded"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
