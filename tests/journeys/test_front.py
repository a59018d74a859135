"""The real program with a real nginx and a real Caddy in front, as docs/install.md has them."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
import shutil
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
import pytest_asyncio
from playwright.async_api import Page, async_playwright, expect
from websockets.asyncio.client import connect

from tests.certificates import Authority
from tests.journeys.program import Program, bound, installation
from tests.journeys.test_page import CHROMIUM, FLAGS, STATIC, WAIT

ROOT = Path(__file__).parents[2]
NGINX, CADDY = (shutil.which(n, path=f"{os.environ['PATH']}:/usr/sbin:{ROOT / '.make'}") for n in ("nginx", "caddy"))
NAME = "pilothouse.example"
pytestmark = [
    pytest.mark.asyncio(loop_scope="module"),
    pytest.mark.skipif(NGINX is None, reason="needs package nginx"),
    pytest.mark.skipif(CADDY is None, reason="needs package caddy"),
]
PATIENCE_S = 20
"""Of nginx, here; its own is 60, and ours in docs/install.md 75."""
WAYS = ["nginx", "nginx cuts", "caddy"]
"""nginx passes the path on, or cuts it off; Caddy passes it on."""


def documented(proxy: str) -> str:
    """The configuration that people are told to use."""
    block = re.search(rf"```{proxy}\n(.*?)```", (ROOT / "docs" / "install.md").read_text(), re.DOTALL)
    assert block is not None
    return block[1]


def settings() -> dict[str, str]:
    """And the settings beside it."""
    page = (ROOT / "docs" / "install.md").read_text().partition("## Behind a proxy")[2]
    block = re.search(r"```toml\n\[server\]\n(.*?)```", page, re.DOTALL)
    assert block is not None
    pairs = dict(line.split(" = ") for line in block[1].splitlines())
    return {f"PILOTHOUSE_{name.upper()}": re.sub(r'[\[\]"]', "", value) for name, value in pairs.items()}


def nginx_conf(home: Path, port: int, keeps: int, cuts: int, pair: tuple[Path, Path]) -> str:
    ours = documented("nginx")
    for old, new in (
        ("listen 443 ssl", f"listen 127.0.0.1:{keeps} ssl"), ("127.0.0.1:8420", f"127.0.0.1:{port}"),
        ("/etc/ssl/pilothouse.crt", str(pair[0])), ("/etc/ssl/pilothouse.key", str(pair[1])),
        ("proxy_read_timeout 75s", f"proxy_read_timeout {PATIENCE_S}s"),
    ):  # fmt: skip
        assert old in ours
        ours = ours.replace(old, new)
    cutting = ours[ours.index("server {") :].replace(f":{keeps} ssl", f":{cuts} ssl")
    cutting = cutting.replace(f"proxy_pass http://127.0.0.1:{port};", f"proxy_pass http://127.0.0.1:{port}/;")
    places = "".join(f"{what}_temp_path {home};\n" for what in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi"))
    return (
        f"daemon off;\nmaster_process off;\npid {home}/nginx.pid;\nerror_log stderr;\nevents {{}}\n"
        f"http {{\naccess_log off;\n{places}{ours}\n{cutting}\n}}\n"
    )


def caddyfile(port: int, at: int, pair: tuple[Path, Path]) -> str:
    ours = documented("caddy")
    assert ours.startswith(f"{NAME} {{")
    names = f"https://{NAME}:{at}, https://localhost:{at}, https://127.0.0.1:{at} {{\n\ttls {pair[0]} {pair[1]}\n"
    ours = ours.replace(f"{NAME} {{\n", names).replace("127.0.0.1:8420", f"127.0.0.1:{port}")
    return f"{{\n\tadmin off\n\tauto_https disable_redirects\n\tdefault_bind 127.0.0.1\n}}\n{ours}"


@contextlib.asynccontextmanager
async def started(said: Path, *ports: int, argv: list[str], env: dict[str, str]) -> AsyncIterator[None]:
    with said.open("wb") as log:
        process = await asyncio.create_subprocess_exec(*argv, stdout=log, stderr=log, env=os.environ | env)
    try:
        async with asyncio.timeout(30):
            for port in ports:
                while not await opens(port):
                    assert process.returncode is None, said.read_text()
                    await asyncio.sleep(0.05)
        yield
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.terminate()
        await process.wait()


@dataclass
class Fronted:
    program: Program
    authority: Authority
    roots: Path
    ways: dict[str, str]
    """Address by way."""

    def lines(self) -> list[dict[str, Any]]:
        """Of the access log."""
        found = [json.loads(line) for line in self.program.log.read_text().splitlines() if line.startswith("{")]
        return [line for line in found if line.get("event") in {"request", "upgrade"}]

    async def line(self, peer: str, path: str, number: int) -> dict[str, Any]:
        """The `number`-th of `path` from `peer`: it is written when the answer is already on its way."""
        async with asyncio.timeout(30):
            while len(found := [x for x in self.lines() if (x["peer"], x["path"]) == (peer, path)]) < number:
                await asyncio.sleep(0.02)
        assert len(found) == number
        return found[-1]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def fronted() -> AsyncIterator[Fronted]:
    authority = Authority.make()
    given: dict[str, Any] = settings()
    async with installation(**given) as (program, _), contextlib.AsyncExitStack() as stack:
        home = program.home / "front"
        home.mkdir()
        pair = authority.write(home, "localhost", NAME, "127.0.0.1")
        keeps, cuts, caddy = (stack.enter_context(bound()).getsockname()[1] for _ in range(3))
        port = int(program.url.split(":")[2].split("/")[0])
        (home / "nginx.conf").write_text(nginx_conf(home, port, keeps, cuts, pair))
        (home / "Caddyfile").write_text(caddyfile(port, caddy, pair))
        assert NGINX is not None
        assert CADDY is not None
        nginx_argv = [NGINX, "-p", str(home), "-e", "stderr", "-c", str(home / "nginx.conf")]
        caddy_argv = [CADDY, "run", "--adapter", "caddyfile", "--config", str(home / "Caddyfile")]
        own = {"HOME": str(home), "XDG_DATA_HOME": str(home), "XDG_CONFIG_HOME": str(home)}
        async with (
            started(home / "nginx.log", keeps, cuts, argv=nginx_argv, env={}),
            started(home / "caddy.log", caddy, argv=caddy_argv, env=own),
        ):
            at = [f"https://{NAME}:{number}/pilothouse" for number in (keeps, cuts, caddy)]
            yield Fronted(program, authority, authority.save(home / "root.pem"), dict(zip(WAYS, at, strict=True)))


async def opens(port: int) -> bool:
    with contextlib.suppress(OSError):
        _, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.close()
        return True
    return False


def client(fronted: Fronted, url: str, **options: Any) -> httpx.AsyncClient:
    """`url` by its name, wherever that leads; `local_address` is where it is called from."""
    transport = httpx.AsyncHTTPTransport(verify=fronted.authority.client(), **options)
    address = url.replace(NAME, "127.0.0.1")
    headers = {"host": url.split("/")[2], "x-api-key": fronted.program.key}
    return httpx.AsyncClient(base_url=address, transport=transport, headers=headers, timeout=30)


@pytest.mark.parametrize("way", WAYS)
async def test_requests_and_sockets_come_through_with_long_headers(fronted: Fronted, way: str) -> None:
    for url in [fronted.ways[way]]:
        async with client(fronted, url) as http:
            assert (await http.get("/api/me", headers={"x-pad": "y" * 30_000})).status_code == 200
            assert (await http.get("/")).text.startswith("<!doctype html>")
            assert (await http.get("/api/me", headers={"x-api-key": "ph_x"})).status_code == 401
            assert (await http.get("/api/nothing")).status_code == 404
            bare = await http.get(url.replace(NAME, "127.0.0.1"))
            assert bare.is_redirect
            assert bare.headers["location"] in {f"{url}/", "/pilothouse/"}
        headers = {"x-api-key": fronted.program.key, "x-pad": "y" * 30_000}
        async with connect(
            url.replace("https", "wss") + "/ws", host="127.0.0.1", port=int(url.split(":")[2].split("/")[0]),
            ssl=fronted.authority.client(), additional_headers=headers,
        ) as ws:  # fmt: skip
            await ws.send('{"type": "ping"}')
            assert json.loads(await ws.recv())["type"] == "pong"


async def test_a_call_that_takes_longer_than_the_proxy_waits(fronted: Fronted) -> None:
    """The job says nothing meanwhile; what keeps the connection is ours."""
    wish = {"agent": "echo", "prompt": f"sleep {PATIENCE_S + 4}\nsay done"}

    async def call(url: str, accept: str) -> str:
        async with client(fronted, url) as http:
            answer = await http.post("/invoke", json=wish, headers={"accept": accept}, timeout=60)
            assert answer.status_code == 200
            return answer.text

    ways = fronted.ways.values()
    documents = asyncio.gather(*(call(url, "application/json") for url in ways))
    streams = asyncio.gather(*(call(url, "text/event-stream") for url in ways))
    for text in await documents:
        assert text.startswith(" ")
        output = json.loads(text)["output"]
        assert (output["success"], output["result"]) == (True, "done")
        assert output["metadata"]["duration_ms"] > PATIENCE_S * 1000
    for text in await streams:
        last = json.loads(text.rstrip().rpartition("data: ")[2])
        assert (last["type"], last["outcome"]) == ("complete", "succeeded")


async def test_what_a_client_says_of_itself_is_overwritten(fronted: Fronted) -> None:
    """Its address is where the proxy saw it, in the log too, whatever headers it sends; nor does it change its name."""
    forged = {
        "x-forwarded-for": "6.6.6.6", "x-forwarded-host": "evil.example", "x-forwarded-proto": "http",
        "forwarded": "for=6.6.6.6;host=evil.example;proto=http", "x-real-ip": "6.6.6.6",
    }  # fmt: skip
    for number, url in enumerate(fronted.ways.values(), start=1):
        async with client(fronted, url, local_address="127.0.0.5") as http:
            made = (await http.post("/api/tickets", headers=forged)).json()
            assert made["url"] == f"{url}/#ticket={made['ticket']}"
            line = await fronted.line("127.0.0.5", "/pilothouse/api/tickets", number)
            assert line["status"] == 201
            assert line["principal"].startswith("key:")
            foreign = await http.get("/api/me", headers={"host": "evil.example"})
            assert foreign.status_code == 421 or foreign.content == b"", "Caddy knows no such site"
    # Without the proxy: from this machine, which is a trusted one, a header counts; its own host must be ours still.
    async with httpx.AsyncClient(base_url=fronted.program.url, headers={"x-api-key": fronted.program.key}) as http:
        assert (await http.get("/api/me", headers={"x-forwarded-host": "evil.example"})).status_code == 421
        assert (await http.get("/api/me", headers={"host": NAME})).status_code == 200
    said = fronted.program.log.read_text()
    assert fronted.program.key not in said
    assert made["ticket"] not in said


async def test_the_command_line_below_a_path(fronted: Fronted) -> None:
    kept = dict(fronted.program.env)
    for url in fronted.ways.values():
        local = url.replace(NAME, "localhost")
        fronted.program.env |= {
            "PILOTHOUSE_URL": local + "/", "PILOTHOUSE_API_KEY": fronted.program.key,
            "SSL_CERT_FILE": str(fronted.roots),
        }  # fmt: skip
        try:
            status, out, err = await fronted.program.cli("run", "--agent", "echo", "say through the front")
            assert (status, "through the front" in out) == (0, True), err
            status, out, err = await fronted.program.cli("ticket")
            assert f"{local}/#ticket=" in out, (out, err)
        finally:
            fronted.program.env = dict(kept)
    status, out, err = await fronted.program.cli("ticket")  # this machine's own way, past the proxy
    assert re.search(r"http://127\.0\.0\.1:\d+/pilothouse/#ticket=", out), (out, err)


def listen(page: Page, troubles: list[str], asked: list[str]) -> None:
    """What its console complains about, and every address it asks for."""
    page.on("console", lambda m: troubles.append(m.text) if m.type == "error" else None)
    page.on("request", lambda r: asked.append(r.url))
    page.on("websocket", lambda w: asked.append(w.url))


@pytest.mark.skipif(CHROMIUM is None, reason="needs package chromium")
@pytest.mark.skipif(not STATIC.exists(), reason="needs the built page: run `make setup`")
async def test_the_page_below_a_path_by_tls(fronted: Fronted) -> None:
    """Signed in, a job followed live, files listed, signed out: the same page as everywhere, built once."""
    async with async_playwright() as playwright:
        flags = [*FLAGS, f"--host-resolver-rules=MAP {NAME} 127.0.0.1"]
        chromium = await playwright.chromium.launch(executable_path=CHROMIUM, args=flags)
        for url in fronted.ways.values():
            async with client(fronted, url) as http:
                link = (await http.post("/api/tickets")).json()["url"]
            context = await chromium.new_context(ignore_https_errors=True)
            page = await context.new_page()
            page.set_default_timeout(WAIT)
            troubles: list[str] = []
            asked: list[str] = []
            listen(page, troubles, asked)
            await page.goto(link)
            await expect(page.get_by_test_id("composer")).to_be_visible(timeout=WAIT)
            cookies = await context.cookies()
            assert [(c["path"], c["secure"], c["httpOnly"]) for c in cookies] == [("/pilothouse/", True, True)]
            await page.get_by_test_id("composer").fill("demo: say below a path")
            await page.get_by_test_id("send").click()
            await expect(page.get_by_test_id("message-text").last).to_contain_text("below a path", timeout=WAIT)
            await expect(page.get_by_test_id("job-end").last).to_be_visible(timeout=WAIT)
            assert troubles == []
            assert any(u.startswith("wss://") for u in asked)
            outside = [u for u in asked if not u.split("://")[1].startswith(url.split("://")[1] + "/")]
            assert outside == [], "everything is asked for below the path"
            await context.close()
        await chromium.close()
