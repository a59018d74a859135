"""docs/terminals.md as it stands: its certificate, its settings, its program, and its ways to sign."""

from __future__ import annotations

import asyncio
import os
import re
import shutil
import ssl
import subprocess
import sys
import time
import tomllib
from pathlib import Path

import pytest

from pilothouse.core.access import SCOPES
from pilothouse.web.certificate import load
from pilothouse.web.guard import LOOPBACK, Trust
from tests.issuer import FakeIssuer
from tests.web.serving import serving

PAGE = (Path(__file__).parents[2] / "docs" / "terminals.md").read_text()
BLOCKS = re.findall(r"^```(\w*)\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
[TABLE] = [text for kind, text in BLOCKS if kind == "toml"]
[PROGRAM] = [text for kind, text in BLOCKS if kind == "python"]
MADE, COMES, RUN = [text for kind, text in BLOCKS if kind == ""]
AUTH = re.findall(r"^\| `(auth=.*?)`", PAGE, re.MULTILINE)
SERVER = tomllib.loads(TABLE)["server"]
ARGUMENTS = 'shell_id="build"'

pytest.importorskip("bedrock_agentcore", reason="needs package bedrock-agentcore")
needs_openssl = pytest.mark.skipif(shutil.which("openssl") is None, reason="needs openssl")


def _namespaces() -> bool:
    if shutil.which("unshare") is None:
        return False
    words = ["unshare", "--map-root-user", "--mount", "mount", "--bind", "/etc/hosts", "/etc/hosts"]
    return subprocess.run(words, capture_output=True, check=False).returncode == 0


def _made(folder: Path) -> tuple[Path, Path]:
    """What the settings name, made by the page's own command."""
    subprocess.run(["sh", "-ec", MADE], cwd=folder, check=True, capture_output=True)
    return folder / Path(SERVER["tls_cert"]).name, folder / Path(SERVER["tls_key"]).name


def test_the_program_is_run_by_the_name_that_it_has() -> None:
    assert "`shell.py`:" in PAGE
    assert "exec python3 shell.py'" in RUN
    assert "pilothouse keys create --sigv4" in COMES
    assert PROGRAM.count(ARGUMENTS) == 1
    assert [way.partition("(")[0] for way in AUTH] == ['auth="sigv4"', "auth=PresignedAuth", "auth=OAuthAuth"]


@needs_openssl
def test_the_certificate_stands_before_the_strictest_client(tmp_path: Path) -> None:
    """Python 3.13 looks at what an authority has to say of itself."""
    certificate, key = _made(tmp_path)
    known, mine = ssl.create_default_context(cafile=str(certificate)), ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    known.verify_flags |= ssl.VERIFY_X509_STRICT
    mine.load_cert_chain(certificate, key)
    for name in SERVER["hosts"]:
        up, down = ssl.MemoryBIO(), ssl.MemoryBIO()
        client = known.wrap_bio(down, up, server_hostname=name)
        server = mine.wrap_bio(up, down, server_side=True)
        for side in (client, server):
            with pytest.raises(ssl.SSLWantReadError):
                side.do_handshake()
        client.do_handshake()
        server.do_handshake()


@needs_openssl
@pytest.mark.parametrize("auth", AUTH)
async def test_the_program_prints_what_the_page_says(tmp_path: Path, auth: str) -> None:
    if not _namespaces():
        pytest.skip("needs a user and a mount namespace")
    house, now = FakeIssuer(), int(time.time())
    house.issuer = house.issuer.__class__(
        **{
            **{name: getattr(house.issuer, name) for name in house.issuer.__dataclass_fields__},
            "default_role": "operator",
        }
    )
    trust = Trust(hosts=LOOPBACK | set(SERVER["hosts"]), secure=True)
    imports = "from bedrock_agentcore.runtime.shell import OAuthAuth, PresignedAuth\n"
    token = f"TOKEN = {house.token(iat=now, exp=now + 600)!r}\n"
    (tmp_path / "shell.py").write_text(imports + token + PROGRAM.replace(ARGUMENTS, f"{ARGUMENTS}, {auth}"))
    async with serving(tls=load(*_made(tmp_path)), trust=trust, houses=[house]) as served:
        record, secret = await served.platform.pairs.create("shells", SCOPES, account="local")
        env = {
            "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]),
            "HOME": str(tmp_path),
            "PYTHONPATH": os.pathsep.join(p for p in sys.path if p),
            "AWS_ACCESS_KEY_ID": record.id,
            "AWS_SECRET_ACCESS_KEY": secret.secret_access_key,
            "AWS_EC2_METADATA_DISABLED": "true",
        }
        words = ["sh", "-ec", RUN.replace(":8420", f":{served.port}")]
        program = await asyncio.create_subprocess_exec(*words, cwd=tmp_path, env=env, stdout=-1, stderr=-1)
        try:
            out, err = await asyncio.wait_for(program.communicate(), 60)
        finally:
            if program.returncode is None:
                program.kill()
                await program.wait()
    lines = out.decode().splitlines()
    assert "42" in lines, err.decode()[-3000:]
    assert lines[-1] == "exit 3"
