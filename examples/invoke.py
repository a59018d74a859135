"""Runs a prompt to its end and prints what the agent says as it says it. Ends with 0 if the job succeeded.

    PILOTHOUSE_URL=http://127.0.0.1:8420 PILOTHOUSE_API_KEY=ph_... python examples/invoke.py "Fix the failing test"

Only the standard library. A connection that breaks is taken up where it broke: the job has a name of ours, so asking
again starts nothing, and `Last-Event-ID` says what has been read.
"""

from __future__ import annotations

import http.client
import json
import os
import sys
import time
import urllib.error
import urllib.request
import uuid
from collections.abc import Iterator
from typing import Any

AGAIN = 10
WAIT_S = 2.0
SILENCE_S = 60.0
"""The server says something at least every 15 s."""


def events(wish: dict[str, Any], last: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """The job's events after `last`, each with its number."""
    request = urllib.request.Request(
        os.environ["PILOTHOUSE_URL"] + "/invoke",
        json.dumps(wish).encode(),
        {
            "x-api-key": os.environ["PILOTHOUSE_API_KEY"],
            "content-type": "application/json",
            "accept": "text/event-stream",
            **({"last-event-id": last} if last else {}),
        },
    )
    with urllib.request.urlopen(request, timeout=SILENCE_S) as answer:
        number = ""
        for line in answer:
            word, _, rest = line.decode().rstrip("\n").partition(": ")
            if word == "id":
                number = rest
            elif word == "data" and number:
                yield number, json.loads(rest)


def run(prompt: str) -> bool:
    wish = {"prompt": prompt, "permission_mode": "acceptAll", "job_id": str(uuid.uuid4())}
    last, tries = "", 0
    while True:
        try:
            for number, event in events(wish, last):
                last, tries = number, 0
                if event["type"] == "stream":
                    print(event["content"], end="", flush=True)
                elif event["type"] == "tool_use":
                    print(f"\n[{event['tool']}]", flush=True)
                elif event["type"] == "complete":
                    print()
                    return bool(event["outcome"] == "succeeded")
            raise ConnectionError("the stream ended before the job did")
        except urllib.error.HTTPError as error:
            if error.code not in {429, 503}:
                raise SystemExit(f"{error.code}: {json.load(error).get('detail')}") from None
            wait = float(error.headers.get("retry-after") or WAIT_S)
        except (OSError, http.client.HTTPException) as error:
            print(f"\n({error}; again)", file=sys.stderr)
            wait = WAIT_S
        tries += 1
        if tries > AGAIN:
            raise SystemExit("gave up")
        time.sleep(wait)


if __name__ == "__main__":
    sys.exit(0 if run(" ".join(sys.argv[1:])) else 1)
