"""AWS's own client for Python, unmodified, at the door of the Shell API: each way to sign, returning, being kicked.

It speaks TLS only, and to names of AWS only: in a mount namespace of its own such a name is this machine's.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import pytest_asyncio

from pilothouse.core.access import SCOPES
from pilothouse.web.certificate import load
from pilothouse.web.guard import LOOPBACK, Trust
from tests.certificates import Authority
from tests.issuer import FakeIssuer
from tests.web.serving import Served, serving

pytest.importorskip("bedrock_agentcore", reason="needs package bedrock-agentcore")
pytestmark = pytest.mark.asyncio(loop_scope="module")
ROOT = Path(__file__).parents[2]
NAME = "shells.us-west-2.api.aws"
IN_ITS_OWN = ["unshare", "--mount", "sh", "-c", 'mount --bind "$0" /etc/hosts && exec "$@"']


def _namespace() -> bool:
    if os.geteuid() != 0 or shutil.which("unshare") is None:
        return False
    return subprocess.run(["unshare", "--mount", "true"], capture_output=True, check=False).returncode == 0


@dataclass
class Place:
    served: Served
    house: FakeIssuer
    env: dict[str, str]
    hosts: Path


@pytest_asyncio.fixture(scope="module", loop_scope="module", params=["hot", "plain"])
async def place(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Place]:
    if not _namespace():
        pytest.skip("needs root and a mount namespace")
    folder, authority, house = tmp_path_factory.mktemp("aws"), Authority.make(), FakeIssuer()
    house.issuer = house.issuer.__class__(
        **{
            **{name: getattr(house.issuer, name) for name in house.issuer.__dataclass_fields__},
            "default_role": "operator",
        }
    )
    trust = Trust(hosts=LOOPBACK | {NAME}, secure=True)
    hosts = folder / "hosts"
    hosts.write_text(f"127.0.0.1 localhost {NAME}\n")
    pair = load(*authority.write(folder, NAME, "localhost", "127.0.0.1"))
    async with serving(hot=request.param == "hot", tls=pair, trust=trust, houses=[house]) as served:
        record, secret = await served.platform.pairs.create("test", SCOPES, account="local")
        env = {
            "PATH": os.environ["PATH"],
            "HOME": str(folder),
            "PYTHONPATH": os.pathsep.join(p for p in sys.path if p),
            "BEDROCK_AGENTCORE_DP_ENDPOINT": f"https://{NAME}:{served.port}",
            "SSL_CERT_FILE": str(authority.save(folder / "ca.pem")),
            "AWS_ACCESS_KEY_ID": record.id,
            "AWS_SECRET_ACCESS_KEY": secret.secret_access_key,
            "AWS_EC2_METADATA_DISABLED": "true",
        }
        yield Place(served, house, env, hosts)


@pytest.mark.parametrize("mode", ["sigv4", "presigned", "oauth"])
async def test_aws_s_python_client_opens_returns_is_kicked_and_hears_the_exit(place: Place, mode: str) -> None:
    now = int(time.time())
    token = place.house.token(iat=now, exp=now + 600)
    words = [*IN_ITS_OWN, str(place.hosts), sys.executable, "-m", "tests.web.agentcore_client", mode, token]
    client = await asyncio.create_subprocess_exec(
        *words, cwd=ROOT, env=place.env, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    assert client.stdout is not None
    assert client.stderr is not None
    said: list[str] = []
    try:
        async with asyncio.timeout(60):
            while line := (await client.stdout.readline()).decode().strip():
                said.append(line)
                if line == "ready":
                    place.served.hub.all_away()
            assert await client.wait() == 0, (await client.stderr.read()).decode()[-3000:]
    finally:
        if client.returncode is None:
            client.kill()
            await client.wait()
    assert said == ["ready", "returned", "kicked True", "exit 7"]
