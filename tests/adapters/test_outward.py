"""What is taken for a number, and which numbers are asked."""

from __future__ import annotations

import asyncio
import socket
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from pilothouse.adapters import outward


@pytest.mark.parametrize("host", [
    "127.0.0.1", "::1", "10.0.0.1", "169.254.169.254", "fd00::1", "::ffff:127.0.0.1", "127.1", "2130706433", "0",
    "127.0.0.1.", "0177.0.0.1", "fe80::1%eth0", "1:2",
])  # fmt: skip
def test_c31_what_is_not_looked_up_has_to_be_public_as_it_stands(host: str) -> None:
    assert outward.is_number(host)
    assert outward.leads_inside(host)


@pytest.mark.parametrize("host", ["8.8.8.8", "2001:4860:4860::8888", "issuer.example", "localhost", "0x7f.1"])
def test_a_name_is_for_whoever_looks_it_up(host: str) -> None:
    assert not outward.leads_inside(host)


async def test_names_that_nobody_answers_for_keep_no_other_work_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    answered = threading.Event()

    def getaddrinfo(host: str, port: int, *_: object, **__: object) -> list[object]:
        answered.wait(20)
        return [(2, 1, 6, "", ("8.8.8.8", port))]

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(1))
    names = outward.Checked(lambda _: True)
    looking = [asyncio.ensure_future(names.resolve("hangs.example", 443)) for _ in range(2)]
    try:
        await asyncio.sleep(0)
        async with asyncio.timeout(10):
            assert await asyncio.to_thread(lambda: "done") == "done"
        assert not any(look.done() for look in looking)
    finally:
        answered.set()
    assert [(await look)[0]["host"] for look in looking] == ["8.8.8.8"] * 2
    await names.close()
