"""Code of the user's, behind both kinds of hooks: what it answers, and everything it can do wrong."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import json
import socket
import subprocess
import sys
import threading
from collections.abc import AsyncIterator
from typing import Any

import pytest
from aiohttp import web

from pilothouse.adapters.hooks.http import ANSWER_MAX, HttpHook
from pilothouse.adapters.hooks.opening import opened
from pilothouse.adapters.hooks.python import THREADS, NoCallable, PythonHook
from pilothouse.engine.hooks import Bounded, Hook, HookFailed


def echo(event: Any, context: Any) -> Any:
    event["changed"] = True
    assert context.get_remaining_time_in_millis() > 0
    return {"heard": event, "request": len(context.aws_request_id)}


async def later(event: Any, context: Any) -> Any:
    await asyncio.sleep(0)
    return event["n"] + 1


def fails(event: Any, context: Any) -> Any:
    raise PermissionError("not you")


async def fails_later(event: Any, context: Any) -> Any:
    raise PermissionError("not you")


def rubbish(event: Any, context: Any) -> Any:
    return object()


def leaves(event: Any, context: Any) -> Any:
    raise SystemExit(1)


async def leaves_later(event: Any, context: Any) -> Any:
    raise SystemExit(1)


async def ends_itself(event: Any, context: Any) -> Any:
    raise asyncio.CancelledError


def interrupts(event: Any, context: Any) -> Any:
    raise KeyboardInterrupt


class Mute(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no words")


def mute(event: Any, context: Any) -> Any:
    raise Mute


def here(name: str) -> str:
    return f"{__name__}:{name}"


# --- Python ---


async def test_a_callable_is_called_like_a_lambda_handler_and_changes_nothing_of_ours() -> None:
    given = {"n": 1}
    hook = opened(here("echo"))
    assert await hook.call(given, 5) == {"heard": {"n": 1, "changed": True}, "request": 36}
    assert given == {"n": 1}
    assert await opened(here("later")).call(given, 5) == 2
    await hook.close()


@pytest.mark.parametrize(("name", "type"), [
    ("fails", "PermissionError"), ("fails_later", "PermissionError"), ("rubbish", "MarshalError"),
    ("leaves", "SystemExit"), ("leaves_later", "SystemExit"), ("ends_itself", "CancelledError"),
    ("interrupts", "KeyboardInterrupt"), ("mute", "Mute"),
])  # fmt: skip
async def test_what_it_raises_is_named(name: str, type: str) -> None:
    with pytest.raises(HookFailed) as failed:
        await opened(here(name)).call({}, 5)
    assert failed.value.type == type


@pytest.mark.parametrize("name", ["nowhere:x", here("nothing"), here("THREADS"), "pilothouse:"])
def test_what_cannot_be_called_is_refused_when_it_is_opened(name: str) -> None:
    with pytest.raises(NoCallable, match=name.partition(":")[0]):
        PythonHook.load(name)


async def test_one_that_hangs_is_left_behind_and_all_of_them_refuse_at_once() -> None:
    free = threading.Event()
    hook = PythonHook("hangs", lambda event, context: free.wait(20))
    bounded = Bounded(hook, 0.05)
    try:
        answers = await asyncio.gather(*[bounded.call({}) for _ in range(THREADS)], return_exceptions=True)
        assert {getattr(answer, "type", None) for answer in answers} == {"TimeoutError"}
        with pytest.raises(HookFailed, match="busy"):
            await bounded.call({})
        free.set()
        while hook._running:
            await asyncio.sleep(0.005)
        assert await hook.call({}, 5) is True, "what came back to itself is used again"
        assert hook._threads == THREADS
    finally:
        free.set()
        await hook.close()


def test_one_that_hangs_does_not_keep_the_process() -> None:
    code = """
import asyncio, threading
from pilothouse.adapters.hooks.python import PythonHook
from pilothouse.engine.hooks import Bounded, HookFailed

async def main():
    hook = PythonHook("hangs", lambda event, context: threading.Event().wait())
    try:
        await Bounded(hook, 0.05).call({})
    except HookFailed as error:
        print(error.type)
    await hook.close()

asyncio.run(main())
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout == "TimeoutError\n"


async def test_failures_are_noted_and_not_without_end() -> None:
    noted: list[str] = []

    def note(what: str, /, **fields: object) -> None:
        noted.append(str(fields["error"]))

    bounded = Bounded(opened(here("fails_later")), note=note)
    for _ in range(60):
        with pytest.raises(HookFailed):
            await bounded.call({})
    bounded.said("no")
    assert len(noted) == 10
    assert "not you" in noted[0]


# --- HTTP ---


