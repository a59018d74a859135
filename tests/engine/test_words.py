"""Who says the same word waits; who says another does not."""

from __future__ import annotations

import asyncio

import pytest

from pilothouse.engine.words import Words


async def test_the_same_word_one_after_another_and_other_words_meanwhile() -> None:
    words, seen, free = Words(), list[str](), asyncio.Event()

    async def say(name: str, *said: str, wait: bool = False) -> None:
        async with words.turn(*said):
            seen.append(f"{name} in")
            if wait:
                await free.wait()
            seen.append(f"{name} out")

    first = asyncio.create_task(say("first", "a", "b", wait=True))
    await asyncio.sleep(0)
    second, third = asyncio.create_task(say("second", "b", "a")), asyncio.create_task(say("third", "c"))
    await third
    assert seen == ["first in", "third in", "third out"]
    free.set()
    await asyncio.gather(first, second)
    assert seen[3:] == ["first out", "second in", "second out"]
    assert len(words) == 0


async def test_who_fails_or_leaves_keeps_nobody_waiting() -> None:
    words = Words()

    async def hold() -> None:
        async with words.turn("a"):
            await asyncio.sleep(60)

    holding = asyncio.create_task(hold())
    await asyncio.sleep(0)
    waiting = asyncio.create_task(hold())
    await asyncio.sleep(0)
    assert len(words) == 1
    for task in (waiting, holding):
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    assert len(words) == 0
    with pytest.raises(ZeroDivisionError):
        async with words.turn("a"):
            raise ZeroDivisionError
    async with asyncio.timeout(1), words.turn("a"):
        assert len(words) == 1
