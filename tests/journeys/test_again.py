"""Changes under an `Idempotency-Key` while the real server is killed: none is made twice, none that was told goes."""

from __future__ import annotations

import asyncio
import random

import httpx

from tests.journeys.program import installation

KILLS = 6
AT_ONCE = 12


async def test_kill_9_in_the_middle_of_changes_makes_none_twice() -> None:
    chance = random.Random(7)
    async with installation(PILOTHOUSE_AGENT="echo", PILOTHOUSE_RATE_PER_S="0") as (program, _):
        said: dict[str, str] = {}
        lost: set[str] = set()
        begun: set[str] = set()

        async def ask(key: str) -> None:
            headers = {"idempotency-key": key}
            try:
                async with program.http() as http:
                    answer = await http.post("/api/sessions", json={"title": key}, headers=headers)
            except httpx.TransportError:
                lost.add(key)
                return
            if answer.status_code == 409:  # it does not know: neither does it make another one
                assert answer.json()["reason"] == "begun", answer.text
                begun.add(key)
                lost.discard(key)
                return
            assert answer.status_code == 201, answer.text
            assert said.setdefault(key, answer.json()["id"]) == answer.json()["id"]
            lost.discard(key)

        for kill in range(KILLS):
            keys = [f"{kill}-{n}" for n in range(AT_ONCE)]
            asking = [asyncio.create_task(ask(key)) for key in keys]
            await asyncio.sleep(chance.uniform(0.005, 0.12))
            await program.kill()
            await asyncio.gather(*asking)
            await program.start()
            await asyncio.gather(*(ask(key) for key in [*keys, *keys]))
        assert not lost
        async with program.http() as http:
            made: dict[str, list[str]] = {}
            cursor: str | None = ""
            while cursor is not None:
                page = (await http.get("/api/sessions", params={"limit": 200, "cursor": cursor})).json()
                for item in page["items"]:
                    made.setdefault(item["title"], []).append(item["id"])
                cursor = page["next"]
        assert {key: ids for key, ids in made.items() if len(ids) > 1} == {}
        assert {key: [id] for key, id in said.items()}.items() <= made.items()
        assert len(said) > AT_ONCE
