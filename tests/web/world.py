"""Two organisations with the same names in them, and a session that has one of everything."""

from __future__ import annotations

import asyncio
import hashlib
import tempfile
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from uuid import uuid4

import httpx

from pilothouse.core import events as ev
from pilothouse.core import link
from pilothouse.core.access import SCOPES, Principal
from pilothouse.core.artifact import key as key_of
from pilothouse.core.artifact import prefix
from pilothouse.core.ids import ArtifactId
from pilothouse.core.shell import ShellId
from pilothouse.core.webhook import EVENTS as WEBHOOK_EVENTS
from pilothouse.engine import records
from pilothouse.engine.audit import SERVER, Who
from pilothouse.engine.deliveries import DeliveryRecord, kept
from pilothouse.engine.notifier import Wish
from pilothouse.engine.ports import About, Content, FileEntry, Put
from pilothouse.engine.records import ArtifactRecord
from pilothouse.engine.secrets import of_account as place_of
from pilothouse.engine.secrets import of_session
from pilothouse.engine.sessions import Session
from pilothouse.web.guard import LINK_COOKIE
from tests.web.serving import Served

ROLES = {"viewer": "viewer", "operator": "operator", "approver": "approver", "admin": "admin", "owner": "operator"}
"""Accounts of both organisations, and their roles. `owner` made the session."""


class OneFile:
    """A workspace with one file in it."""

    entry = FileEntry("x", "file", 1, 0.0)

    async def list(self, path: str) -> list[FileEntry]:
        return [self.entry]

    async def read(self, path: str) -> tuple[FileEntry, Content]:
        return self.entry, OneByte()

    async def walk(self, path: str) -> AsyncIterator[tuple[str, FileEntry]]:
        yield "x", self.entry


class OneByte:
    async def __aiter__(self) -> AsyncIterator[bytes]:
        yield b"x"

    def close(self) -> None: ...


