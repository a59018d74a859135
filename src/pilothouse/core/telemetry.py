"""Where traces go, as the standard variables `OTEL_…` say it. Nothing is traced unless an endpoint is named.

OTEL_EXPORTER_OTLP_TRACES_ENDPOINT   where, as it stands; or
OTEL_EXPORTER_OTLP_ENDPOINT          where, `/v1/traces` added
OTEL_EXPORTER_OTLP_[TRACES_]HEADERS  name=value,… with %-escapes: credentials of the collector
OTEL_EXPORTER_OTLP_[TRACES_]PROTOCOL http/protobuf: no other is spoken
OTEL_EXPORTER_OTLP_[TRACES_]TIMEOUT  ms, 10000       OTEL_EXPORTER_OTLP_[TRACES_]COMPRESSION  none, gzip
OTEL_EXPORTER_OTLP_[TRACES_]CERTIFICATE  file of the authorities that are believed
OTEL_SERVICE_NAME  pilothouse        OTEL_RESOURCE_ATTRIBUTES  name=value,…
OTEL_TRACES_SAMPLER  parentbased_always_on, OTEL_TRACES_SAMPLER_ARG  a share from 0 to 1
OTEL_BSP_SCHEDULE_DELAY  ms, 5000: how long spans wait for others
OTEL_SDK_DISABLED, OTEL_TRACES_EXPORTER=none   nothing is traced after all
"""

from __future__ import annotations

import urllib.parse
from collections.abc import Mapping
from dataclasses import dataclass, field

from pilothouse.core.traceparent import Place

SAMPLERS = (
    "always_on", "always_off", "traceidratio",
    "parentbased_always_on", "parentbased_always_off", "parentbased_traceidratio",
)  # fmt: skip
_OTLP = "OTEL_EXPORTER_OTLP_"
_DELAY = "OTEL_BSP_SCHEDULE_DELAY"


class BadTelemetry(ValueError):
    """A variable is wrong; the message names it."""


@dataclass(frozen=True, slots=True)
class Telemetry:
    endpoint: str
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    timeout_s: float = 10.0
    delay_s: float = 5.0
    """How long spans wait for others, to be sent together."""
    gzip: bool = False
    certificate: str | None = None
    resource: Mapping[str, str] = field(default_factory=dict)
    sampler: str = "parentbased_always_on"
    share: float = 1.0

    def samples(self, trace: str, parent: Place | None) -> bool:
        """Whether a trace is kept. By share: the same everywhere for the same trace, as the SDKs have it."""
        if parent is not None and self.sampler.startswith("parentbased_"):
            return parent.sampled
        if self.sampler.endswith("always_on"):
            return True
        if self.sampler.endswith("always_off"):
            return False
        return int(trace[16:], 16) < round(self.share * 2**64)


def read(env: Mapping[str, str]) -> Telemetry | None:
    """Raises BadTelemetry."""
    endpoint = env.get(f"{_OTLP}TRACES_ENDPOINT") or ""
    if not endpoint and env.get(f"{_OTLP}ENDPOINT"):
        endpoint = env[f"{_OTLP}ENDPOINT"].rstrip("/") + "/v1/traces"
    off = env.get("OTEL_SDK_DISABLED", "").lower() == "true" or env.get("OTEL_TRACES_EXPORTER") == "none"
    if not endpoint or off:
        return None
    if env.get("OTEL_TRACES_EXPORTER", "otlp") not in {"", "otlp"}:
        raise BadTelemetry("OTEL_TRACES_EXPORTER: expected otlp or none")
    if _given(env, "PROTOCOL")[1] not in {"", "http/protobuf"}:
        raise BadTelemetry(f"{_given(env, 'PROTOCOL')[0]}: expected http/protobuf")
    return Telemetry(
        endpoint=_endpoint(endpoint),
        headers=_pairs(*_given(env, "HEADERS")),
        timeout_s=_number(*_given(env, "TIMEOUT"), 10_000, 600_000) / 1000,
        delay_s=_number(_DELAY, env.get(_DELAY, ""), 5_000, 600_000) / 1000,
        gzip=_choice(*_given(env, "COMPRESSION"), ("none", "gzip")) == "gzip",
        certificate=_given(env, "CERTIFICATE")[1] or None,
        resource={
            "service.name": "pilothouse",
            **_pairs("OTEL_RESOURCE_ATTRIBUTES", env.get("OTEL_RESOURCE_ATTRIBUTES", "")),
            **({"service.name": env["OTEL_SERVICE_NAME"]} if env.get("OTEL_SERVICE_NAME") else {}),
        },
        sampler=_choice("OTEL_TRACES_SAMPLER", env.get("OTEL_TRACES_SAMPLER", "") or SAMPLERS[3], SAMPLERS),
        share=_number("OTEL_TRACES_SAMPLER_ARG", env.get("OTEL_TRACES_SAMPLER_ARG", ""), 1.0, 1.0),
    )


def _given(env: Mapping[str, str], name: str) -> tuple[str, str]:
    """A variable for traces alone, else the one for all."""
    own = f"{_OTLP}TRACES_{name}"
    return (own, env[own]) if env.get(own) else (f"{_OTLP}{name}", env.get(f"{_OTLP}{name}", ""))


def _endpoint(text: str) -> str:
    wrong = BadTelemetry(f"{_OTLP}ENDPOINT: expected http:// or https:// and a host, without credentials")
    try:
        parts = urllib.parse.urlsplit(text)
        known = parts.scheme in {"http", "https"} and parts.hostname and parts.username is None and parts.port != 0
    except ValueError:
        raise wrong from None
    if not known or not text.isprintable() or " " in text:
        raise wrong
    return text


def _pairs(name: str, text: str) -> dict[str, str]:
    """The message has no value in it: it may be a credential."""
    out: dict[str, str] = {}
    for part in filter(None, (part.strip() for part in text.split(","))):
        key, equals, value = part.partition("=")
        key, value = key.strip(), urllib.parse.unquote(value.strip())
        if not equals or not key or not key.isascii() or not (key + value).isprintable():
            raise BadTelemetry(f"{name}: expected name=value,name=value")
        out[key] = value
    return out


def _number(name: str, text: str, usual: float, most: float) -> float:
    try:
        found = float(text) if text else usual
    except ValueError:
        found = -1
    if not 0 <= found <= most:
        raise BadTelemetry(f"{name}: expected a number from 0 to {most:g}")
    return found


def _choice(name: str, text: str, choices: tuple[str, ...]) -> str:
    if text and text not in choices:
        raise BadTelemetry(f"{name}: {text[:50]!r} is none of {', '.join(choices)}")
    return text
