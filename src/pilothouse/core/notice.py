"""What somebody is told who is not looking: one line of what happened, one of which session, and where to look.

Web push, after decryption (the page's service worker reads it):

    {"title": "Approval wanted: Bash", "body": "Fix the login", "path": "#/s/SESSION", "tag": "SESSION"}

Slack and what understands the same:

    {"text": "*Approval wanted: Bash* in Fix the login\\n<https://…/#/s/SESSION|Open the session>", …}

Titles come from prompts, and names of tools from agents: hostile words. They are one line, short, without what hides or
turns text, and in Slack's text nothing of them is a mark, a mention or a link. No input, answer or secret is in either.
"""

from __future__ import annotations

import unicodedata
from typing import Literal

import msgspec
from msgspec import Struct

What = Literal["approval", "question", "job", "test"]
EVENTS: tuple[What, ...] = ("approval", "question", "job")
"""What a person may ask to be told of: the first two need somebody."""
NEEDS: tuple[What, ...] = ("approval", "question")
TITLE_MAX = 80
TOOL_MAX = 40
_OUTCOMES = {
    "succeeded": "Job done",
    "failed": "Job failed",
    "interrupted": "Job interrupted",
    "budget_exceeded": "Job stopped at its budget",
}
_MARKS = str.maketrans({mark: "\u200b" + mark + "\u200b" for mark in "*_~`[]()@#|\\!"})
"""Nothing between a mark and its word is no mark: Slack knows no way to escape one."""


class Notice(Struct, frozen=True, kw_only=True, omit_defaults=True, rename="camel"):
    """What is kept of it until it is sent."""

    what: What
    session: str = ""
    title: str = ""
    """The session's."""
    about: str = ""
    """The tool of an approval, the outcome of a job."""
    id: str = ""
    """Of the approval or question."""


def line(text: str, most: int) -> str:
    """One line without characters that cannot be seen, cut."""
    seen = "".join(" " if unicodedata.category(c) in {"Cc", "Zl", "Zp"} else c for c in text[: most * 8])
    seen = "".join(c for c in seen if unicodedata.category(c) not in {"Cf", "Cs", "Co", "Cn"})
    short = " ".join(seen.split())
    return short if len(short) <= most else short[: most - 1].rstrip() + "…"


def headline(notice: Notice) -> str:
    match notice.what:
        case "approval":
            return f"Approval wanted: {line(notice.about, TOOL_MAX) or 'a tool'}"
        case "question":
            return "The agent asks you something"
        case "job":
            return _OUTCOMES.get(notice.about, "Job finished")
        case "test":
            return "A test: notifications reach you here"


def pushed(notice: Notice) -> bytes:
    path = f"#/s/{notice.session}" if notice.session else "#/settings"
    title = line(notice.title, TITLE_MAX) or ("Untitled session" if notice.session else "Pilothouse")
    document = {"title": headline(notice), "body": title, "path": path, "tag": notice.session or "test"}
    return msgspec.json.encode(document)


def slack(notice: Notice, page: str) -> bytes:
    said = f"*{escaped(headline(notice))}*"
    if notice.session:
        said += f" in {escaped(line(notice.title, TITLE_MAX) or 'Untitled session')}"
        said += f"\n<{page}/#/s/{notice.session}|Open the session>"
    return msgspec.json.encode({"text": said, "unfurl_links": False, "unfurl_media": False})


def escaped(text: str) -> str:
    """As text of Slack's that is nothing but text."""
    text = text.translate(_MARKS).replace("://", ":\u200b//").replace("www.", "www\u200b.")
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