@dataclass
class World:
    served: Served
    session: Session = field(init=False)
    ids: dict[str, str] = field(default_factory=dict)
    keys: dict[tuple[str, str], str] = field(default_factory=dict)

    async def settle(self) -> None:
        """Organisations, members, and a key of each with every scope."""
        members = self.served.identity.members
        self.served.sandboxes.files = lambda session: OneFile()  # type: ignore[method-assign,assignment,return-value]
        for organisation in ("red", "blue"):
            await members.make(organisation, None)
            for account, role in ROLES.items():
                await members.put(organisation, account, role=role)
                _, text = await self.served.identity.keys.create(
                    account, SCOPES, account=account, organisation=organisation
                )
                self.keys[organisation, account] = text

    async def furnish(self, organisation: str = "red") -> None:
        """A new session of `owner`, at work, with something open."""
        served, sessions = self.served, self.served.platform.sessions
        self.session = session = await sessions.create(
            owner="owner",
            organisation=organisation,
            agent="echo",
            permission_mode="manual",
            source=ev.Source(git=f"https://git.example/{uuid4()}.git"),
        )
        sid = session.live.record.id
        job = await session.jobs.submit(sessions.job(session, "x", "owner", account="owner"), client_message_id=None)
        while sid not in served.sandboxes.runners:
            await asyncio.sleep(0.005)
        runner = served.sandboxes.runners[sid]
        await runner.command(link.Prompt)
        asks = [
            link.PermissionAsk(request_id=f"r{n}", tool_id=f"t{n}", tool="Bash", input={"command": f"npm test {n}"})
            for n in range(2)
        ]
        runner.say(link.TurnStarted(turn_id=job.id), *asks)
        runner.say(link.QuestionAsk(request_id="q", questions=[ev.Question(question="Which?")]))
        while not session.questions.pending:
            await asyncio.sleep(0.005)
        first, second = session.approvals.pending
        await session.approvals.decide(first, approved=True, by="x", option_id="allow_project")
        await served.platform.kit.store.commit(Put("text", f"{sid}:{'0' * 64}", b"x", sid))
        assert served.platform.opener is not None
        await served.platform.opener.open(session, ShellId("spare"), SERVER, argv=("/bin/cat",))
        secrets = served.platform.secrets
        for whose, account in self.keys:
            own = place_of(Principal("person", account, "", account, frozenset(), "", organisation=whose))
            await secrets.set(own, "SPARE", "a spare value", who=SERVER)
        await secrets.set(of_session(session.live.record), "SPARE", "a spare value", who=SERVER)
        key, _ = await served.identity.keys.create("spare", ("read",), account="owner", organisation=organisation)
        cookie = await served.identity.redeem((await served.identity.ticket("owner", organisation))[0])
        maker = Principal("person", "owner", "owner", "owner", frozenset(SCOPES), "x", organisation=organisation)
        spare, _ = await served.identity.links.make(maker, sid, "watch")
        assert served.platform.artifacts is not None
        about = About(1, hashlib.sha256(b"x").hexdigest(), "text/plain")
        made = ArtifactRecord(
            id=ArtifactId(records.new_id()), session=sid, job=job.id, path="x", size=1, sha256=about.sha256,
            prefix=prefix(job.created_at, job.id), created=job.created_at,
        )  # fmt: skip
        with tempfile.NamedTemporaryFile() as file:
            file.write(b"x")
            file.flush()
            await served.platform.artifacts._local.put(key_of(made.prefix, made.path), Path(file.name), about)
        await served.platform.kit.store.commit(records.put(made))
        webhooks, people = served.platform.outgoing.webhooks, served.platform.outgoing.notifiers
        for record in webhooks.all(organisation):
            await webhooks.remove(organisation, record.id)
        webhook, _ = await webhooks.create(organisation, name="x", url="https://hooks.invalid/", events=WEBHOOK_EVENTS)
        sent = DeliveryRecord(
            id="msg_spare", target=webhook.id, kind="webhook", type="ping", body="{}", created_at=0.0, state="delivered"
        )
        await served.platform.kit.store.commit(*kept(sent))
        admin = Principal("person", "admin", "admin", "admin", frozenset(SCOPES), "x", organisation=organisation)
        for one in people.of(admin):
            await people.end(one)
        notifier = await people.slack(Who(admin), "https://hooks.invalid/", Wish())
        self.ids = {
            "artifacts": made.id,
            "webhooks": webhook.id,
            "delivery": sent.id,
            "notifications": notifier.id,
            "sessions": sid,
            "jobs": job.id,
            "approvals": second,
            "questions": next(iter(session.questions.pending)),
            "rules": served.platform.rules.all(Principal(
                "person", "owner", "owner", "owner", frozenset(SCOPES), "x", organisation=organisation
            ))[0].id,
            "keys": key.id,
            "signins": (await served.identity.by_cookie(cookie)).credential.removeprefix("signin:"),
            "link": spare.id,
        }  # fmt: skip

    async def link(self, right: str) -> dict[str, str]:
        """What somebody sends who follows a share link of the session."""
        record = self.session.live.record
        maker = Principal("person", "x", "x", "owner", frozenset(SCOPES), "x", organisation=record.organisation)
        _, text = await self.served.identity.links.make(maker, record.id, right)
        return {
            "cookie": f"{LINK_COOKIE}={text}",
            "origin": self.served.url,
            "x-csrf-token": self.served.identity.csrf(text),
        }

    def by_key(self, organisation: str, account: str) -> dict[str, str]:
        return {"x-api-key": self.keys[organisation, account]}

    def address(self, path: str) -> str:
        if path in {"/event/history", "/event/presence"}:
            return f"{path}?channel=default/room"
        if path == "/api/sessions/{id}/files/content":
            path += "?path=x"
        kind = path.split("/")[2] if path.count("/") > 1 else ""
        return (
            path.replace("{id}", self.ids.get(kind, ""))
            .replace("{digest}", "0" * 64)
            .replace("{account:path}", "viewer")
            .replace("{link}", self.ids["link"])
            .replace("{delivery}", self.ids.get("delivery", ""))
            .replace("{shellId}", "spare")
            .replace("{name}", "SPARE")
            .replace("{provider}", "example")
        )

    async def ask(self, method: str, path: str, headers: dict[str, str], body: object = None) -> tuple[int, str]:
        """Status and, of a refusal, its code. A stream is not read."""
        async with (
            httpx.AsyncClient(base_url=self.served.url, timeout=20, headers=headers) as http,
            http.stream(method, self.address(path), json=body) as answer,
        ):
            if answer.headers.get("content-type") != "application/problem+json":
                return answer.status_code, ""
            await answer.aread()
            return answer.status_code, str(answer.json()["code"])
