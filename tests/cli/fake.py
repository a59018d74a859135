"""A small server that speaks just enough of the wire to drive the command line."""

from __future__ import annotations

import asyncio
import hashlib
import io
import json
import uuid
import zipfile
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

from aiohttp import web

from pilothouse.core import chat

PAIR = "PHKAABCDEFGHIJKLMNOP"
KEY = "ph_test_key_which_must_not_be_printed"
SESSION = "11111111-1111-4111-8111-111111111111"
JOB = "22222222-2222-4222-8222-222222222222"
APPROVAL = "33333333-3333-4333-8333-333333333333"
QUESTION = "44444444-4444-4444-8444-444444444444"


def problem(status: int, code: str, detail: str, **more: Any) -> web.Response:
    body = {"type": "about:blank", "title": code, "status": status, "code": code, "detail": detail, **more}
    return web.json_response(body, status=status, content_type="application/problem+json")


class FakeServer:
    """`script` is played into the log when a prompt arrives; `cuts` are numbers after which the socket is cut once."""

    def __init__(self) -> None:
        self.log: list[bytes] = []
        self.script: list[dict[str, Any]] = []
        self.epoch = "e1"
        self.oldest = 1
        self.cuts: list[int] = []
        self.close_code: int | None = None
        self.grown = asyncio.Event()
        self.calls: list[tuple[str, str, Any]] = []
        self.approvals: dict[str, dict[str, Any]] = {}
        self.subscriptions: list[dict[str, Any]] = []
        self.on_decide: Callable[[dict[str, Any]], None] = lambda body: None
        self.on_interrupt: Callable[[], None] = lambda: None
        self.zip = b""
        self.network: dict[str, Any] = {"policy": "allow", "domains": ["pypi.org"], "contacts": []}
        self.streams: list[list[dict[str, Any]]] = []
        """What each stream of the network says in turn before it ends; without any, it stays open."""
        self.refuse: web.Response | None = None
        self.url = ""
        self.more: list[str] = []
        """Ids of other sessions."""
        self.together: asyncio.Barrier | None = None
        """Stops wait for each other there."""
        self.under_way = self.most_under_way = 0

    def event(self, type: str, **fields: Any) -> dict[str, Any]:
        return {"type": type, "sessionId": SESSION, "jobId": JOB, "at": "2026-11-21T09:00:00.000Z", **fields}

    def append(self, event: dict[str, Any]) -> None:
        body = json.dumps(event, ensure_ascii=False).encode()
        self.log.append(body[:-1] + b',"seq":%d}' % (len(self.log) + 1))
        self.grown.set()
        self.grown = asyncio.Event()

    def complete(self, outcome: str = "succeeded", **fields: Any) -> dict[str, Any]:
        given = {"result": "done", "totalCost": 0.01, "durationMs": 1200, "numTurns": 2, **fields}
        return self.event("complete", outcome=outcome, **given)

    def ask(self, **fields: Any) -> dict[str, Any]:
        """An approval that is waiting, and its event."""
        approval = {
            "approvalId": APPROVAL,
            "toolId": "t1",
            "tool": "Bash",
            "input": {"command": "rm -rf build"},
            "inputHash": hashlib.sha256(b"x").hexdigest(),
            "options": [
                {"id": "once", "label": "Allow once", "outcome": "approved", "scope": "once"},
                {"id": "session", "label": "Allow in this session", "outcome": "approved", "scope": "session"},
                {"id": "no", "label": "Deny", "outcome": "denied"},
            ],
            "reason": "runs a command",
            **fields,
        }
        more = {"sessionId": SESSION, "jobId": JOB, "state": "pending", "createdAt": "2026-11-21T09:00:00.000Z"}
        self.approvals[APPROVAL] = {**approval, **more}
        return self.event("approval_required", **approval)

    def pack(self, files: dict[str, bytes]) -> None:
        out = io.BytesIO()
        with zipfile.ZipFile(out, "w") as archive:
            for name, data in files.items():
                archive.writestr(name, data)
        self.zip = out.getvalue()

    def session(self) -> dict[str, Any]:
        return {
            "id": SESSION,
            "title": "A title",
            "agent": "echo",
            "isolation": "namespaces",
            "createdAt": "2026-11-21T09:00:00.000Z",
            "lastActiveAt": "2026-11-21T09:00:00.000Z",
            "state": "active",
            "running": True,
            "pendingApprovals": len(self.approvals),
            "pendingQuestions": 0,
            "totalCost": 0.5,
            "head": len(self.log),
            "permissionMode": "acceptEdits",
            "rights": ["read", "run", "approve", "admin"],
        }

    def job(self, first: int = 1) -> dict[str, Any]:
        return {
            "id": JOB,
            "sessionId": SESSION,
            "state": "running",
            "prompt": "hello",
            "by": "me",
            "createdAt": "2026-11-21T09:00:00.000Z",
            "totalCost": 0.0,
            "firstSeq": first,
            "permissionMode": "acceptEdits",
        }

    @asynccontextmanager
    async def running(self) -> AsyncIterator[FakeServer]:
        app = web.Application(middlewares=[self._guard])
        app.add_routes(
            [
                web.get("/readyz", self._ready),
                web.post("/api/sessions", self._make),
                web.get("/api/sessions", self._list),
                web.get("/api/sessions/{id}", self._session),
                web.get("/api/sessions/{id}/limits", self._limits),
                web.post("/api/sessions/{id}/jobs", self._submit),
                web.get("/api/sessions/{id}/jobs", self._jobs),
                web.post("/api/sessions/{id}/stop", self._stop),
                web.get("/api/sessions/{id}/network", self._network),
                web.get("/api/sessions/{id}/network/stream", self._network_stream),
                web.put("/api/sessions/{id}/egress", self._egress),
                web.get("/api/secrets", self._secrets),
                web.put("/api/secrets/{name}", self._set_secret),
                web.delete("/api/secrets/{name}", self._nothing),
                web.put("/api/sessions/{id}/secrets/{name}", self._set_secret),
                web.get("/api/sessions/{id}/files", self._files),
                web.get("/api/sessions/{id}/files/content", self._content),
                web.get("/api/sessions/{id}/files/zip", self._zip),
                web.get("/api/jobs/{id}/artifacts", self._artifacts),
                web.get("/api/jobs/{id}/artifacts/zip", self._zip),
                web.get("/api/artifacts/{id}/content", self._made),
                web.get("/api/jobs/{id}", self._job),
                web.post("/api/jobs/{id}/interrupt", self._interrupt),
                web.get("/api/approvals", self._approvals),
                web.get("/api/approvals/{id}", self._approval),
                web.post("/api/approvals/{id}", self._decide),
                web.post("/api/questions/{id}", self._answer),
                web.post("/api/tickets", self._ticket),
                web.get("/api/keys", self._keys),
                web.get("/api/members", self._members),
                web.put("/api/members/{account}", self._member),
                web.delete("/api/members/{account}", self._nothing),
                web.get("/api/organisations", self._organisations),
                web.post("/api/organisations", self._make_organisation),
                web.post("/api/keys", self._make_key),
                web.delete("/api/keys/{id}", self._nothing),
                web.get("/ws", self._socket),
            ]
        )
        runner = web.AppRunner(app, shutdown_timeout=0.1)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        host, port = runner.addresses[0][:2]
        self.url = f"http://{host}:{port}"
        try:
            yield self
        finally:
            await runner.cleanup()

    @web.middleware
    async def _guard(self, request: web.Request, handler: Any) -> web.StreamResponse:
        if request.path == "/readyz":
            return await self._routed(request, handler)
        if request.headers.get("x-api-key") != KEY:
            return problem(401, "unauthenticated", "Sign in, or give a valid key.")
        body = await request.json() if request.can_read_body else None
        self.calls.append((request.method, request.path_qs, body))
        if self.refuse is not None and not request.path.startswith("/ws"):
            return self.refuse
        if "id" in request.match_info and request.match_info["id"] not in {
            SESSION,
            JOB,
            APPROVAL,
            QUESTION,
            "k1",
            PAIR,
            *self.more,
        }:
            return problem(404, "not_found", "There is no such thing, or it is not yours to see.")
        return await self._routed(request, handler)

    async def _routed(self, request: web.Request, handler: Any) -> web.StreamResponse:
        answer: web.StreamResponse = await handler(request)
        return answer

    def asked(self, method: str, path: str) -> list[Any]:
        """Bodies of the calls that were made."""
        return [body for m, p, body in self.calls if m == method and p.split("?")[0] == path]

    async def _ready(self, request: web.Request) -> web.Response:
        return web.json_response({"status": "ready"})

    async def _make(self, request: web.Request) -> web.Response:
        self.append({**self.event("session", agent="echo", isolation="namespaces"), "jobId": None})
        return web.json_response(self.session(), status=201)

    async def _list(self, request: web.Request) -> web.Response:
        every = [self.session(), *(self.session() | {"id": id} for id in self.more)]
        return web.json_response({"items": every, "next": None})

    async def _stop(self, request: web.Request) -> web.Response:
        if self.together is not None:
            self.under_way += 1
            self.most_under_way = max(self.most_under_way, self.under_way)
            await self.together.wait()
            self.under_way -= 1
        if request.match_info["id"] in self.more[:1]:
            return problem(503, "unavailable", "the store cannot write")
        return web.Response(status=204)

    async def _session(self, request: web.Request) -> web.Response:
        if request.match_info["id"] != SESSION:
            return problem(404, "not_found", "no such session")
        return web.json_response(self.session())

    async def _limits(self, request: web.Request) -> web.Response:
        held = {"memory": "cgroup", "cpu": "none", "disk": "watchdog"}
        rows = [{"name": n, "unit": "bytes", "max": 1, "used": None, "enforced": e, "hits": 0} for n, e in held.items()]
        return web.json_response({"limits": rows})

    async def _submit(self, request: web.Request) -> web.Response:
        first = len(self.log) + 1
        self.append(self.event("chat", message=(await request.json())["prompt"], by="me"))
        for event in self.script:
            self.append(event)
        return web.json_response(self.job(first), status=202)

    async def _jobs(self, request: web.Request) -> web.Response:
        return web.json_response({"items": [self.job()], "next": None})

    async def _job(self, request: web.Request) -> web.Response:
        return web.json_response(self.job())

    async def _nothing(self, request: web.Request) -> web.Response:
        return web.Response(status=204)

    async def _interrupt(self, request: web.Request) -> web.Response:
        self.on_interrupt()
        return web.Response(status=202)

    async def _made(self, request: web.Request) -> web.Response:
        return web.Response(body=request.match_info["id"].encode())

    async def _content(self, request: web.Request) -> web.Response:
        if request.match_info["id"] == JOB:
            return problem(404, "not_found", "There is no such thing, or it is not yours to see.")
        if request.query["path"] != "src/a.py":
            return problem(404, "not_found", "no such file in the workspace")
        return web.Response(body=b"print()")

    def _secret(self, name: str, value: str = "x" * 8, **more: Any) -> dict[str, Any]:
        shown = {"name": name, "where": "account", "for": "shells", "file": False, "masked": len(value) >= 8}
        return {**shown, "setAt": "2026-11-21T09:00:00.000Z", "setBy": "me", **more}

    async def _secrets(self, request: web.Request) -> web.Response:
        items = [self._secret("A"), self._secret("B", "short", project={"git": "https://x/a.git"}, file=True)]
        return web.json_response({"items": items, "next": None})

    async def _set_secret(self, request: web.Request) -> web.Response:
        body = await request.json()
        return web.json_response(self._secret(request.match_info["name"], body["value"]))

    async def _network(self, request: web.Request) -> web.Response:
        return web.json_response(self.network)

    async def _egress(self, request: web.Request) -> web.Response:
        self.network = {"domains": [], **self.network, **await request.json()}
        return web.json_response(self.network)

    async def _network_stream(self, request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"content-type": "text/event-stream"})
        await response.prepare(request)
        await response.write(b": pilothouse\n\n")
        if not self.streams:
            await asyncio.sleep(60)
        for view in self.streams.pop(0):
            await response.write(b"data: " + json.dumps(view).encode() + b"\n\n")
        return response

    async def _files(self, request: web.Request) -> web.Response:
        if request.match_info["id"] == JOB:
            return problem(404, "not_found", "There is no such thing, or it is not yours to see.")
        if request.query.get("path", "") not in {"", "sub"}:
            return problem(400, "bad_request", "path: it is a file, or leads through one; expected a folder")
        entries = [
            {"name": "src", "kind": "directory", "size": 0, "mtime": "2026-11-21T09:00:00.000Z"},
            {"name": "a\x1b[31m.txt", "kind": "file", "size": 12345, "mtime": "2026-11-21T09:00:00.000Z"},
        ]
        return web.json_response({"path": request.query.get("path", ""), "entries": entries})

    async def _artifacts(self, request: web.Request) -> web.Response:
        if request.match_info["id"] != JOB:
            return problem(404, "not_found", "There is no such thing, or it is not yours to see.")
        one = {
            "id": QUESTION, "sessionId": SESSION, "jobId": JOB, "path": "src/\u202ea.py", "size": 7,
            "mediaType": "text/x-python", "prefix": "outputs/x/", "createdAt": "2026-11-21T09:02:52.339Z",
            "state": "stored", "url": f"/api/artifacts/{QUESTION}/content", "s3Url": None, "consoleUrl": None,
        }  # fmt: skip
        left = {"id": APPROVAL, "path": "large", "size": 5 * 10**9, "state": "skipped", "reason": "too_large"}
        items = [one, one | left | {"url": None}]
        return web.json_response({"items": items, "next": None})

    async def _zip(self, request: web.Request) -> web.Response:
        return web.Response(body=self.zip, content_type="application/zip")

    async def _approvals(self, request: web.Request) -> web.Response:
        assert request.query["state"] == "pending"
        items = [approval for approval in self.approvals.values() if approval["state"] == "pending"]
        return web.json_response({"items": items, "next": None})

    async def _approval(self, request: web.Request) -> web.Response:
        return web.json_response(self.approvals[request.match_info["id"]])

    async def _decide(self, request: web.Request) -> web.Response:
        body, approval = await request.json(), self.approvals[request.match_info["id"]]
        if approval["state"] != "pending":
            words = "It has been answered already; the first answer stands."
            return problem(409, "already_resolved", words, outcome=approval["state"], by="Ann")
        if body.get("inputHash") != approval["inputHash"]:
            return problem(409, "conflict", "inputHash does not match")
        approval["state"] = "approved" if body["approved"] else "denied"
        self.on_decide(body)
        return web.json_response(approval)

    async def _answer(self, request: web.Request) -> web.Response:
        self.on_decide(await request.json())
        return web.json_response({})

    async def _ticket(self, request: web.Request) -> web.Response:
        body = {"ticket": "T", "url": "http://127.0.0.1:8420/#ticket=T", "expiresAt": "2026-11-21T09:10:00.000Z"}
        return web.json_response(body, status=201)

    def _key(self) -> dict[str, Any]:
        more = {"kind": "key", "account": "local", "createdAt": "2026-11-21T09:00:00.000Z"}
        return {"id": "k1", "name": "ci", "scopes": ["read", "run"], **more}

    member = {
        "account": "ann", "name": "Ann", "role": "viewer", "organisation": "red", "createdAt": "2026",
        "disabled": False,
    }  # fmt: skip

    async def _members(self, request: web.Request) -> web.Response:
        return web.json_response({"items": [self.member], "next": None})

    async def _member(self, request: web.Request) -> web.Response:
        body = await request.json()
        return web.json_response({**self.member, **body, "account": request.match_info["account"]})

    async def _organisations(self, request: web.Request) -> web.Response:
        return web.json_response({"items": [{"id": "red", "name": "Red", "createdAt": "2026"}], "next": None})

    async def _make_organisation(self, request: web.Request) -> web.Response:
        return web.json_response({"name": "Blue", "createdAt": "2026", **await request.json()}, status=201)

    async def _keys(self, request: web.Request) -> web.Response:
        return web.json_response({"items": [self._key()], "next": None})

    async def _make_key(self, request: web.Request) -> web.Response:
        wish = await request.json()
        if wish.get("kind") != "sigv4":
            return web.json_response({**self._key(), "key": f"ph_{uuid.UUID(int=7)}"}, status=201)
        pair = {"id": PAIR, "kind": "sigv4", "accessKeyId": PAIR, "secretAccessKey": "s3cret"}
        token = {"sessionToken": "t0ken"} if wish.get("sessionToken") else {}
        return web.json_response({**self._key(), **pair, **token}, status=201)

    async def _socket(self, request: web.Request) -> web.StreamResponse:
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        message = chat.parse_client(await socket.receive_str())
        assert isinstance(message, chat.Subscribe), message
        self.subscriptions.append({"after": message.after, "epoch": message.epoch})
        if message.chat_id != SESSION:
            await socket.send_str(
                chat.encode_frame(chat.Rejected(code="not_found", message="no such session")).decode()
            )
        await self._play(socket, message)
        return socket

    async def _play(self, socket: web.WebSocketResponse, message: chat.Subscribe) -> None:
        other = message.epoch not in {None, self.epoch} or message.after > len(self.log)
        after = 0 if other else message.after
        gap = other or after + 1 < self.oldest
        after = max(after, self.oldest - 1)
        frame = chat.Subscribed(
            chat_id=SESSION,
            epoch=self.epoch,
            oldest=self.oldest,
            head=len(self.log),
            gap=gap,
            running=True,
            pending_approvals=[],
            pending_questions=[],
            viewers=1,
        )
        await socket.send_str(chat.encode_frame(frame).decode())
        caught_up = False
        while not socket.closed:
            grown = self.grown
            while after < len(self.log):
                await socket.send_str(self.log[after].decode())
                after += 1
                if after in self.cuts:
                    self.cuts.remove(after)
                    if self.close_code is not None:
                        await socket.close(code=self.close_code)
                    elif socket._writer is not None:
                        assert socket._req is not None and socket._req.transport is not None
                        socket._req.transport.abort()
                    return
            if not caught_up:
                caught_up = True
                await socket.send_str(chat.encode_frame(chat.CaughtUp(chat_id=SESSION, seq=after)).decode())
            closing = asyncio.ensure_future(socket.receive())
            growing = asyncio.ensure_future(grown.wait())
            await asyncio.wait({closing, growing}, return_when=asyncio.FIRST_COMPLETED)
            for task in (closing, growing):
                task.cancel()
            if closing.done() and not closing.cancelled():
                return
