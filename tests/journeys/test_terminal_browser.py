"""A shell in a real browser, against the real program: a full-screen editor through resizes and reloads, a shell that
two browsers see, and a flood through a kill of the server, compared byte by byte with what was written."""

from __future__ import annotations

import asyncio
import hashlib
import json
import shutil
import time
from collections.abc import AsyncIterator
from typing import Any

import pyte
import pytest
import pytest_asyncio
from playwright.async_api import Browser, Page, expect

from tests.journeys.program import Program, installation
from tests.journeys.rough import CONTROL, STATUS, STDOUT, Rough
from tests.journeys.test_page import WAIT, browser, pytestmark, sign_in
from tests.journeys.test_shells import shell
from tests.journeys.test_terminal_page import READ_ALOUD, connected, rows, type_in

VIM = next((name for name in ("vim.tiny", "vim.basic") if shutil.which(name)), "")
pytestmark = [*pytestmark, pytest.mark.asyncio(loop_scope="module")]
LINES = 6_000_000
"""46,888,896 bytes: many times what all buffers on the way hold."""
UNSEEN = 1_500_000
TAP = """
  const taps = window.taps = {};
  window.WebSocket = class extends WebSocket {
    constructor(url, protocols) {
      super(url, protocols);
      const id = /\\/shells\\/([^?]+)/.exec(url)?.[1];
      if (!id) return;
      const tap = taps[id] ??= { at: 0, parts: [[0, []]], sockets: 0, trouble: [], dropped: [], ended: null };
      tap.sockets += 1;
      this.addEventListener('message', ({ data }) => {
        const bytes = new Uint8Array(data);
        if (bytes[0] === 1) { tap.parts.at(-1)[1].push(bytes.slice(1)); tap.at += bytes.length - 1; }
        if (bytes[0] !== 3) return;
        const said = JSON.parse(new TextDecoder().decode(bytes.subarray(1)));
        if (!said.metadata.shellId) { tap.ended = said; return; }
        const { offset, bytesDropped = 0 } = said.metadata;
        if (tap.at + bytesDropped !== offset) tap.trouble.push([tap.at, said.metadata]);
        if (bytesDropped) { tap.dropped.push(bytesDropped); tap.at = offset; tap.parts.push([offset, []]); }
      });
    }
  };
"""
"""What comes to the page of each shell, by offset, over all its connections, whatever the page does with it."""
PARTS = """async (id) => {
  const found = [];
  for (const [start, pieces] of taps[id].parts) {
    const whole = new Uint8Array(await new Blob(pieces).arrayBuffer());
    const digest = new Uint8Array(await crypto.subtle.digest('SHA-256', whole));
    found.push([start, whole.length, [...digest].map((one) => one.toString(16).padStart(2, '0')).join('')]);
  }
  return found;
}"""
"""Where each part that came without a hole begins, its length and its digest."""


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def running() -> AsyncIterator[tuple[Program, Browser]]:
    async with installation(demo=False, PILOTHOUSE_RATE_PER_S="0") as (program, _), browser() as chromium:
        program.port = program.url.rpartition(":")[2]  # pages come back to where they were
        yield program, chromium


async def session(program: Program) -> str:
    async with program.http() as http:
        return str((await http.post("/api/sessions", json={"agent": "echo"})).json()["id"])


async def visit(program: Program, chromium: Browser, sid: str, *, tapped: bool = False, height: int = 844) -> Page:
    """A page of a browser of its own, with the session's terminal open."""
    context = await chromium.new_context(viewport={"width": 1280, "height": height})
    await context.add_init_script(TAP if tapped else READ_ALOUD)
    page, _ = await sign_in(context, program)
    await page.goto(f"{program.url}/#/s/{sid}")
    await page.get_by_test_id("terminal-open").click()
    await connected(page)
    return page


async def head(program: Program, sid: str, id: str) -> int:
    """How much a shell has written."""
    async with program.http() as http:
        items = (await http.get(f"/api/sessions/{sid}/shells")).json()["items"]
        return next(int(shown["head"]) for shown in items if shown["shellId"] == id)


async def size(page: Page) -> tuple[int, int]:
    """Columns and rows of its terminal."""
    host = page.locator(".xtermhost")
    return int(await host.get_attribute("data-cols") or 0), int(await host.get_attribute("data-rows") or 0)


