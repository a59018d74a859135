"""AWS's own client for TypeScript, unmodified, at the door of the Shell API: each way to sign, returning, being kicked,
closing for good.

Its setting for another server takes any address, but presigned it goes to port 443, whatever was said.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import time
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest
import pytest_asyncio

from pilothouse.core.access import SCOPES
from pilothouse.web.certificate import load
from pilothouse.web.guard import LOOPBACK, Trust
from tests.certificates import Authority
from tests.conftest import MARK
from tests.issuer import FakeIssuer
from tests.web.apart import apart, possible
from tests.web.serving import Served, serving

ROOT = Path(__file__).parents[2]
MODULES = ROOT / "tests" / "clients" / "node_modules"
OWN_NODE = ROOT / ".make" / "node" / "bin" / "node"
NODE = str(OWN_NODE) if OWN_NODE.exists() else shutil.which("node")
NAME = "bedrock-agentcore.us-west-2.amazonaws.com"
MODES = ["sigv4", "presigned", "oauth"]
pytestmark = [
    pytest.mark.skipif(NODE is None, reason="needs node: run `make test`"),
    pytest.mark.skipif(not (MODULES / "bedrock-agentcore").exists(), reason="needs bedrock-agentcore: run `make test`"),
    pytest.mark.asyncio(loop_scope="module"),
]


@dataclass
class Place:
    served: Served
    house: FakeIssuer
    env: dict[str, str]
    modes: Sequence[str]
    words: list[str] = field(default_factory=list)
    """Before a program, to run it where it finds the server."""


@pytest_asyncio.fixture(scope="module", loop_scope="module", params=["hot", "plain"])
async def at_an_address(request: pytest.FixtureRequest) -> AsyncIterator[Place]:
    house = issuer()
    async with serving(hot=request.param == "hot", houses=[house]) as served:
        there = {"BEDROCK_AGENTCORE_DATA_PLANE_ENDPOINT": served.url}
        yield Place(served, house, await credentials(served) | there, ["sigv4", "oauth"])


@pytest_asyncio.fixture(scope="module", loop_scope="module", params=["hot", "plain"])
async def by_its_name(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Place]:
    if not possible("--net", "--mount"):
        pytest.skip("needs root and a network namespace")
    folder, authority, house = tmp_path_factory.mktemp("aws"), Authority.make(), issuer()
    pair = load(*authority.write(folder, NAME))
    trust = Trust(hosts=LOOPBACK | {NAME}, secure=True)
    async with (
        apart(folder, NAME) as there,
        serving(hot=request.param == "hot", tls=pair, trust=trust, houses=[house], listening=there.listening) as served,
    ):
        env = await credentials(served) | {"NODE_EXTRA_CA_CERTS": str(authority.save(folder / "ca.pem"))}
        yield Place(served, house, env, MODES, there.words)


def issuer() -> FakeIssuer:
    house = FakeIssuer()
    house.issuer = replace(house.issuer, default_role="operator")
    return house


async def credentials(served: Served) -> dict[str, str]:
    record, secret = await served.platform.pairs.create("test", SCOPES, account="local")
    return {
        **{name: os.environ[name] for name in ("PATH", MARK) if name in os.environ},
        "AWS_ACCESS_KEY_ID": record.id,
        "AWS_SECRET_ACCESS_KEY": secret.secret_access_key,
        "AWS_EC2_METADATA_DISABLED": "true",
    }


async def opens_returns_is_kicked_and_closes(place: Place) -> None:
    assert NODE is not None
    now = int(time.time())
    token = place.house.token(iat=now, exp=now + 600)
    program = str(Path(__file__).with_name("agentcore_client.mjs"))
    words = [*place.words, NODE, program, str(MODULES), token, *place.modes]
    client = await asyncio.create_subprocess_exec(
        *words, env=place.env, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    assert client.stdout is not None
    assert client.stderr is not None
    said: dict[str, list[str]] = {mode: [] for mode in place.modes}
    ready = 0
    try:
        async with asyncio.timeout(60):
            while line := (await client.stdout.readline()).decode().strip():
                mode, _, what = line.partition(" ")
                said[mode].append(what)
                ready += what.startswith("ready")
                if what.startswith("ready") and ready == len(said):
                    place.served.hub.all_away()
            assert await client.wait() == 0, (await client.stderr.read()).decode()[-3000:]
    finally:
        if client.returncode is None:
            client.kill()
            await client.wait()
    seen = ["ready false true", "returned true", "kicked true true", "exit 3", "closed false"]
    assert said == dict.fromkeys(place.modes, seen)


async def test_aws_s_typescript_client_at_an_address_of_ours(at_an_address: Place) -> None:
    await opens_returns_is_kicked_and_closes(at_an_address)


async def test_aws_s_typescript_client_at_aws_s_name(by_its_name: Place) -> None:
    await opens_returns_is_kicked_and_closes(by_its_name)
