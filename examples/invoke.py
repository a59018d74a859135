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
WAIT_MAX_S = 600.0
"""Who is told to come back later than that, as after the last job of a day, does not wait for it."""
SILENCE_S = 60.0
"""The server says something at least every 15 s."""


def why(body: bytes) -> str:
    """What a refusal says; a proxy between may not say it as JSON."""
    try:
        return str(json.loads(body)["detail"])
    except (ValueError, KeyError, TypeError):
        return body.decode(errors="replace")[:500]


def ask(wish: dict[str, Any], **headers: str) -> http.client.HTTPResponse:
    """The same `wish` again is about the same job."""
    known = {"x-api-key": os.environ["PILOTHOUSE_API_KEY"], "content-type": "application/json"}
    url = os.environ["PILOTHOUSE_URL"].rstrip("/") + "/invoke"
    request = urllib.request.Request(url, json.dumps(wish).encode(), known | headers)
    answer: http.client.HTTPResponse = urllib.request.urlopen(request, timeout=SILENCE_S)
    return answer


def events(wish: dict[str, Any], last: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """The job's events after `last`, each with its number; a gap has none: `from` and `to` are no longer kept."""
    number = ""
    with ask(wish, accept="text/event-stream", **({"last-event-id": last} if last else {})) as answer:
        for line in answer:
            word, _, rest = line.decode().rstrip("\n").partition(": ")
            if word == "id":
                number = rest
            elif word == "data":
                yield number, json.loads(rest)
                number = ""


def end(wish: dict[str, Any]) -> bool:
    """How the job ended, for whom its last events are no longer there."""
    with ask(wish) as answer:
        output = json.load(answer)["output"]
    print(output["result"])
    return bool(output["success"])


def run(prompt: str) -> bool:
    wish = {"prompt": prompt, "permission_mode": "acceptAll", "job_id": str(uuid.uuid4())}
    last, tries, gap = "", 0, False
    while True:
        try:
            for number, event in events(wish, last):
                tries, gap = 0, not number
                if gap:
                    last = str(event["to"])
                    print(f"\n(events {event['from']} to {last} are no longer kept)", file=sys.stderr)
                    continue
                last = number
                if event["type"] == "stream":
                    print(event["content"], end="", flush=True)
                elif event["type"] == "tool_use":
                    print(f"\n[{event['tool']}]", flush=True)
                elif event["type"] == "complete":
                    print()
                    return bool(event["outcome"] == "succeeded")
            if gap:
                return end(wish)
            raise ConnectionError("the stream ended before the job did")
        except urllib.error.HTTPError as error:
            said = error.headers.get("retry-after") or ""
            wait = float(said) if said.isdigit() else WAIT_S  # a proxy between may say a date
            if error.code not in {429, 503} or wait > WAIT_MAX_S:
                raise SystemExit(f"{error.code}: {why(error.read())}") from None
        except (OSError, http.client.HTTPException) as error:
            print(f"\n({error}; again)", file=sys.stderr)
            wait = WAIT_S
        tries += 1
        if tries > AGAIN:
            raise SystemExit("gave up")
        time.sleep(wait)


if __name__ == "__main__":
    for name in ("PILOTHOUSE_URL", "PILOTHOUSE_API_KEY"):
        if not os.environ.get(name):
            sys.exit(f"{name} is not set.")
    sys.exit(0 if run(" ".join(sys.argv[1:])) else 1)