RULER = 10
"""Pixels of the bar beside a screen."""


async def filled(page: Page, shown: tuple[int, int]) -> None:
    """Until there is room neither for another column beside the bar nor for another row, and nothing is cut."""
    async with asyncio.timeout(WAIT / 1000):
        while True:
            host, screen = [await page.locator(one).bounding_box() for one in (".xtermhost", ".xterm-screen")]
            assert host
            assert screen
            beside, below = host["width"] - RULER - screen["width"], host["height"] - screen["height"]
            if 0 <= beside < screen["width"] / shown[0] + 1 and 0 <= below < screen["height"] / shown[1] + 1:
                return
            await asyncio.sleep(0.1)


class Emulator(pyte.Screen):
    """vim sets how keys are reported with a sequence that this one would take for a colour, and fail at."""

    def select_graphic_rendition(self, *attributes: int, private: bool = False) -> None:
        if not private:
            super().select_graphic_rendition(*attributes)


async def oracle(program: Program, path: str) -> list[str]:
    """What a terminal emulator of others shows of everything that is kept of the shell."""
    line = await Rough.open(program, f"{path}?role=watch")
    screen = Emulator(80, 24)
    stream, live, at = pyte.ByteStream(screen), 1, 0
    while at < live:
        for frame in await line.frames():
            if frame[0] == STATUS:
                about: dict[str, Any] = json.loads(frame[1:])["metadata"]
                live, at = about["live"], about["offset"]
            elif frame[0] == CONTROL and (told := json.loads(frame[1:]))["type"] == "size":
                screen.resize(told["height"], told["width"])
            elif frame[0] == STDOUT:
                stream.feed(frame[1:])
                at += len(frame) - 1
    line.cut()
    return [row.rstrip() for row in screen.display]


def edited(first: int, cols: int, lines: int) -> list[str]:
    """What vim must show of the file at this size: one line of it on each row but the last."""
    return [f"{n}:".ljust(cols, "x") for n in range(first, first + lines - 1)]


@pytest.mark.skipif(not VIM, reason="needs package vim-tiny")
async def test_an_editor_is_right_after_a_resize_a_reload_and_in_a_second_browser(
    running: tuple[Program, Browser],
) -> None:
    program, chromium = running
    sid = await session(program)
    page = await visit(program, chromium, sid)
    path = f"/api/sessions/{sid}/shells/{await page.get_by_test_id('terminal').get_attribute('data-shell')}"
    await type_in(page, "x=$(printf %0300d 0 | tr 0 x); for n in $(seq 300); do echo $n:$x; done >f\n")
    await type_in(page, f"exec {VIM} -u NONE -c 'set nowrap' f\n")

    async def right(page: Page, first: int, *, other_than: tuple[int, int] | None = None) -> tuple[int, int]:
        """The page shows what vim must show, which is what another emulator makes of the same bytes. A window that was
        just made smaller or larger is measured anew when it is next drawn: until then the page is right at its old
        size."""
        end = time.monotonic() + WAIT / 1000
        while True:
            (cols, lines), shown = await size(page), await rows(page)
            drawn = await oracle(program, path)
            if (cols, lines) != other_than and shown == drawn and shown[:-1] == edited(first, cols, lines):
                return cols, lines
            assert time.monotonic() < end, "\n".join([f"{cols} x {lines}", *shown, "--- drawn by another:", *drawn])
            await asyncio.sleep(0.3)

    before = await right(page, 1)
    await filled(page, before)
    await page.set_viewport_size({"width": 940, "height": 1000})
    after = await right(page, 1, other_than=before)
    assert after[0] < before[0]
    assert after[1] > before[1]
    await filled(page, after)
    await page.reload()
    await connected(page)
    assert await right(page, 1) == after
    await filled(page, after)
    await type_in(page, "100Gzt")
    assert await right(page, 100) == after

    # In another browser, on a smaller screen: both see the same, and one types.
    other = await visit(program, chromium, sid, height=700)
    await type_in(other, "100Gzt")  # it has kept what it could of the larger screen
    assert (await right(other, 100, other_than=after))[1] < after[1]
    await right(page, 100)
    assert await rows(page) == await rows(other)
    await other.get_by_test_id("terminal-take").click()
    await expect(page.get_by_test_id("terminal-badge")).to_be_visible()
    await type_in(page, "1G")
    await type_in(other, "200Gzt")
    await right(other, 200)
    await right(page, 200)
    for one in (page, other):
        await one.context.close()


