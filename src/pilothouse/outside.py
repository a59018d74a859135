"""What the server has of the outside, by its configuration: sandboxes, model, store, artifacts, traces."""

from __future__ import annotations

import contextlib

from pilothouse import __version__
from pilothouse.adapters.blobs.folder import Folder
from pilothouse.adapters.proxies.local import LocalProxy
from pilothouse.adapters.sandboxes.bubblewrap import Bubblewrap
from pilothouse.adapters.sandboxes.client import Start
from pilothouse.adapters.sandboxes.host import Host
from pilothouse.adapters.stores.memory import MemoryStore
from pilothouse.adapters.stores.sqlite import SqliteStore
from pilothouse.config import Config, ConfigError
from pilothouse.core.ids import SessionId
from pilothouse.core.storing import passed_by
from pilothouse.engine.artifacts import Artifacts
from pilothouse.engine.baselines import Baselines
from pilothouse.engine.kit import Kit
from pilothouse.engine.ports import Blobs, Budget, EventStore, ModelState, Sealer
from pilothouse.engine.signedlinks import SignedLinks
from pilothouse.engine.traces import Traces
from pilothouse.engine.upstream import EgressSettings, ModelSettings


async def open_sandboxes(settings: Config, models: LocalProxy, start: Start) -> Bubblewrap | Host:
    async def admit(session: SessionId) -> None:
        await models.admit(session, None, Budget())

    kind = Host if settings.sandbox == "host" else Bubblewrap
    made = await kind.connect_keeper(
        settings.home,
        settings.runtime,
        git_schemes=settings.git_schemes,
        admit=admit,
        start=start,
        caps=settings.caps,
        image=settings.limits_image,
    )
    if isinstance(made, Bubblewrap):
        made.allow_reduced = settings.allow_reduced
    return made


async def connect_model(settings: Config, models: LocalProxy) -> ModelState:
    """Tells the proxy where the model is. It keeps the credential in memory only."""
    model = ModelSettings(
        provider=settings.provider,
        model=settings.model,
        base_url=settings.base_url,
        api_key=settings.api_key,
        auth_token=settings.auth_token,
        aws_region=settings.aws_region,
        aws_profile=settings.aws_profile,
        aws_environment=dict(settings.aws_environment),
    )
    return await models.configure(model, EgressSettings(settings.egress_allow_private))


async def open_store(settings: Config) -> EventStore:
    if settings.durability == "memory":
        return MemoryStore()
    return await SqliteStore.open(settings.database, full=settings.durability == "full")


async def open_artifacts(settings: Config, kit: Kit, sealer: Sealer) -> Artifacts:
    """Raises Unavailable when their folder cannot be used."""
    local = await Folder.open(settings.artifacts_folder)
    marks = Baselines(kit, settings.artifacts_folder / "marks", passed_by(settings.artifacts_ignore))
    return Artifacts(kit, local, marks, SignedLinks(kit.store, kit.clock, sealer), _bucket(settings), settings)


def _bucket(settings: Config) -> Blobs | None:
    if not settings.s3_bucket:
        return None
    from pilothouse.adapters.blobs.s3 import S3, Bucket  # what it needs takes a second to import

    bucket = Bucket(
        settings.s3_bucket,
        settings.s3_prefix,
        settings.s3_region,
        settings.s3_endpoint,
        settings.s3_access_key,
        settings.s3_secret_key,
        settings.aws_profile,
        "" if settings.s3_encryption == "none" else settings.s3_encryption,
        settings.s3_kms_key,
    )
    return S3(bucket)


async def open_traces(settings: Config, kit: Kit, stack: contextlib.AsyncExitStack) -> Traces | None:
    """None: no collector is named. Raises ConfigError when one is, and the extra is not installed."""
    if settings.telemetry is None:
        return None
    try:
        from pilothouse.adapters.traces.otlp import Otlp
    except ImportError:
        raise ConfigError(
            "OTEL_EXPORTER_OTLP_ENDPOINT: traces need the extra `otel`; in the checkout run "
            "`.venv/bin/pip install -e '.[otel]'`"
        ) from None
    spans = Otlp(settings.telemetry, __version__)
    stack.push_async_callback(spans.close)
    traces = Traces(kit, spans)
    stack.push_async_callback(traces.close)
    kit.log.on_rows.append(traces.rows)
    return traces
