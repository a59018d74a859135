"""A program on AWS's own client, unmodified. It says where it is on standard output, and goes on when told a line.

python -m tests.web.agentcore_client sigv4|presigned|oauth TOKEN
"""

from __future__ import annotations

import asyncio
import sys
from typing import Any

from bedrock_agentcore.runtime import AgentCoreRuntimeClient
from bedrock_agentcore.runtime.shell import OAuthAuth, PresignedAuth, ReconnectConfig, ShellChannel

ARN = "arn:aws:bedrock-agentcore:us-west-2:123456789012:runtime/my_agent-AbCdEf1234"


def say(*words: object) -> None:
    sys.stdout.write(" ".join(map(str, words)) + "\n")
    sys.stdout.flush()


async def see(shell: Any, wanted: str) -> None:
    got = ""
    async for frame in shell:
        if frame.channel == ShellChannel.STDOUT:
            got += frame.text
            if wanted in got:
                return
    raise SystemExit(f"{wanted!r} did not come: {got!r}, kicked {shell.kicked}")


async def main(mode: str, token: str) -> None:
    client = AgentCoreRuntimeClient(region="us-west-2")
    auth: Any = {"sigv4": "sigv4", "presigned": PresignedAuth(expires=60), "oauth": OAuthAuth(bearer_token=token)}[mode]
    session = f"of-the-{mode}-client-{'0' * 33}"
    back = asyncio.Event()

    async def returned() -> None:
        back.set()

    again = ReconnectConfig(max_retries=5, on_reconnect=returned)
    async with client.open_shell(ARN, session_id=session, shell_id="build", auth=auth, reconnect_config=again) as shell:
        await shell.resize(90, 30)
        await shell.send("x=kept; stty size\n")
        await see(shell, "30 90")
        say("ready")
        following = asyncio.create_task(see(shell, "kept-kept"))
        await asyncio.wait_for(back.wait(), 20)
        await shell.send("echo $x-$x\n")
        await following
        say("returned")
        async with client.open_shell(ARN, session_id=session, shell_id="build", auth=auth) as other:
            await other.send("echo o''ther\n")
            await see(other, "other")
            async for _ in shell:
                pass
            say("kicked", shell.kicked)
            await other.send("exit 7\n")
            async for _ in other:
                pass
            say("exit", other.exit_code)


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
