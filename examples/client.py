"""One prompt from Python: what the agent writes as it comes, a question to you where it must ask, the files at the end.

    PILOTHOUSE_API_KEY=$(pilothouse keys create --plain) python3 examples/client.py "Write a small program and run it"

`PILOTHOUSE_URL` is where the server is, http://127.0.0.1:8420 if nothing is said.
"""

from __future__ import annotations

import asyncio
import os
import sys

from pilothouse.client import AlreadyResolved, Client, ClientError, Gap, events


async def run(prompt: str) -> int:
    url = os.environ.get("PILOTHOUSE_URL", "http://127.0.0.1:8420")
    async with Client(url, os.environ["PILOTHOUSE_API_KEY"]) as client:
        session = await client.sessions.make(title=prompt.partition("\n")[0][:80])
        job = await client.jobs.submit(session.id, prompt, max_cost_usd=1)
        async for event in client.jobs.follow(job.id):
            match event:
                case events.Stream():
                    sys.stdout.write(event.content)
                    sys.stdout.flush()
                case events.ApprovalRequired():
                    await decide(client, event.approval_id)
                case Gap():
                    print(f"(events {event.start} to {event.end} are no longer kept)")
                case events.Complete():
                    print(f"\n{event.outcome}, {event.num_turns} turns, ${event.total_cost:.2f}")
        for entry in (await client.files.listing(session.id)).entries:
            print(f"{entry.size:>10}  {entry.name}")
        return 0 if (await client.jobs.get(job.id)).outcome == "succeeded" else 1


async def decide(client: Client, id: str) -> None:
    """The whole input is fetched: an event may have been cut."""
    approval = await client.approvals.get(id)
    print(f"\n{approval.tool} {approval.input}")
    typed = await asyncio.to_thread(input, "approve? [y/n] ")
    try:
        await client.approvals.decide(approval, typed.strip().lower() == "y")
    except AlreadyResolved as first:
        print(f"{first.outcome} by {first.by}, before you")


if __name__ == "__main__":
    try:
        sys.exit(asyncio.run(run(sys.argv[1])))
    except ClientError as error:
        sys.exit(str(error))