@pytest.fixture
async def site() -> AsyncIterator[tuple[str, list[web.Request], list[bytes]]]:
    """Answers what its path says."""
    seen: list[web.Request] = []
    bodies: list[bytes] = []

    async def answer(request: web.Request) -> web.StreamResponse:
        seen.append(request)
        bodies.append(await request.read())
        match request.path:
            case "/json":
                return web.json_response({"isAuthorized": True})
            case "/null":
                return web.Response(status=204)
            case "/text":
                return web.Response(text="hello")
            case "/away":
                raise web.HTTPFound("/json")
            case "/large":
                return web.Response(body=b" " * (ANSWER_MAX + 1))
            case "/hang":
                await asyncio.sleep(20)
        return web.Response(status=500, headers={"x-amz-function-error": "UnauthorizedException"})

    runner = web.AppRunner(web.Application(), shutdown_timeout=0.1)
    runner.app.router.add_route("*", "/{path:.*}", answer)
    await runner.setup()
    place = web.TCPSite(runner, "127.0.0.1", 0)
    await place.start()
    port = runner.addresses[0][1]
    yield f"http://127.0.0.1:{port}", seen, bodies
    await runner.cleanup()


def at(url: str, **more: Any) -> Hook:
    return HttpHook(url, "secret", frozenset({url.split("/")[2]}), **more)


async def test_an_address_is_posted_to_signed(site: tuple[str, list[web.Request], list[bytes]]) -> None:
    url, seen, bodies = site
    hook = at(f"{url}/json")
    assert await hook.call({"a": 1}, 5) == {"isAuthorized": True}
    stamp, given = seen[0].headers["x-pilothouse-signature"].removeprefix("t=").split(",v1=")
    assert json.loads(bodies[0]) == {"a": 1}
    assert given == hmac.new(b"secret", f"{stamp}.".encode() + bodies[0], hashlib.sha256).hexdigest()
    await hook.close()


@pytest.mark.parametrize(("path", "said"), [
    ("/text", "no JSON"), ("/away", "302"), ("/large", "more than"), ("/error", "500"), ("/hang", "too long"),
])  # fmt: skip
async def test_other_answers_are_failures(
    site: tuple[str, list[web.Request], list[bytes]], path: str, said: str
) -> None:
    hook = at(site[0] + path)
    with pytest.raises(HookFailed, match=said) as failed:
        await hook.call({}, 0.3 if path == "/hang" else 5)
    assert len(site[1]) == 1, "no redirect was followed"
    if path == "/error":
        assert failed.value.type == "UnauthorizedException"
    await hook.close()


async def test_null(site: tuple[str, list[web.Request], list[bytes]]) -> None:
    hook = at(site[0] + "/null")
    assert await hook.call({}, 5) is None
    await hook.close()


async def test_c31_an_address_inside_is_asked_only_where_it_is_listed(
    site: tuple[str, list[web.Request], list[bytes]],
) -> None:
    port = site[0].rpartition(":")[2]
    for url in (f"http://127.0.0.1:{port}/json", f"https://127.0.0.1:{port}/json", f"https://localhost:{port}/json",
                f"https://[::1]:{port}/json", f"https://2130706433:{port}/json", f"https://127.1:{port}/json",
                f"https://[::ffff:127.0.0.1]:{port}/json"):  # fmt: skip
        hook = HttpHook(url, "", frozenset({"127.0.0.1:1"}))
        with pytest.raises(HookFailed):
            await hook.call({}, 5)
        await hook.close()
    assert site[1] == []


@pytest.mark.parametrize(("url", "listed"), [
    ("http://[::1]:8080/x", "[::1]:8080"), ("http://[0:0::1]:8080/x", "[::1]:8080"),
    ("http://hook.internal/x", "Hook.Internal:80"), ("https://hook.internal./x", "hook.internal:443"),
])  # fmt: skip
def test_what_is_listed_may_be_private_however_it_is_written(url: str, listed: str) -> None:
    assert HttpHook(url, "", frozenset({listed}))._private
    assert not HttpHook(url, "", frozenset({listed[:-1] + "9"}))._private
    assert not HttpHook("http://127.1:80/x", "", frozenset({"127.0.0.1:80"}))._private


async def test_c31_a_name_that_leads_elsewhere_a_moment_later_is_asked_there_or_nowhere(
    site: tuple[str, list[web.Request], list[bytes]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was checked is what is connected to, at each connection anew."""
    port, leads, looked = int(site[0].rpartition(":")[2]), ["127.0.0.1"], 0

    def getaddrinfo(name: str, port: int, **_: object) -> list[object]:
        nonlocal looked
        looked += 1
        return [(2, 1, 6, "", (leads[0], port))]

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    hook = HttpHook(f"https://hook.example:{port}/json", "", public=lambda address: address == "127.0.0.1")
    with pytest.raises(HookFailed, match="reached"):  # who is there speaks no TLS
        await hook.call({}, 5)
    assert looked == 1
    leads[0] = "169.254.169.254"
    with pytest.raises(HookFailed, match="public"):
        await hook.call({}, 5)
    assert looked == 2
    assert site[1] == []
    await hook.close()


async def test_nobody_there() -> None:
    hook = at("http://127.0.0.1:1/x")
    with pytest.raises(HookFailed, match="reached"):
        await hook.call({}, 5)
    await hook.close()
