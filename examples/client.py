"""One prompt from Python: what the agent writes as it comes, a question to you where it must ask, the files at the end.

    export PILOTHOUSE_API_KEY=$(.venv/bin/pilothouse keys create --plain)
    .venv/bin/python examples/client.py "Write a small program and run it"

It needs the Python that has the client: `.venv/bin/python` after `make run`, or yours after `pip install .`.
`PILOTHOUSE_URL` is where the server is, http://127.0.0.1:8420 if nothing is said.
"""

from __future__ import annotations

import asyncio
import os
import sys

from pilothouse.client import AlreadyResolved, Client, ClientError, Gap, events


async def run(prompt: str, key: str) -> int:
    url = os.environ.get("PILOTHOUSE_URL", "http://127.0.0.1:8420")
    async with Client(url, key) as client:
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
    try:
        typed = await asyncio.to_thread(input, "approve? [y/n] ")
    except EOFError:
        sys.exit(f"\nNobody is here to answer. The job waits: `pilothouse approve {id}`, or `deny`.")
    try:
        await client.approvals.decide(approval, typed.strip().lower() == "y")
    except AlreadyResolved as first:
        print(f"{first.outcome} by {first.by}, before you")


if __name__ == "__main__":
    if not "".join(sys.argv[1:]).strip():
        sys.exit("Say what is to be done: examples/client.py PROMPT")
    if not os.environ.get("PILOTHOUSE_API_KEY"):
        sys.exit("PILOTHOUSE_API_KEY is not set. `.venv/bin/pilothouse keys create --plain` prints a key.")
    try:
        sys.exit(asyncio.run(run(" ".join(sys.argv[1:]), os.environ["PILOTHOUSE_API_KEY"])))
    except ClientError as error:
        sys.exit(str(error))