def counted(lines: int) -> bytes:
    return b"".join(b"%d\n" % n for n in range(1, lines + 1))


async def flooding(program: Program, page: Page, sid: str, command: str) -> tuple[str, bytes]:
    """The page's shell will do this as soon as it is told `go`. Its id, and what it has written so far."""
    id = str(await page.get_by_test_id("terminal").get_attribute("data-shell"))
    await type_in(page, f"exec sh -c 'stty -opost -echo; echo re\"\"ady; read go; {command}'\n")
    line = await Rough.open(program, f"/api/sessions/{sid}/shells/{id}?role=watch")
    before = b""
    async with asyncio.timeout(WAIT / 1000):
        while not before.endswith(b"ready\n"):
            before += b"".join(frame[1:] for frame in await line.frames() if frame[0] == STDOUT)
    line.cut()
    return id, before


async def test_a_kill_of_the_server_in_a_flood_costs_who_types_no_byte(running: tuple[Program, Browser]) -> None:
    program, chromium = running
    sid = await session(program)
    page = await visit(program, chromium, sid, tapped=True)
    id, before = await flooding(program, page, sid, f"seq 1 {LINES} | tee f; exit 3")
    await type_in(page, "go\n")
    for goal in (4_000_000, 12_000_000):  # far from its end: the page goes on while somebody asks it how far it is
        await page.wait_for_function("([id, goal]) => taps[id].at > goal", arg=[id, goal], timeout=120_000)
        await program.kill()
        await asyncio.sleep(0.3)
        await program.start()
    await page.wait_for_function("(id) => taps[id].ended", arg=id, timeout=120_000)
    assert await page.evaluate("(id) => [taps[id].trouble, taps[id].dropped]", id) == [[], []]
    assert await page.evaluate("(id) => taps[id].sockets", id) >= 3
    written = (program.own(sid) / "workspace" / "f").read_bytes()
    assert written == counted(LINES)
    whole = before + written
    assert await page.evaluate(PARTS, id) == [[0, len(whole), hashlib.sha256(whole).hexdigest()]]
    await page.context.close()


async def test_what_nobody_looked_at_is_counted_to_the_byte_for_the_page_that_comes_back(
    running: tuple[Program, Browser],
) -> None:
    program, chromium = running
    sid = await session(program)
    page = await visit(program, chromium, sid, tapped=True)
    id, before = await flooding(
        program, page, sid, f"while [ ! -e go ]; do sleep 0.1; done; seq 1 {UNSEEN}; sleep 1000"
    )
    await type_in(page, "go\n")
    seen = len(before)
    await page.wait_for_function("([id, end]) => taps[id].at >= end", arg=[id, seen], timeout=WAIT)
    await page.get_by_test_id("terminal-new").click()  # the page lets go of the first shell, and knows its place there
    await expect(page.get_by_test_id("terminal-tab")).to_have_count(2)
    await connected(page)
    async with asyncio.timeout(WAIT / 1000):
        await shell(program, sid, "touch", "go")
        while await head(program, sid, id) < 3_000_000:
            await asyncio.sleep(0.01)
        await program.kill()
        await program.start()
        whole = before + counted(UNSEEN)
        while await head(program, sid, id) < len(whole):
            await asyncio.sleep(0.1)
    await page.locator(f'[data-testid="terminal-tab"][data-shell="{id}"]').click()
    await page.wait_for_function("([id, end]) => taps[id].at >= end", arg=[id, len(whole)], timeout=WAIT)
    trouble, dropped = await page.evaluate("(id) => [taps[id].trouble, taps[id].dropped]", id)
    assert trouble == []
    ((_, first, _), (start, length, digest)) = await page.evaluate(PARTS, id)
    assert first == seen
    assert dropped == [start - seen]
    assert start + length == len(whole)
    assert digest == hashlib.sha256(whole[start:]).hexdigest()
    await page.context.close()
