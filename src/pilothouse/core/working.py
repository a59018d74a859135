"""Settings of the work: agents, their jobs, and the model."""

from __future__ import annotations

import re
from dataclasses import dataclass

from pilothouse.core import second
from pilothouse.core.errors import BadRequest
from pilothouse.core.policy import Pattern
from pilothouse.core.setting import YEAR_S, setting


@dataclass(frozen=True)
class AgentSettings:
    agent: str = setting(
        "claude",
        "Agent of a session that names none.",
        key="agent.default",
        env="PILOTHOUSE_AGENT",
        choices=("claude", "echo"),
    )
    permission_mode: str = setting(
        "acceptEdits",
        "Permission mode of a session that names none.",
        key="agent.permission_mode",
        env="PILOTHOUSE_PERMISSION_MODE",
        choices=("acceptEdits", "manual", "acceptAll", "plan", "dontAsk"),
    )
    approval_timeout_s: int = setting(
        300,
        "Seconds a person has to answer; then the call is denied.",
        key="agent.approval_timeout_s",
        env="PILOTHOUSE_APPROVAL_TIMEOUT_S",
        low=1,
        high=YEAR_S,
    )
    second_approver: tuple[str, ...] = setting(
        (),
        "Tool calls that somebody other than whoever asked has to approve: `Tool`, or `Tool(pattern)`.",
        key="agent.second_approver",
        env="PILOTHOUSE_SECOND_APPROVER",
    )
    job_timeout_s: int = setting(
        3600,
        "Seconds a job may take when it names no limit.",
        key="agent.job_timeout_s",
        env="PILOTHOUSE_JOB_TIMEOUT_S",
        low=1,
        high=YEAR_S,
    )
    provider: str = setting(
        "auto",
        "Where the model is; `auto` takes what credentials are found, else the demo model.",
        key="model.provider",
        env="PILOTHOUSE_MODEL_PROVIDER",
        choices=("auto", "anthropic", "bedrock", "demo"),
    )
    model: str = setting("", "The default model's id.", key="model.name", env="ANTHROPIC_MODEL")
    base_url: str = setting("", "An Anthropic-compatible endpoint.", key="model.base_url", env="ANTHROPIC_BASE_URL")
    api_key: str = setting("", "Anthropic API key.", key="model.api_key", env="ANTHROPIC_API_KEY", secret=True)
    auth_token: str = setting(
        "", "Bearer token for the endpoint.", key="model.auth_token", env="ANTHROPIC_AUTH_TOKEN", secret=True
    )
    aws_region: str = setting("", "Region of Amazon Bedrock.", key="model.aws_region", env="AWS_REGION")
    aws_profile: str = setting("", "Profile of the AWS credential chain.", key="model.aws_profile", env="AWS_PROFILE")
    session_max_cost_usd: float | None = setting(
        None,
        "What one session may spend in all, in USD.",
        key="model.session_max_cost_usd",
        env="PILOTHOUSE_SESSION_MAX_COST_USD",
        low=0,
    )
    job_max_cost_usd: float | None = setting(
        None, "What one job may spend, in USD.", key="model.job_max_cost_usd", env="PILOTHOUSE_JOB_MAX_COST_USD", low=0
    )

    @property
    def second_approvals(self) -> tuple[Pattern, ...]:
        return second.patterns(self.second_approver)


def wrong(settings: AgentSettings) -> str:
    """Empty when nothing is."""
    try:
        second.patterns(settings.second_approver)
    except BadRequest as error:
        return f"agent.second_approver: {error.message}"
    if settings.base_url and not re.match(r"https?://[^/\s@]+(/[^\s@]*)?\Z", settings.base_url):
        return "model.base_url: expected http:// or https:// and a host, without credentials"
    return ""
