"""Settings of what is kept: the store, and artifacts, what is collected and where it is stored."""

from __future__ import annotations

import re
from dataclasses import dataclass

from pilothouse.core.setting import YEAR_S, Size, setting

MIB = 1024**2
LEFT_OUT = (".git/", "node_modules/", "__pycache__/", ".venv/", "venv/", ".tox/", ".mypy_cache/", ".pytest_cache/")
_PLAIN = re.compile(r"[^*?\[\]\\/!#\s]+/\Z")


@dataclass(frozen=True)
class StoreSettings:
    durability: str = setting(
        "normal",
        "`normal` outlives a killed process, `full` a power loss too.",
        key="store.durability",
        env="PILOTHOUSE_DURABILITY",
        choices=("normal", "full", "memory"),
    )
    retention_events: int = setting(
        200_000,
        "Events kept per session; older ones go, and viewers are told.",
        key="store.retention_events",
        env="PILOTHOUSE_RETENTION_EVENTS",
        low=100,
    )
    fold_after_s: int = setting(
        86_400,
        "Seconds after a job's end when its text deltas are joined.",
        key="store.fold_after_s",
        env="PILOTHOUSE_FOLD_AFTER_S",
        low=0,
        high=YEAR_S,
    )
    audit_days: int = setting(
        365,
        "Days after which a record of the audit may go; 0: never.",
        key="store.audit_days",
        env="PILOTHOUSE_AUDIT_DAYS",
        low=0,
        high=36_600,
    )


@dataclass(frozen=True)
class ArtifactSettings:
    artifacts: bool = setting(
        True, "Collect what each job made or changed.", key="artifacts.collect", env="PILOTHOUSE_ARTIFACTS"
    )
    artifacts_file_max: Size = setting(
        100 * MIB,
        "A file larger than this is not kept.",
        key="artifacts.file_max",
        env="PILOTHOUSE_ARTIFACTS_FILE_MAX",
        low=1,
        high=64 * 1024**3,
    )
    artifacts_job_max: Size = setting(
        1024 * MIB,
        "The files of one job together; what comes after is not kept.",
        key="artifacts.job_max",
        env="PILOTHOUSE_ARTIFACTS_JOB_MAX",
        low=1,
    )
    artifacts_files_max: int = setting(
        1000,
        "Files of one job that are kept.",
        key="artifacts.files_max",
        env="PILOTHOUSE_ARTIFACTS_FILES_MAX",
        low=1,
        high=10_000,
    )
    artifacts_gitignore: bool = setting(
        True,
        "Leave out what the workspace's `.gitignore` files name.",
        key="artifacts.gitignore",
        env="PILOTHOUSE_ARTIFACTS_GITIGNORE",
    )
    artifacts_ignore: tuple[str, ...] = setting(
        LEFT_OUT,
        "What is left out besides, as lines of a `.gitignore` that wins over all others; `!dist/` takes back.",
        key="artifacts.ignore",
        env="PILOTHOUSE_ARTIFACTS_IGNORE",
    )
    s3_bucket: str = setting(
        "",
        "Bucket that artifacts are stored in; empty: they stay in the home directory.",
        key="artifacts.s3_bucket",
        env="PILOTHOUSE_S3_BUCKET",
    )
    s3_prefix: str = setting(
        "",
        "What object names begin with, such as `pilothouse/`.",
        key="artifacts.s3_prefix",
        env="PILOTHOUSE_S3_PREFIX",
    )
    s3_region: str = setting(
        "", "Region of the bucket; empty: the AWS chain's.", key="artifacts.s3_region", env="PILOTHOUSE_S3_REGION"
    )
    s3_endpoint: str = setting(
        "",
        "Address of another service that speaks S3's protocol.",
        key="artifacts.s3_endpoint",
        env="PILOTHOUSE_S3_ENDPOINT",
    )
    s3_access_key: str = setting(
        "",
        "Access key id; empty: the AWS chain's credentials.",
        key="artifacts.s3_access_key",
        env="PILOTHOUSE_S3_ACCESS_KEY",
    )
    s3_secret_key: str = setting(
        "", "Its secret.", key="artifacts.s3_secret_key", env="PILOTHOUSE_S3_SECRET_KEY", secret=True
    )
    s3_encryption: str = setting(
        "AES256",
        "Server-side encryption that is asked for; `none` where the service knows none.",
        key="artifacts.s3_encryption",
        env="PILOTHOUSE_S3_ENCRYPTION",
        choices=("AES256", "aws:kms", "none"),
    )
    s3_kms_key: str = setting(
        "", "Key id for `aws:kms`; empty: the account's own.", key="artifacts.s3_kms_key", env="PILOTHOUSE_S3_KMS_KEY"
    )


def passed_by(rules: tuple[str, ...]) -> tuple[str, ...]:
    """Names of directories that need not even be looked into: nothing takes them back."""
    if any(rule.startswith("!") for rule in rules):
        return (".git",) if ".git/" in rules and "!.git/" not in rules else ()
    return tuple(rule.removesuffix("/") for rule in rules if _PLAIN.match(rule))


def wrong(settings: ArtifactSettings) -> str:
    """What is wrong with them together; empty when nothing is."""
    if bool(settings.s3_access_key) != bool(settings.s3_secret_key):
        return "artifacts.s3_access_key and artifacts.s3_secret_key go together"
    if settings.s3_bucket and not re.fullmatch(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]", settings.s3_bucket):
        return f"artifacts.s3_bucket: {settings.s3_bucket!r} is no bucket's name"
    if settings.s3_prefix and not re.fullmatch(r"([A-Za-z0-9_.-]+/)+", settings.s3_prefix):
        return f"artifacts.s3_prefix: {settings.s3_prefix!r}: expected names that each end with a slash"
    if len(settings.s3_prefix) > 100:
        return "artifacts.s3_prefix: at most 100 characters"
    if settings.s3_endpoint and not re.fullmatch(r"https?://[^/\s@]+(/[^\s@?#]*)?", settings.s3_endpoint):
        return "artifacts.s3_endpoint: expected http:// or https:// and a host, without credentials"
    return ""
