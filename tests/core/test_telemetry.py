"""The `OTEL_…` variables."""

from __future__ import annotations

import pytest
from opentelemetry.sdk.trace.sampling import Decision, TraceIdRatioBased

from pilothouse.core.telemetry import SAMPLERS, BadTelemetry, Telemetry, read
from pilothouse.core.traceparent import Place, trace_id

AT = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://collector:4318"}


@pytest.mark.parametrize(
    "env",
    [
        {},
        {"OTEL_SERVICE_NAME": "x", "OTEL_TRACES_EXPORTER": "otlp"},
        {**AT, "OTEL_SDK_DISABLED": "True"},
        {**AT, "OTEL_TRACES_EXPORTER": "none"},
        {"OTEL_EXPORTER_OTLP_METRICS_ENDPOINT": "http://x"},
    ],
)
def test_nothing_is_traced_unless_an_endpoint_is_named(env: dict[str, str]) -> None:
    assert read(env) is None


def test_what_is_usual() -> None:
    assert read(AT) == Telemetry("http://collector:4318/v1/traces", resource={"service.name": "pilothouse"})


def test_what_may_be_said() -> None:
    found = read(
        {
            **AT,
            "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "https://other/in",
            "OTEL_EXPORTER_OTLP_HEADERS": "a=1",
            "OTEL_EXPORTER_OTLP_TRACES_HEADERS": "authorization=Bearer%20x%2Cy, b = 2",
            "OTEL_EXPORTER_OTLP_TIMEOUT": "2500",
            "OTEL_EXPORTER_OTLP_COMPRESSION": "gzip",
            "OTEL_BSP_SCHEDULE_DELAY": "100",
            "OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf",
            "OTEL_EXPORTER_OTLP_CERTIFICATE": "/ca.pem",
            "OTEL_RESOURCE_ATTRIBUTES": "service.name=theirs,deployment.environment=prod",
            "OTEL_SERVICE_NAME": "ours",
            "OTEL_TRACES_SAMPLER": "traceidratio",
            "OTEL_TRACES_SAMPLER_ARG": "0.25",
        }
    )
    assert found == Telemetry(
        "https://other/in",
        {"authorization": "Bearer x,y", "b": "2"},
        2.5,
        0.1,
        True,
        "/ca.pem",
        {"service.name": "ours", "deployment.environment": "prod"},
        "traceidratio",
        0.25,
    )
    assert "Bearer" not in repr(found)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "collector:4318"),
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "ftp://collector"),
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://user:secret@collector"),
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://[::1"),
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://x/\n"),
        ("OTEL_EXPORTER_OTLP_HEADERS", "secret"),
        ("OTEL_EXPORTER_OTLP_HEADERS", "a=secret%0d%0ab: c"),
        ("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc"),
        ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "http/json"),
        ("OTEL_EXPORTER_OTLP_TIMEOUT", "soon"),
        ("OTEL_EXPORTER_OTLP_TIMEOUT", "-1"),
        ("OTEL_EXPORTER_OTLP_TIMEOUT", "nan"),
        ("OTEL_EXPORTER_OTLP_COMPRESSION", "zstd"),
        ("OTEL_RESOURCE_ATTRIBUTES", "=x"),
        ("OTEL_TRACES_SAMPLER", "jaeger_remote"),
        ("OTEL_TRACES_SAMPLER_ARG", "1.5"),
        ("OTEL_TRACES_EXPORTER", "zipkin"),
    ],
)
def test_what_is_wrong_is_named_and_no_secret_told(name: str, value: str) -> None:
    with pytest.raises(BadTelemetry) as refused:
        read({**AT, name: value})
    assert str(refused.value).startswith(name)
    assert "secret" not in str(refused.value)


def test_samplers() -> None:
    kept, left = Place("1" * 32, "1" * 16, True), Place("1" * 32, "1" * 16, False)
    said = {s: [Telemetry("x", sampler=s, share=0).samples("1" * 32, p) for p in (None, kept, left)] for s in SAMPLERS}
    assert said == {
        "always_on": [True, True, True],
        "always_off": [False, False, False],
        "traceidratio": [False, False, False],
        "parentbased_always_on": [True, True, False],
        "parentbased_always_off": [False, True, False],
        "parentbased_traceidratio": [False, True, False],
    }


@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 1.0])
def test_a_share_is_the_one_of_the_sdk(share: float) -> None:
    ours, theirs = Telemetry("x", sampler="traceidratio", share=share), TraceIdRatioBased(share)
    for n in range(300):
        trace = trace_id(str(n))
        kept = theirs.should_sample(None, int(trace, 16), "x").decision is Decision.RECORD_AND_SAMPLE
        assert ours.samples(trace, None) is kept
