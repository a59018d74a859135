"""Pictures with a prompt, in a real browser against the real program."""

from __future__ import annotations

import re
import struct
import zlib
from collections.abc import AsyncIterator

import pytest
from playwright.async_api import FilePayload, expect

from tests.journeys.program import Demo, Program, installation
from tests.journeys.test_page import browser, prompt, pytestmark, sign_in

__all__ = ["pytestmark"]

PASTE = """([name, bytes, kind]) => {
  const data = new DataTransfer();
  data.items.add(new File([new Uint8Array(bytes)], name, { type: "image/png" }));
  const field = document.querySelector('[data-testid="composer"]');
  const event = kind === "paste"
    ? new ClipboardEvent("paste", { clipboardData: data, bubbles: true, cancelable: true })
    : new DragEvent("drop", { dataTransfer: data, bubbles: true, cancelable: true });
  (kind === "paste" ? field : document.body).dispatchEvent(event);
}"""


def png() -> bytes:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    rows = b"".join(b"\x00" + bytes((200, y * 60, 120)) for y in range(4))
    head = struct.pack(">IIBBBBB", 1, 4, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def file(name: str, kind: str, data: bytes) -> FilePayload:
    return {"name": name, "mimeType": kind, "buffer": data}


@pytest.fixture
async def running() -> AsyncIterator[tuple[Program, Demo]]:
    async with installation() as made:
        yield made


async def test_pictures_by_button_paste_and_drop(running: tuple[Program, Demo]) -> None:
    program, _ = running
    async with browser() as chromium:
        page, troubles = await sign_in(await chromium.new_context(), program)
        await prompt(page, "demo: say ready")
        await expect(page.get_by_test_id("job-end")).to_be_visible()

        chosen = page.get_by_test_id("picture")
        await page.get_by_test_id("picture-input").set_input_files(
            [
                file("one.png", "image/png", png()),
                file("notes.txt", "text/plain", b"hello"),
                file("liar.png", "image/png", b"no picture"),
                file("big.png", "image/png", b"\x89PNG\r\n\x1a\n" + bytes(2 * 1024 * 1024)),
            ]
        )
        await expect(chosen).to_have_count(1)
        refused = page.get_by_test_id("picture-refused")
        await expect(refused).to_have_count(3)
        await expect(refused.nth(0)).to_contain_text("“notes.txt” is no picture")
        await expect(refused.nth(1)).to_contain_text("“liar.png” is not what its name says")
        await expect(refused.nth(2)).to_contain_text("“big.png” is too big")
        await page.evaluate(PASTE, ["two.png", list(png()), "paste"])
        await page.evaluate(PASTE, ["three.png", list(png()), "drop"])
        await expect(chosen).to_have_count(3)
        await expect(refused).to_have_count(0)
        drawn = (
            """() => String([...document.querySelectorAll('[data-testid="picture"] img')].map((i) => i.naturalWidth))"""
        )
        await page.wait_for_function(f"{drawn} === '1,1,1'")  # each thumbnail, once it is read
        await page.get_by_role("button", name="Remove two.png").click()
        await expect(chosen).to_have_count(2)

        await prompt(page, "demo: say seen")
        await expect(page.get_by_test_id("job-end")).to_have_count(2)
        await expect(chosen).to_have_count(0)
        attached = page.get_by_test_id("attachment")
        await expect(attached.nth(0)).to_contain_text("one.png")
        await expect(attached.nth(1)).to_contain_text(re.compile(rf"three\.png\s*· {len(png())} B"))
        async with program.http() as http:
            session = (await http.get("/api/sessions")).json()["items"][0]["id"]
            events = (await http.get(f"/api/sessions/{session}/events?limit=1000")).json()["events"]
        logged = [e["attachments"] for e in events if e.get("attachments")]
        assert [[a["name"] for a in one] for one in logged] == [["one.png", "three.png"]], "once, with both"
        assert not [t for t in troubles if "401" not in t], troubles


async def test_a_new_session_begins_with_a_picture(running: tuple[Program, Demo]) -> None:
    program, _ = running
    async with browser() as chromium:
        page, _ = await sign_in(await chromium.new_context(), program)
        await page.get_by_test_id("picture-input").set_input_files([file("one.png", "image/png", png())])
        await expect(page.get_by_test_id("picture")).to_have_count(1)
        await prompt(page, "demo: say seen")
        await expect(page.get_by_test_id("attachment")).to_contain_text("one.png")
        await expect(page.get_by_test_id("job-end")).to_have_attribute("data-outcome", "succeeded")
